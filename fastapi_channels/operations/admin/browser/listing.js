/* The rooms with members, by name and by pages. */

import { make, newId, say, show } from "./basics.js";
import { ask } from "./api.js";
import { Table, button, card } from "./table.js";
import { count, hrefOfRoom } from "./words.js";

const PAGE = 50;

export class Rooms {
  every = 5000;
  #offset = 0;
  #soon = 0;

  constructor({ refreshNow }) {
    this.search = make("input", { type: "search", id: newId(), maxLength: 255, autocomplete: "off", spellcheck: false, className: "room-search" });
    this.search.addEventListener("input", () => {
      this.#offset = 0;
      clearTimeout(this.#soon);
      this.#soon = setTimeout(refreshNow, 200);
    });
    this.table = new Table([
      { key: "room", make: (room) => make("a", { href: hrefOfRoom(room), className: "name", textContent: room.name }) },
      { key: "scope", make: ({ scope }) => (scope ? make("code", { textContent: scope }) : []) },
      { key: "members", class: "figure", text: ({ members }) => count(members) },
    ], ({ scope, name, topics }) => JSON.stringify([scope, name, topics]), { empty: "noRooms", label: "rooms" });
    this.pager = new Pager(PAGE, (offset) => { this.#offset = offset; refreshNow(); });
    const label = say("label", "findRoom", {}, { htmlFor: this.search.id });
    this.element = make("div", { className: "parts" }, say("h1", "rooms"), make("div", { className: "field" }, label, this.search), card("", this.table.element, this.pager.element));
  }

  async refresh() {
    const asked = { search: this.search.value, limit: PAGE, offset: this.#offset };
    const page = await ask("rooms", { query: asked });
    if (asked.search !== this.search.value || asked.offset !== this.#offset) return; // another question is on its way
    this.table.show(page.items);
    this.pager.show(this.#offset, page.items.length, page.total, page.complete);
  }

  focus() { this.search.focus(); }
}

/* Leads through what is shown by pages. */
export class Pager {
  constructor(size, turn) {
    this.size = size;
    this.where = make("span", { className: "muted" });
    this.offset = 0;
    this.back = button("previous", () => turn(Math.max(0, this.offset - size)));
    this.on = button("next", () => turn(this.offset + size));
    this.element = make("div", { className: "pager", hidden: true }, this.back, this.where, this.on);
  }

  show(offset, shown, total, complete = true) {
    this.offset = offset;
    show(this.where, complete ? "ofAll" : "ofMany", { from: shown ? offset + 1 : 0, to: offset + shown, total });
    this.back.disabled = offset === 0;
    this.on.disabled = offset + shown >= total || shown === 0;
    this.element.hidden = offset === 0 && total <= this.size;
  }
}
