/* One connection of the console: how it is opened, what is sent, what comes. */

import { copy, fromTemplate, make, newId, pretty, retranslate, say, show, showPlain, translate } from "./basics.js";
import { CallList, askedCard } from "./calls.js";
import { editorFor } from "./composites.js";
import { ConnectForm } from "./connect.js";
import { FrameLog } from "./frames.js";
import { snippet } from "./snippets.js";
import { Socket, frameOf } from "./socket.js";

const RAW = { id: "", name: "", kind: "raw", payload: null, answers: [] };
const STATES = { connecting: "connecting", open: "connected", closed: "disconnected" };

export class ConnectionColumn extends EventTarget {
  element = fromTemplate("connection-template");
  socket = null;
  #contract;
  #operation = RAW;
  #editor = null;
  #asText = false;
  #find = (selector) => this.element.querySelector(selector);

  /* Dispatches "change" when its name or state is another, and "end". */
  constructor(contract) {
    super();
    this.#contract = contract;
    this.form = new ConnectForm(this.#find(".connect"), contract, (channel, target) => this.#open(channel, target));
    this.#listen();
    this.#label();
    retranslate(this.element);
  }

  get channel() { return this.socket?.channel ?? this.form.channel; }
  get state() { return this.socket?.state ?? "new"; }
  get title() { return this.socket ? this.socket.target.path : translate("newConnection"); }

  /* Asks where to connect: to the channel `id`. */
  ask(id) {
    this.form.choose(id);
    this.form.focus();
  }

  /* Shows the form of an operation. */
  choose(id) {
    this.#find(".action").value = id;
    this.#chosen();
    this.element.querySelector(".fields input, .fields textarea, .fields select, .send")?.focus();
  }

  #listen() {
    const on = (selector, name, react) => this.#find(selector).addEventListener(name, react);
    on(".disconnect", "click", () => this.socket.close());
    on(".reconnect", "click", () => this.socket.open());
    on(".end", "click", () => {
      this.socket?.close();
      this.dispatchEvent(new Event("end"));
    });
    on(".action", "change", () => this.#chosen());
    on(".room", "change", () => this.#draw());
    on(".as-form", "click", () => this.#switch(false));
    on(".as-json", "click", () => this.#switch(true));
    on(".call", "submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    on(".join", "submit", (event) => {
      event.preventDefault();
      const input = this.#find(".join-room");
      if (input.value.trim()) this.socket.enter("join", input.value.trim());
    });
    on(".snippet-language", "change", () => this.#snippet());
    on(".snippet", "toggle", () => this.#snippet());
    on(".snippet-copy", "click", ({ currentTarget }) => copy(this.#find(".snippet-code").textContent, currentTarget));
    on(".call", "input", () => this.#find(".snippet").open && this.#snippet());
    tabs(this.#find(".tabs"));
  }

  /* Labels, errors and tabs refer to each other by ids: each column has its own. */
  #label() {
    for (const element of this.element.querySelectorAll("[data-id]")) {
      const id = newId();
      for (const [attribute, name] of [["for", "data-for"], ["aria-controls", "data-controls"], ["aria-labelledby", "data-labelledby"], ["aria-describedby", "data-describedby"]]) {
        for (const other of this.element.querySelectorAll(`[${name}="${element.dataset.id}"]`)) other.setAttribute(attribute, id);
      }
      element.id = id;
    }
  }

  #open(channel, target) {
    this.socket = new Socket(channel, target);
    this.#find(".connect").hidden = true;
    this.#find(".work").hidden = false;
    this.frames = new FrameLog(this.#find(".frames-panel"), this.#find(".frames-count"), channel.envelope);
    this.calls = new CallList(this.#find(".calls"));
    this.socket.addEventListener("state", () => this.#changed());
    this.socket.addEventListener("frame", ({ detail }) => this.frames.add(detail));
    this.socket.addEventListener("asked", ({ detail }) => this.#asked(detail));
    this.socket.addEventListener("rooms", () => this.#rooms());
    this.#offer(channel);
    this.#rooms();
    this.socket.open();
  }

  #offer(channel) {
    const actions = channel.operations.filter((each) => each.sent && each.kind === "action");
    const raw = new Option("", "");
    show(raw, "rawFrame");
    this.#find(".action").replaceChildren(...actions.map((each) => new Option(each.name, each.id)), raw);
    this.#find(".rooms").hidden = !channel.envelope.many_rooms;
    this.#find(".room-field").hidden = !channel.envelope.many_rooms;
    this.#find(".join-room").placeholder = channel.patterns.join("   ");
    this.#chosen();
  }

  #changed() {
    const { state, code, reason, protocol, target } = this.socket;
    this.element.dataset.state = state;
    show(this.#find(".state-text"), STATES[state]);
    showPlain(this.#find(".address"), target.path);
    this.#find(".disconnect").hidden = state === "closed";
    this.#find(".reconnect").hidden = state !== "closed";
    this.#find(".send").setAttribute("aria-disabled", String(state !== "open"));
    const closed = { code, reason: reason || translate(code === 1006 ? "closed1006" : "closedNoReason") };
    if (state === "open") this.frames.note(protocol ? "opened" : "openedPlain", { protocol });
    if (state === "closed") this.frames.note("closed", closed);
    const banner = this.#find(".banner");
    banner.hidden = state !== "closed";
    if (state === "closed") show(banner, "closed", closed);
    if (state !== "open") this.#find(".asked").replaceChildren();
    this.#rooms();
    this.dispatchEvent(new Event("change"));
  }

  #rooms() {
    const rooms = [...this.socket.rooms];
    this.#find(".joined").replaceChildren(...rooms.map((room) => {
      const button = make("button", { type: "button", className: "link", attributes: { "data-text-label": "leave" } }, "✕");
      button.addEventListener("click", () => this.socket.enter("leave", room));
      return make("li", { className: "chip" }, make("code", { textContent: room }), " ", button);
    }));
    retranslate(this.#find(".joined"));
    const select = this.#find(".room");
    const chosen = select.value;
    select.replaceChildren(...rooms.map((room) => new Option(room, room)));
    if (rooms.includes(chosen)) select.value = chosen;
    this.#suit();
  }

  /* Chooses a room that the operation is for, where the chosen one is of another kind. */
  #suit() {
    const select = this.#find(".room");
    const pattern = this.#operation.room?.pattern;
    const suits = (room) => !pattern || new RegExp(pattern).test(room);
    if (!suits(select.value)) select.value = [...this.socket.rooms].find(suits) ?? select.value;
    this.#draw();
  }

  #chosen() {
    const { operations } = this.socket.channel;
    const id = this.#find(".action").value;
    this.#operation = operations.find((each) => each.id === id) ?? RAW;
    const { kind, payload, examples = [] } = this.#operation;
    const about = { name: "", required: true, schemas: this.#contract.schemas, level: 0 };
    this.#editor = kind === "raw" ? null : editorFor(payload, about);
    if (examples.length) this.#editor?.write(this.#fieldsOf(examples[0]));
    this.#find(".fields").replaceChildren(...(this.#editor ? [this.#editor.element] : []));
    this.#find(".mode").hidden = kind === "raw";
    this.#find(".text").value = kind === "raw" ? this.#firstText() : "";
    this.#show(kind === "raw");
    this.#suit();
    retranslate(this.#find(".fields"));
  }

  #firstText() {
    const relays = !this.socket.channel.operations.some((each) => each.kind === "action");
    return relays ? "Hello" : "{}";
  }

  /* From the form to the text of the frame, or back. */
  #switch(asText) {
    if (asText === this.#asText) return;
    if (asText) this.#find(".text").value = pretty(JSON.parse(this.#frame(() => undefined)));
    else {
      try {
        const frame = JSON.parse(this.#find(".text").value);
        this.#editor.write(this.#fieldsOf(frame));
      } catch {
        show(this.#find(".text-fault"), "notJsonValue");
        return;
      }
    }
    this.#show(asText);
  }

  #fieldsOf(frame) {
    const { action, request_id: id, channel, payload, many_rooms: many } = this.socket.names;
    if (payload !== null) return frame[payload];
    const around = [action, id, ...(many ? [channel] : [])];
    return Object.fromEntries(Object.entries(frame).filter(([name]) => !around.includes(name)));
  }

  #show(asText) {
    this.#asText = asText;
    this.#find(".fields").hidden = asText;
    this.#find(".text-field").hidden = !asText;
    this.#find(".as-form").setAttribute("aria-pressed", String(!asText));
    this.#find(".as-json").setAttribute("aria-pressed", String(asText));
    showPlain(this.#find(".text-fault"), "");
    this.#draw();
  }

  #draw() {
    if (this.#find(".snippet").open) this.#snippet();
  }

  /* The text that would be sent; what the form cannot say is told to `fault`. */
  #frame(fault) {
    if (this.#asText) return this.#find(".text").value;
    const fields = this.#editor.read(fault);
    return JSON.stringify(frameOf(this.socket.channel, this.#operation, fields ?? {}, this.#find(".room").value));
  }

  #snippet() {
    const language = this.#find(".snippet-language").value;
    const frame = this.#frame(() => undefined);
    this.#find(".snippet-code").textContent = snippet(language, this.socket.target, frame);
  }

  #send() {
    if (this.socket.state !== "open") return;
    let isWrong = false;
    this.#editor?.complain("");
    const text = this.#frame((field, key) => { isWrong = true; field.refuse(key); });
    if (isWrong) return;
    if (this.#operation.kind === "raw") {
      this.socket.send(text);
      this.#find(".frames-tab").click();
      return;
    }
    const request = this.socket.request(this.#operation, text);
    this.#find(".calls-none").hidden = true;
    this.#find(".calls-tab").click();
    const editor = this.#editor;
    this.calls.add(request, {
      names: this.socket.names,
      cancel: (each) => this.socket.cancel(each),
      refused: (frame) => this.#blame(editor, frame),
    });
    if (this.#asText) this.#newId(text);
  }

  /* The next request from the text has another id: two at a time may not have one. */
  #newId(text) {
    const name = this.socket.names.request_id;
    const next = frameOf(this.socket.channel, this.#operation, {}, "")[name];
    try {
      const frame = JSON.parse(text);
      if (typeof frame[name] === "number") this.#find(".text").value = JSON.stringify({ ...frame, [name]: next }, null, 2);
    } catch { /* it was sent as it is, to see what the server says */ }
  }

  /* Shows what the server says of each field beside it. */
  #blame(editor, frame) {
    const faults = frame[this.socket.names.data];
    if (!editor || !Array.isArray(faults)) return;
    for (const { loc, msg } of faults) {
      if (Array.isArray(loc)) editor.find(loc)?.complain(String(msg ?? ""));
    }
    this.element.querySelector(".fields [aria-invalid=true]")?.focus();
  }

  #asked(call) {
    const { channel, names } = this.socket;
    const known = channel.operations.find((each) => each.kind === "call" && each.name === call.call);
    const card = askedCard(call, {
      names,
      about: known?.about ?? "",
      schema: known?.answers[0].schema ?? {},
      schemas: this.#contract.schemas,
      answer: (given, value) => this.socket.answer(given, value),
    });
    const place = this.#find(".asked");
    place.append(card);
    while (place.childElementCount > 10) place.firstElementChild.remove();
  }
}

/* Tabs as the ARIA practices have them: arrows go from one to the next. */
function tabs(list) {
  const all = [...list.querySelectorAll("[role=tab]")];
  const choose = (chosen) => {
    for (const tab of all) {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
      list.parentElement.querySelector(`#${tab.getAttribute("aria-controls")}`).hidden = tab !== chosen;
    }
  };
  for (const [index, tab] of all.entries()) {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = all[(index + step + all.length) % all.length];
      next.focus();
      choose(next);
    });
  }
}


