/* One room: who is in it, what passes, what was said, and something to say. */

import { make, say, show } from "./basics.js";
import { ask, pathOf } from "./api.js";
import { ban, disconnect, tellFault } from "./dialog.js";
import { Pager } from "./listing.js";
import { Passing } from "./passing.js";
import { Saying } from "./saying.js";
import { Table, button, card } from "./table.js";
import { hrefOfUser, moment } from "./words.js";

const PAGE = 50;
const MOST_DATA = 200; // characters of what a connection says of itself

export class Room {
  every = 5000;
  #offset = 0;

  constructor({ readOnly, forms, refreshNow }, scope, name, isFilter = false) {
    this.name = name;
    this.path = pathOf("rooms", name);
    const channels = forms.channels.filter((each) => each.scope === scope && each.topics === isFilter);
    // The rooms of the whole application are anybody's; others are named by a channel that has them.
    const isOwn = isFilter || scope !== "";
    const isUnknown = isOwn && channels.length === 0; // here: another process may have one
    this.where = { scope, topics: isFilter || undefined };
    this.table = new Table(memberColumns(readOnly, refreshNow), ({ id }) => id, { empty: "nobodyHere", label: "members" });
    this.pager = new Pager(PAGE, (offset) => { this.#offset = offset; refreshNow(); });
    this.count = say("p", "memberCount", { count: "…" }, { className: "muted" });
    const keeps = channels.find(({ history }) => history)?.name;
    this.passing = new Passing(this.path, this.where, keeps);
    const saying = readOnly || isUnknown ? [] : [card("publish", new Saying(this.path, isOwn, channels, forms.schemas).element)];
    const title = make("h1", { textContent: name });
    this.element = make(
      "div", { className: "parts" }, make("p", {}, make("a", { href: "#rooms", className: "back" }, say("span", "allRooms"))),
      make("div", { className: "title" }, title, ...(scope ? [make("code", { className: "mark", textContent: scope })] : []), this.count),
      ...(isUnknown ? [say("p", "noChannel", {}, { className: "note" })] : []),
      make("div", { className: "two" }, make("div", { className: "parts" }, card("members", this.table.element, this.pager.element), ...saying), card("messages", this.passing.element)),
    );
  }

  async refresh() {
    const page = await ask(`${this.path}/members`, { query: { ...this.where, limit: PAGE, offset: this.#offset } });
    this.table.show(page.items);
    this.pager.show(this.#offset, page.items.length, page.total);
    show(this.count, "memberCount", { count: page.total });
  }

  leave() { this.passing.stop(); }
}

/* Who is not known by a name is banned by where it comes from. */
async function banAddressOf(id) {
  try {
    const { address } = await ask(pathOf("connections", id));
    return await ban({ address });
  } catch (error) {
    tellFault(error);
    return false;
  }
}

/* A room that is a filter of topics. */
export class Filter extends Room {
  constructor(settings, scope, name) { super(settings, scope, name, true); }
}

function memberColumns(readOnly, refreshNow) {
  const acts = ({ id, user }) => [
    button("disconnect", async () => { if (await disconnect(`${pathOf("connections", id)}/disconnect`, id, "disconnect")) refreshNow(); }),
    user === null
      ? button("banAddress", async () => { if (await banAddressOf(id)) refreshNow(); })
      : button("ban", async () => { if (await ban({ user })) refreshNow(); }),
  ];
  return [
    { key: "user", make: ({ user }) => (user === null ? say("span", "noUser", {}, { className: "muted" }) : make("a", { href: hrefOfUser(user), className: "name", textContent: user })) },
    { key: "connection", make: ({ id }) => make("code", { textContent: id }) },
    { key: "since", optional: true, text: ({ since }) => (since === null ? "" : moment(since)) },
    { key: "saysOfItself", class: "data", optional: true, text: ({ data }) => (data === null ? "" : JSON.stringify(data).slice(0, MOST_DATA)) },
    ...(readOnly ? [] : [{ key: "", class: "acts", make: acts }]),
  ];
}
