/* Who may not come, and until when. */

import { make, say } from "./basics.js";
import { ask } from "./api.js";
import { act, askFor, ban } from "./dialog.js";
import { Table, button, card } from "./table.js";
import { hrefOfUser, moment } from "./words.js";

export class Bans {
  every = 10000;

  constructor({ readOnly, refreshNow }) {
    const end = ({ user, address }) => button("endBan", async () => {
      const asked = await askFor("endBan", user ?? address, []);
      if (asked && (await act("bans", { method: "DELETE", query: user === null ? { address } : { user } }))) refreshNow();
    });
    this.table = new Table([
      { key: "banned", make: ({ user, address }) => (user === null ? make("code", { textContent: address }) : make("a", { href: hrefOfUser(user), className: "name", textContent: user })) },
      { key: "until", text: ({ until }) => moment(until) },
      { key: "banReason", class: "data", text: ({ reason }) => reason },
      { key: "by", class: "data", text: ({ by }) => by },
      ...(readOnly ? [] : [{ key: "", class: "acts", make: end }]),
    ], ({ user, address }) => JSON.stringify([user, address]), { empty: "noBans", label: "bans" });
    const add = button("ban", async () => { if (await ban()) refreshNow(); }, "primary small");
    this.element = make("div", { className: "parts" }, make("div", { className: "title" }, say("h1", "bans"), ...(readOnly ? [] : [add])), card("", this.table.element));
  }

  async refresh() {
    this.table.show(await ask("bans"));
  }
}
