/* One connection of the console: how it is opened, what is sent, what comes. */

import { copy, formatSize, fromTemplate, newId, pretty, retranslate, say, show, showPlain, translate } from "./basics.js";
import { CallList, askedCard, errorParts } from "./calls.js";
import { editorFor } from "./composites.js";
import { ConnectForm, remember } from "./connect.js";
import { parse } from "./exact.js";
import { FrameLog } from "./frames.js";
import { Rooms } from "./rooms.js";
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
    this.frames = new FrameLog(this.#find(".frames-panel"), this.#find(".frames-count"));
    this.calls = new CallList(this.#find(".calls"));
    this.rooms = new Rooms(this.element);
    this.#listen();
    this.#label();
    retranslate(this.element);
  }

  get channel() { return this.socket?.channel ?? this.form.channel; }
  get state() { return this.socket?.state ?? "new"; }
  get title() { return this.socket ? this.socket.target.path : translate("newConnection"); }

  /* Whether the form that connects is shown. */
  get isAsking() { return !this.#find(".connect").hidden; }

  /* Asks where to connect: to the channel `id`. What was typed for it stays. */
  ask(id) {
    if (this.form.channel?.id !== id) this.form.choose(id);
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
    on(".change", "click", () => this.#ask(!this.isAsking));
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
    on(".renew", "submit", (event) => {
      event.preventDefault();
      const input = this.#find(".new-token");
      if (input.value) this.socket.renew(input.value);
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
    if (this.state === "connecting") return;
    const isOther = this.socket?.channel !== channel;
    this.socket = new Socket(channel, target, this.#contract.schemas);
    this.frames.names = channel.envelope;
    const on = (name, react) => this.socket.addEventListener(name, react);
    on("accepted", () => this.#noteOpened());
    on("state", () => this.#changed());
    on("frame", ({ detail }) => this.frames.add(detail));
    on("asked", ({ detail }) => this.#asked(detail));
    on("rooms", () => this.#moved());
    on("authenticated", () => this.#renewed());
    on("warned", ({ detail }) => this.#warned(detail));
    on("fault", ({ detail }) => this.#blamed(detail));
    this.rooms.show(this.socket);
    if (isOther) this.#offer(channel);
    this.socket.open();
  }

  /* What can be sent to the channel; what was sent to another one is gone. */
  #offer(channel) {
    this.frames.clear();
    this.calls.clear();
    this.#find(".calls-none").hidden = false;
    const actions = channel.operations.filter((each) => each.sent && each.kind === "action");
    const raw = new Option("", "");
    show(raw, "rawFrame");
    this.#find(".action").replaceChildren(...actions.map((each) => new Option(each.of ? `${each.name} · ${each.of}` : each.name, each.id)), raw);
    this.#find(".codec").hidden = channel.json;
    this.#find(".call").hidden = !channel.json;
    this.#chosen();
  }

  /* Shows the form that connects, in the place of what is done with a connection; or the other way. */
  #ask(asking) {
    const { activeElement } = document;
    const wasHere = activeElement === document.body || this.#find(asking ? ".work" : ".connect").contains(activeElement);
    const isOther = this.#find(".connect").hidden === asking;
    this.#find(".connect").hidden = !asking;
    this.#find(".work").hidden = asking;
    this.#find(".change").setAttribute("aria-expanded", String(asking));
    show(this.#find(".change"), asking ? "activity" : "change");
    this.#find(".reconnect").hidden = asking || this.state !== "closed";
    if (isOther && wasHere) (asking ? this.form : this.#find(this.channel.json ? ".action" : ".frames-tab")).focus();
  }

  #changed() {
    const { state, target, isRefused, welcome } = this.socket;
    this.element.dataset.state = state;
    show(this.#find(".state-text"), STATES[state]);
    showPlain(this.#find(".address"), target.path);
    this.#find(".disconnect").hidden = state === "closed";
    this.#find(".change").hidden = state !== "closed";
    this.#find(".send").setAttribute("aria-disabled", String(state !== "open"));
    if (state === "open") remember(this.channel, target);
    this.#ask(state !== "open" && (isRefused || this.isAsking));
    this.#find(".welcome").hidden = welcome === null;
    if (welcome) show(this.#find(".welcome"), "welcome", { connection: welcome.connection, size: formatSize(welcome.max_message_size) });
    this.#find(".banner").hidden = true;
    if (state === "closed") this.#tellEnd();
    if (state !== "open") {
      this.#find(".renew").hidden = true;
      this.#find(".asked").replaceChildren();
    }
    this.#moved();
    this.dispatchEvent(new Event("change"));
  }

  #noteOpened() {
    const { protocol } = this.socket;
    this.frames.note(protocol ? "opened" : "openedPlain", { protocol });
  }

  #tellEnd() {
    const { code, reason, refusal, isRefused } = this.socket;
    const closed = { code, reason: reason || translate(code === 1006 ? "closed1006" : "closedNoReason") };
    this.frames.note("closed", closed);
    this.#warn(say("p", "closed", closed), ...(isRefused && refusal ? errorParts(refusal, this.socket.names) : []));
  }

  #warn(...parts) {
    const banner = this.#find(".banner");
    banner.replaceChildren(...parts);
    banner.hidden = false;
  }

  #warned({ expires_in: left, within }) {
    this.#find(".renew").hidden = left === undefined;
    this.#warn(left === undefined ? say("p", "warnDrain", { seconds: within }) : say("p", "warnExpiring", { seconds: left }));
  }

  #renewed() {
    this.#find(".renew").hidden = true;
    this.#find(".new-token").value = "";
    this.#find(".banner").hidden = true;
  }

  /* What the server refuses beside the requests for actions. */
  #blamed({ frame, room }) {
    if (room !== undefined) this.rooms.blame(room, frame);
    else if (this.state !== "connecting") this.#warn(...errorParts(frame, this.socket.names));
  }

  #moved() {
    this.rooms.draw();
    this.#suit();
  }

  #suit() {
    this.rooms.suit(this.#operation.room?.pattern);
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
    if (asText) this.#find(".text").value = pretty(parse(this.#frame(() => undefined)));
    else {
      try {
        const frame = parse(this.#find(".text").value);
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
  #frame(fault, room = this.rooms.chosen) {
    if (this.#asText) return this.#find(".text").value;
    const fields = this.#editor.read(fault);
    return JSON.stringify(frameOf(this.socket.channel, this.#operation, fields ?? {}, room));
  }

  #snippet() {
    const language = this.#find(".snippet-language").value;
    const [example] = this.#operation.examples ?? [];
    const frame = this.#frame(() => undefined, this.rooms.chosen || example?.[this.socket.names.channel]);
    this.#find(".snippet-code").textContent = snippet(language, this.socket.target, this.socket.shown(frame).body);
  }

  #send() {
    if (this.socket.state !== "open") return;
    let isWrong = false;
    this.#find(".banner").hidden = true;
    this.#editor?.complain("");
    const text = this.#frame((field, key) => { isWrong = true; field.refuse(key); });
    if (isWrong) return;
    if (this.#operation.kind === "raw") {
      this.socket.send(text);
      this.#find(".frames-tab").click();
      return;
    }
    const request = this.socket.request(this.#operation, text);
    if (!request) return; // it is closing
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
      const frame = parse(text);
      if (typeof frame[name] === "number") this.#find(".text").value = pretty({ ...frame, [name]: next });
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


