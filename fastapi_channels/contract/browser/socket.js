/* One WebSocket of the console: it never comes back by itself, for one looks at what happened.

   Events: "accepted" and "state"; "frame" with {sent, body, value, at, size}; "asked" with a call of the server;
   "rooms" when a room was joined or left; "warned" that it will end;
   "authenticated"; "fault" with {frame, room} when the server refuses what is no request
   for an action: a room, a token, a frame that it cannot read, the connection itself. */

import { parse as exactly, written } from "./exact.js";
import { masked } from "./schema.js";

export const OURS = "fastapi-channels.1"; // who offers it is welcomed, told why it is refused, and always answered

const KNOWN = [
  "response", "event", "lagged", "resync", "drain", "ping", "pong", "call", "joined", "left", "presence", "presence_diff",
  "welcome", "authenticated", "expiring",
];
const WARNINGS = ["expiring", "drain"]; // the connection will end
const SIGNS_IN = ["auth", "refresh"]; // frames that carry a token
const WITH_TOKEN = { properties: { token: { type: "string", format: "password" } } };
const MOST_READ = 1_000_000; // characters of a frame that is parsed: a longer one is shown, and read no further
const MOST_REQUESTS = 50; // that are remembered

/* Whole numbers, one after the other for all connections of the page. One is used when it is sent. They begin at
   the time: an idempotent action knows a user's requests of other pages, and of this one before it was loaded anew. */
const ids = {
  last: Date.now(),
  get next() { return this.last + 1; },
  use(id) { if (Number.isSafeInteger(id)) this.last = Math.max(this.last, id); },
};

/* An id as the key of a map. */
const keyOf = (id) => JSON.stringify(id) ?? "null";

/* A request and what came of it. `state`: "sent", "streaming", "ok", "bad", "cancelled", "lost". */
export class Request extends EventTarget {
  state = "sent";
  replies = []; // values of `data`, the newest MOST_REPLIES
  count = 0;
  error = null; // the frame that refused it
  sunset = null; // the day until which the action is served
  lasting = 0; // ms until the last frame about it
  static MOST_REPLIES = 200;

  constructor(id, operation, room, protocol) {
    super();
    Object.assign(this, { id, operation, room, protocol, began: performance.now(), at: new Date() });
  }

  /* Whether a reply is to come: of some actions only over a connection that speaks a protocol. */
  get isAnswered() {
    return this.operation.answers.some(({ subprotocol }) => !subprotocol || subprotocol === this.protocol);
  }

  get isOpen() { return this.state === "sent" || this.state === "streaming"; }

  /* What has no id cannot be named. */
  get canBeCancelled() { return this.isOpen && this.id !== null; }

  become(state) {
    this.state = state;
    this.lasting = performance.now() - this.began;
    this.dispatchEvent(new Event("change"));
  }

  answered(data) {
    this.count += 1;
    this.replies.push(data);
    if (this.replies.length > Request.MOST_REPLIES) this.replies.shift();
  }
}

export class Socket extends EventTarget {
  state = "closed"; // "connecting" until it is let in, "open"
  code = 0; // of the close
  reason = "";
  protocol = "";
  welcome = null; // the frame that says so, where it was offered to be told
  refusal = null; // why it was not let in, where that was told
  rooms = new Set();
  present = new Map(); // by room: the version, and the devices by their ids
  #socket = null;
  #requests = []; // that are open, the oldest first: two may have one id, and are answered in this order
  #moving = new Map(); // by the id of what asked for it, a room that is joined or left
  #wasIn = false;
  #heard = false; // anything but errors

  /* `target` is a `url` and `protocols`; and a `token`, where that is the first frame. `schemas` are those that
     the channel's refer to. */
  constructor(channel, target, schemas) {
    super();
    this.schemas = schemas;
    this.channel = channel;
    this.names = channel.envelope;
    this.target = target;
  }

  open() {
    this.rooms.clear();
    Object.assign(this, { welcome: null, refusal: null });
    this.#wasIn = this.#heard = false;
    this.#become("connecting");
    const { url, protocols } = this.target;
    this.#socket = null;
    let socket;
    try {
      socket = new WebSocket(url, protocols);
    } catch (error) { // a page on https may open no ws:
      this.#closed({ code: 1006, reason: error.message });
      return;
    }
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    socket.addEventListener("open", () => this.#accepted());
    socket.addEventListener("message", ({ data }) => this.#received(data));
    socket.addEventListener("close", (event) => this.#closed(event));
  }

  /* Whether it ended before anything came of it. */
  get isRefused() { return this.state === "closed" && (!this.#wasIn || (this.refusal !== null && !this.#heard)); }

  close() {
    this.#socket?.close(1000);
  }

  /* Sends a text as it is, or its bytes where the channel wants binary frames; false where nobody is there.
     `schema` says what of it is secret. */
  send(text, schema) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(this.names.binary ? new TextEncoder().encode(text) : text);
    this.#tell("frame", { sent: true, ...this.shown(text, schema), at: new Date(), size: sizeOf(text) });
    return true;
  }

  /* What is shown of a frame that is sent: nothing secret. Its `body`, and its `value` where it can be read. */
  shown(text, schema) {
    const value = parse(text);
    const made = value && masked(value, schema ?? this.#schemaOf(value), this.schemas);
    return JSON.stringify(made) === JSON.stringify(value) ? { body: text, value } : { body: JSON.stringify(made), value: made };
  }

  /* That of a whole frame: of all actions that it may be for. */
  #schemaOf({ [this.names.type]: kind, [this.names.action]: action }) {
    if (SIGNS_IN.includes(kind)) return WITH_TOKEN;
    const { payload: place } = this.names;
    const named = this.channel.operations.filter(({ kind: its, name }) => its === "action" && isFor(name, action));
    return { anyOf: named.map(({ payload }) => (place === null ? payload : { properties: { [place]: payload } })) };
  }

  /* Sends a frame as JSON. */
  tell(frame) {
    return this.send(JSON.stringify(frame));
  }

  /* Sends `text`, the frame of a request; what comes is joined to the Request that this gives. */
  request(operation, text) {
    const frame = parse(text) ?? {};
    const made = new Request(frame[this.names.request_id] ?? null, operation, frame[this.names.channel], this.protocol);
    if (!this.send(text)) return null;
    ids.use(made.id);
    this.#requests = [...this.#requests.filter((each) => each.isOpen), made].slice(-MOST_REQUESTS);
    return made;
  }

  cancel(request) {
    this.tell({ [this.names.type]: "cancel", [this.names.request_id]: request.id });
  }

  renew(token) {
    this.tell({ [this.names.type]: "refresh", token, [this.names.request_id]: this.#newId() });
  }

  answer(call, given) {
    const known = this.channel.operations.find(({ kind, name }) => kind === "call" && name === call.call);
    const frame = { [this.names.type]: "answer", call_id: call.call_id, ...given };
    this.send(JSON.stringify(frame), { properties: { [this.names.data]: known?.answers[0].schema } });
  }

  enter(kind, room) {
    const id = this.#newId();
    this.#moving.set(keyOf(id), room);
    this.tell({ [this.names.type]: kind, [this.names.channel]: room, [this.names.request_id]: id });
  }

  #newId() {
    const id = ids.next;
    ids.use(id);
    return id;
  }

  #accepted() {
    this.protocol = this.#socket.protocol;
    this.dispatchEvent(new Event("accepted"));
    const { token, protocols } = this.target;
    if (token) this.tell({ [this.names.type]: "auth", token, [this.names.request_id]: this.#newId() });
    if (!protocols.includes(OURS)) this.#letIn();
  }

  #letIn() {
    this.#wasIn = true;
    this.#become("open");
  }

  #become(state) {
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #received(data) {
    const size = typeof data === "string" ? sizeOf(data) : data.byteLength;
    const readable = typeof data === "string" || this.channel.json;
    const body = typeof data === "string" ? data : readable ? new TextDecoder().decode(data) : hex(data);
    const value = readable && body.length <= MOST_READ ? parse(body) : null;
    this.#tell("frame", { sent: false, body, value, at: new Date(), size });
    if (value) this.#understand(value);
  }

  #understand(frame) {
    const kind = frame[this.names.type];
    const id = keyOf(frame[this.names.request_id]);
    const isBad = kind === "response" && frame[this.names.status] !== "ok";
    if (!isBad) this.#heard = true;
    if (kind === "welcome") {
      this.welcome = frame;
      if (this.state === "connecting") this.#letIn();
    }
    if (WARNINGS.includes(kind)) this.#tell("warned", frame);
    if (kind === "authenticated") this.#tell("authenticated", frame);
    if (kind === "ping") this.tell({ [this.names.type]: "pong" });
    if (kind === "call") this.#tell("asked", frame);
    if (kind === "joined" || kind === "left") this.#moved(kind, frame, id);
    if (kind === "presence" || kind === "presence_diff") this.#met(kind, frame);
    const request = this.#requests.find((each) => each.canBeCancelled && keyOf(each.id) === id);
    if (isBad && !request) this.#blamed(frame, id);
    // In the upstream style an answer has whatever form the application gave it.
    const isAnswer = kind === "response" || (!KNOWN.includes(kind) && frame[this.names.action] === request?.operation.name);
    if (request && isAnswer) this.#answered(request, frame, kind === "response");
  }

  #answered(request, frame, isResponse) {
    const { names } = this;
    request.sunset = (isResponse && frame.deprecated && frame.sunset) || null;
    if (isResponse && frame[names.status] !== "ok") {
      request.error = frame;
      return request.become(frame[names.code] === "cancelled" ? "cancelled" : "bad");
    }
    if (frame.more !== false) request.answered(isResponse ? frame[names.data] : frame);
    return request.become(frame.more === true ? "streaming" : "ok");
  }

  /* Keeps the list of who is in a room; where a frame is missing, it asks for everybody again. */
  #met(kind, frame) {
    const { type, channel, many_rooms: many } = this.names;
    const room = frame[channel];
    const known = this.present.get(room);
    if (kind === "presence") {
      this.present.set(room, { version: frame.version, devices: new Map(frame.present.map((device) => [device.id, device])) });
    } else if (known?.version === frame.version - 1) {
      for (const device of [...frame.joined, ...frame.changed]) known.devices.set(device.id, device);
      for (const id of frame.left) known.devices.delete(id);
      known.version = frame.version;
    } else if (known) {
      this.present.delete(room);
      this.tell({ [type]: "presence", ...(many && { [channel]: room }) });
    }
    this.dispatchEvent(new Event("present"));
  }

  /* An error that answers no request: also the last word of a server that does not let one in. */
  #blamed(frame, id) {
    this.refusal = frame;
    this.#tell("fault", { frame, room: this.#moving.get(id) });
    this.#moving.delete(id);
  }

  #moved(kind, frame, id) {
    const room = frame[this.names.channel];
    this.#moving.delete(id);
    if (kind === "left" && frame.close_code !== undefined) this.#tell("fault", { frame, room });
    if (kind === "joined") this.rooms.add(room);
    else {
      this.rooms.delete(room);
      this.present.delete(room);
      this.dispatchEvent(new Event("present"));
    }
    this.dispatchEvent(new Event("rooms"));
  }

  #closed({ code, reason }) {
    Object.assign(this, { code, reason });
    this.rooms.clear();
    this.#moving.clear();
    this.present.clear();
    this.dispatchEvent(new Event("present"));
    for (const request of this.#requests) if (request.isOpen) request.become("lost");
    this.#requests = [];
    this.#become("closed");
  }
}

/* A request for `operation` with its fields. */
export function frameOf(channel, operation, fields, room) {
  const names = channel.envelope;
  const around = { [names.action]: operation.name, [names.request_id]: ids.next, ...(names.many_rooms && { [names.channel]: room }) };
  // Fields cannot take the place of what is around them.
  return names.payload === null ? { ...around, ...fields, ...around } : { ...around, [names.payload]: fields };
}

/* Whether an action, which may catch those of other names, is the one that `action` names. */
function isFor(name, action) {
  return name === action || (name.endsWith("*") && written(action).startsWith(name.slice(0, -1)));
}

function parse(text) {
  try {
    const value = exactly(text);
    return typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

function sizeOf(text) {
  return new Blob([text]).size;
}

const MOST_HEX = 256; // bytes

function hex(buffer) {
  const bytes = new Uint8Array(buffer, 0, Math.min(buffer.byteLength, MOST_HEX));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}
