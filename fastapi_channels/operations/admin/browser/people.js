/* A user: its connections, and what can be done with it. */

import { make, newId, say } from "./basics.js";
import { ask, pathOf } from "./api.js";
import { act, askFor, ban, disconnect } from "./dialog.js";
import { Table, button, card } from "./table.js";
import { hrefOfUser } from "./words.js";

/* Asks for the key of one. */
export class Users {
  every = 0;

  constructor() {
    this.key = make("input", { id: newId(), maxLength: 1024, autocomplete: "off", spellcheck: false, className: "user-key" });
    const form = make(
      "form", { className: "parts" }, make("div", { className: "field" }, say("label", "userKey", {}, { htmlFor: this.key.id }), this.key),
      make("div", { className: "bar" }, say("button", "show", {}, { type: "submit", className: "primary" })),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.key.value) location.hash = hrefOfUser(this.key.value);
    });
    this.element = make("div", { className: "parts" }, say("h1", "users"), card("", say("p", "userHint", {}, { className: "muted" }), form));
  }

  async refresh() {}

  focus() { this.key.focus(); }
}

export class User {
  every = 5000;

  constructor({ readOnly, refreshNow }, user) {
    this.path = pathOf("users", user);
    const close = ({ id }) => button("disconnect", async () => { if (await disconnect(`${pathOf("connections", id)}/disconnect`, id, "disconnect")) refreshNow(); });
    const banAddress = ({ address }) => (address ? [button("banAddress", async () => { if (await ban({ address })) refreshNow(); })] : []);
    this.table = new Table([
      { key: "connection", make: ({ id }) => make("code", { textContent: id }) },
      { key: "address", make: ({ address }) => make("code", { textContent: address }) },
      { key: "process", make: ({ process }) => make("code", { className: "muted", textContent: process }) },
      { key: "rooms", class: "data", text: ({ rooms }) => rooms.join(", ") },
      ...(readOnly ? [] : [{ key: "", class: "acts", make: (each) => [close(each), ...banAddress(each)] }]),
    ], ({ id }) => id, { empty: "noConnections", label: "connections" });
    const done = (work) => async () => { if (await work()) refreshNow(); };
    const acts = readOnly ? [] : [make(
      "div", { className: "bar" },
      button("disconnectAll", done(() => disconnect(`${this.path}/disconnect`, user, "disconnectAll"))),
      button("revoke", done(async () => (await askFor("revoke", user, [])) && act(`${this.path}/revoke`, { body: {} }, ["doneRevoke"]))),
      button("joinRoom", done(() => this.#move("join", user))),
      button("leaveRoom", done(() => this.#move("leave", user))),
      button("ban", done(() => ban({ user })), "primary small"),
    )];
    this.element = make(
      "div", { className: "parts" }, make("p", {}, make("a", { href: "#users", className: "back" }, say("span", "users"))),
      make("div", { className: "title" }, make("h1", { textContent: user })), ...acts, card("connections", this.table.element),
    );
  }

  async refresh() {
    this.table.show(await ask(`${this.path}/connections`));
  }

  async #move(way, user) {
    const given = await askFor(way === "join" ? "joinRoom" : "leaveRoom", user, [
      { name: "room", kind: "text", label: "room", most: 255, required: true },
      { name: "channel", kind: "text", label: "channelOrNone", most: 255 },
    ]);
    return given !== null && act(`${pathOf("rooms", given.room)}/${way}`, { query: { channel: given.channel }, body: { user } });
  }
}
