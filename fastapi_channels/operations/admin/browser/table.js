/* A table whose rows stay where they are while their figures change: a button that is focused stays so. */

import { make, say, show } from "./basics.js";

export class Table {
  #rows = new Map();
  #body = make("tbody");

  /* `columns`: each has the `key` of its head, and either `text(item)` or `make(item)`, which is called once for a
     row; `class` of its cells; `optional`, where it is not shown while all its texts are empty. `keyOf(item)` tells
     rows apart. `empty` is the key of what is said of no rows. */
  constructor(columns, keyOf, { empty, label }) {
    this.columns = columns;
    this.keyOf = keyOf;
    const head = this.head = make("tr", {}, ...columns.map(({ key, class: name = "" }) => make("th", { className: name, scope: "col" }, key ? say("span", key) : "")));
    this.table = make("table", { attributes: { "data-text-label": label } }, make("thead", {}, head), this.#body);
    this.nothing = say("p", empty, {}, { className: "muted", hidden: true });
    this.element = make("div", { className: "table" }, this.table, this.nothing);
  }

  show(items) {
    const before = this.#rows;
    this.#rows = new Map(items.map((item) => {
      const key = this.keyOf(item);
      return [key, before.get(key) ?? this.#row(item)];
    }));
    for (const [key, { row }] of before) if (!this.#rows.has(key)) row.remove();
    items.forEach((item, index) => {
      const { row, cells } = this.#rows.get(this.keyOf(item));
      this.columns.forEach((column, place) => column.text && this.#fill(cells[place], column.text(item)));
      for (const column of this.columns) column.mark?.(row, item);
      if (this.#body.children[index] !== row) this.#body.insertBefore(row, this.#body.children[index] ?? null);
    });
    this.columns.forEach(({ optional, text }, place) => {
      if (!optional) return;
      const isEmpty = items.every((item) => text(item) === "");
      for (const row of [this.head, ...this.#body.children]) row.children[place].hidden = isEmpty;
    });
    this.table.hidden = items.length === 0;
    this.nothing.hidden = items.length > 0;
  }

  #row(item) {
    const cells = this.columns.map((column) => make("span", { className: "cell" }, ...(column.make ? [column.make(item)].flat() : [])));
    const row = make("tr", {}, ...this.columns.map(({ key, class: name = "" }, place) => make(
      "td", { className: name }, ...(key ? [say("span", key, {}, { className: "cell-head" })] : []), cells[place],
    )));
    return { row, cells };
  }

  /* `said` is a text, or `[key, values]` of one that has translations. */
  #fill(cell, said) {
    if (Array.isArray(said)) return show(cell, ...said);
    delete cell.dataset.text;
    if (cell.textContent !== said) cell.textContent = said;
  }
}

export const button = (key, act, className = "quiet small") => {
  const made = say("button", key, {}, { type: "button", className });
  made.addEventListener("click", act);
  return made;
};

export const card = (title, ...content) => make("section", { className: "panel-card" }, ...(title ? [say("h2", title)] : []), ...content);
