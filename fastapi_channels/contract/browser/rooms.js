/* Which rooms a connection is in, what was said of one that it is not in, and who is there. */

import { make, retranslate, say } from "./basics.js";
import { errorParts } from "./calls.js";

export class Rooms {
  #socket = null;
  #find;

  /* `root` has the parts: the form that joins, the lists, and the choice of a room. */
  constructor(root) {
    this.#find = (selector) => root.querySelector(selector);
    this.#find(".join").addEventListener("submit", (event) => {
      event.preventDefault();
      const room = this.#find(".join-room").value.trim();
      if (!room) return;
      this.#find(".join-fault").hidden = true;
      this.#socket.enter("join", room);
    });
  }

  /* The room that is chosen. */
  get chosen() { return this.#find(".room").value; }

  /* Shows those of `socket` from now on. */
  show(socket) {
    this.#socket = socket;
    const { channel } = socket;
    this.#find(".rooms").hidden = !channel.envelope.many_rooms;
    this.#find(".room-field").hidden = !channel.envelope.many_rooms;
    this.#find(".join-room").placeholder = channel.patterns.join("   ");
    socket.addEventListener("present", () => this.#present());
    this.draw();
  }

  draw() {
    const rooms = [...this.#socket.rooms];
    this.#find(".joined").replaceChildren(...rooms.map((room) => {
      const button = make("button", { type: "button", className: "link", attributes: { "data-text-label": "leave" } }, "✕");
      button.addEventListener("click", () => this.#socket.enter("leave", room));
      return make("li", { className: "chip" }, make("code", { textContent: room }), " ", button);
    }));
    retranslate(this.#find(".joined"));
    const select = this.#find(".room");
    const chosen = select.value;
    select.replaceChildren(...rooms.map((room) => new Option(room, room)));
    if (rooms.includes(chosen)) select.value = chosen;
  }

  /* Chooses a room of those that `pattern` describes, where the chosen one is of another kind. */
  suit(pattern) {
    const suits = (room) => !pattern || new RegExp(pattern).test(room);
    if (!suits(this.chosen)) this.#find(".room").value = [...this.#socket.rooms].find(suits) ?? this.chosen;
  }

  /* Says why a room was not joined, or has ended: `frame` is the error, or what ended it. */
  blame(room, frame) {
    const { close_code: code, reason } = frame;
    const said = code === undefined
      ? errorParts(frame, this.#socket.names)
      : [say("p", "roomEnded", { code, reason: reason ?? "" })];
    const place = this.#find(".join-fault");
    place.replaceChildren(make("p", {}, make("code", { textContent: room })), ...said);
    place.hidden = false;
  }

  /* Lists who is there: people, each with the number of their devices. */
  #present() {
    const { present, names } = this.#socket;
    const list = this.#find(".present");
    const chips = [...present].flatMap(([room, { devices }]) => {
      const people = new Map();
      for (const { id, user, data } of devices.values()) {
        const person = people.get(user ?? id) ?? { name: user ?? id, said: [] };
        person.said.push(data);
        people.set(user ?? id, person);
      }
      return [...people.values()].map(({ name, said: [...data] }) => make(
        "li",
        { className: "chip", title: data.map((each) => JSON.stringify(each)).join("\n") },
        make("code", { textContent: name }),
        data.length > 1 ? ` ×${data.length}` : "",
        names.many_rooms ? ` · ${room}` : "",
      ));
    });
    list.hidden = chips.length === 0;
    list.replaceChildren(...chips);
  }
}
