/* One WebSocket of the console: it never comes back by itself, for one looks at what happened.

   Events: "state"; "frame" with {sent, body, value, at, size}; "asked" with a call of the server;
   "rooms" when a room was joined or left. */

const KNOWN = ["response", "event", "lagged", "resync", "drain", "ping", "call", "joined", "left"];
const MOST_READ = 1_000_000; // characters of a frame that is parsed: a longer one is shown, and read no further
const MOST_REQUESTS = 50; // that are remembered

/* Whole numbers, one after the other for all connections of the page. */
const nextId = ((last) => () => ++last)(0);

/* A request and what came of it. `state`: "sent", "streaming", "ok", "bad", "lost". */
export class Request extends EventTarget {
  state = "sent";
  replies = []; // values of `data`, the newest MOST_REPLIES
  count = 0;
  error = null; // the frame that refused it
  lasting = 0; // ms until the last frame about it
  static MOST_REPLIES = 200;

  constructor(id, operation, room) {
    super();
    Object.assign(this, { id, operation, room, began: performance.now(), at: new Date() });
  }

  get isOpen() { return this.state === "sent" || this.state === "streaming"; }

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
  state = "closed"; // "connecting", "open"
  code = 0; // of the close
  reason = "";
  protocol = "";
  rooms = new Set();
  #socket = null;
  #requests = new Map();

  /* `target` is a `url` and `protocols`. */
  constructor(channel, target) {
    super();
    this.channel = channel;
    this.names = channel.envelope;
    this.target = target;
  }

  open() {
    this.rooms.clear();
    this.#become("connecting");
    const socket = new WebSocket(this.target.url, this.target.protocols);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    socket.addEventListener("open", () => {
      this.protocol = socket.protocol;
      this.#become("open");
    });
    socket.addEventListener("message", ({ data }) => this.#received(data));
    socket.addEventListener("close", (event) => this.#closed(event));
  }

  close() {
    this.#socket?.close(1000);
  }

  /* Sends a text as it is, or its bytes where the channel wants binary frames; false where nobody is there. */
  send(text) {
    if (this.state !== "open") return false;
    this.#socket.send(this.names.binary ? new TextEncoder().encode(text) : text);
    this.#tell("frame", { sent: true, body: text, value: parse(text), at: new Date(), size: sizeOf(text) });
    return true;
  }

  /* Sends a frame as JSON. */
  tell(frame) {
    return this.send(JSON.stringify(frame));
  }

  /* Sends `text`, the frame of a request; what comes is joined to the Request that this gives. */
  request(operation, text) {
    const frame = parse(text) ?? {};
    const made = new Request(frame[this.names.request_id] ?? null, operation, frame[this.names.channel]);
    if (made.id !== null) this.#requests.set(made.id, made);
    if (this.#requests.size > MOST_REQUESTS) this.#requests.delete(this.#requests.keys().next().value);
    return this.send(text) ? made : null;
  }

  cancel(request) {
    this.tell({ [this.names.type]: "cancel", [this.names.request_id]: request.id });
  }

  answer(call, given) {
    this.tell({ [this.names.type]: "answer", call_id: call.call_id, ...given });
  }

  enter(kind, room) {
    this.tell({ [this.names.type]: kind, [this.names.channel]: room, [this.names.request_id]: nextId() });
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
    if (kind === "ping") this.tell({ [this.names.type]: "pong" });
    if (kind === "call") this.#tell("asked", frame);
    if (kind === "joined" || kind === "left") this.#moved(kind, frame[this.names.channel]);
    const request = this.#requests.get(frame[this.names.request_id]);
    // In the upstream style an answer has whatever form the application gave it.
    const isAnswer = kind === "response" || (!KNOWN.includes(kind) && frame[this.names.action] === request?.operation.name);
    if (request?.isOpen && isAnswer) this.#answered(request, frame, kind === "response");
  }

  #answered(request, frame, isResponse) {
    const { names } = this;
    if (isResponse && frame[names.status] !== "ok") {
      request.error = frame;
      return request.become("bad");
    }
    if (frame.more !== false) request.answered(isResponse ? frame[names.data] : frame);
    return request.become(frame.more === true ? "streaming" : "ok");
  }

  #moved(kind, room) {
    if (kind === "joined") this.rooms.add(room);
    else this.rooms.delete(room);
    this.dispatchEvent(new Event("rooms"));
  }

  #closed({ code, reason }) {
    Object.assign(this, { code, reason });
    this.rooms.clear();
    for (const request of this.#requests.values()) if (request.isOpen) request.become("lost");
    this.#requests.clear();
    this.#become("closed");
  }
}

/* A request for `operation` with its fields. */
export function frameOf(channel, operation, fields, room) {
  const names = channel.envelope;
  const around = { [names.action]: operation.name, [names.request_id]: nextId(), ...(names.many_rooms && { [names.channel]: room }) };
  // Fields cannot take the place of what is around them.
  return names.payload === null ? { ...around, ...fields, ...around } : { ...around, [names.payload]: fields };
}

function parse(text) {
  try {
    const value = JSON.parse(text);
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
