// src/clock.ts
var systemClock = {
  now: () => Date.now(),
  after(milliseconds, run) {
    const timer = setTimeout(run, Math.min(milliseconds, 2147483647));
    return () => clearTimeout(timer);
  },
  random: Math.random
};

// src/errors.ts
var ChannelsError = class extends Error {
  name = "ChannelsError";
};
var NotSent = class extends ChannelsError {
  name = "NotSent";
};
var CONNECTION_LOST = "connection_lost";

// src/connection.ts
var SUBPROTOCOL = "fastapi-channels.1";

// src/events.ts
async function readEvents(body, take, heard = () => {
}) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let [name, id, data] = ["", "", []];
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    heard();
    rest += decoder.decode(part.value, { stream: true });
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      const [field, value] = fieldOf(line);
      if (field === "data") data.push(value);
      else if (field === "event") name = value;
      else if (field === "id" && !value.includes("\0")) id = value;
      else if (line === "") {
        const waits = data.length > 0 ? take({ name: name || "message", data: data.join("\n"), id }) : void 0;
        [name, data] = ["", []];
        if (waits !== void 0) await waits;
      }
    }
  }
}
function contentOf({ name, data }) {
  return name === "binary" ? Uint8Array.from(atob(data), (char) => char.charCodeAt(0)).buffer : data;
}
function fieldOf(line) {
  const at = line.indexOf(":");
  return at < 0 ? [line, ""] : [line.slice(0, at), line.slice(line[at + 1] === " " ? at + 2 : at + 1)];
}

// src/http.ts
var BEARER = "bearer.";
var EVENTS = "text/event-stream";
var NO_EVENTS = "no_events";
var HTTP_ERROR = "http_error";
var Place = class {
  token;
  path;
  #reach;
  #url;
  constructor(reach, handshake, protocols) {
    this.#reach = reach;
    this.#url = new URL(handshake);
    this.#url.protocol = this.#url.protocol.replace(/^ws/, "http");
    this.path = this.#url.pathname.replace(/\/$/, "");
    this.token = protocols.find((name) => name.startsWith(BEARER))?.slice(BEARER.length) ?? null;
  }
  /** Without the query: it may have secrets. */
  address(below) {
    return this.#url.origin + this.path + below;
  }
  /** @param since where the room has been, in place of what the handshake says */
  listen(since, signal) {
    const query = new URLSearchParams(this.#url.search);
    for (const [name, value] of Object.entries(since ?? {})) query.set(name, value);
    return this.#fetch("/events", query, { signal, headers: { Accept: `${EVENTS}; protocol=${SUBPROTOCOL}` } });
  }
  call(name, id, body, signal) {
    const query = new URLSearchParams(this.#url.search);
    query.delete("since");
    query.delete("connection");
    const headers = { "Content-Type": "application/json", "Idempotency-Key": id };
    return this.#fetch(`/actions/${encodeURIComponent(name)}`, query, { method: "POST", body, signal, headers });
  }
  #fetch(below, query, how) {
    const headers = { ...how.headers, ...this.token !== null && { Authorization: `Bearer ${this.token}` } };
    const { credentials } = this.#reach;
    const rest = { cache: "no-store", redirect: "error", credentials };
    return this.#reach.fetch(`${this.address(below)}${query.size > 0 ? `?${query}` : ""}`, { ...rest, ...how, headers });
  }
};
async function listen(place, codec, since, signal, told) {
  const response = await place.listen(since, signal);
  if (isStream(response)) {
    await readEvents(response.body, (event) => {
      if (event.name === "message" || event.name === "binary") told.message(contentOf(event), event.id);
      else if (event.name === "close") {
        const { code, reason: reason2 } = JSON.parse(event.data);
        told.closed(code, reason2);
      }
    }, told.heard);
    told.closed(1006, "the stream of events has ended");
    return;
  }
  const { status } = response;
  const said = decoded(await response.text(), codec);
  const wait = response.headers.get("Retry-After") ?? "";
  const reason = /^\d+$/.test(wait) ? `retry_after=${wait}` : "";
  const stays = said !== null && status >= 400 && status < 500 && ![408, 425, 429].includes(status);
  const answered = `${place.address("/events")} answered ${status}`;
  if (said?.code !== void 0) told.refused(said, said.code === "token_expired" ? 4001 : stays ? 1008 : 1013, reason);
  else if (response.ok || status === 404 || status === 405) {
    const needed = "a room over HTTP has to be mounted with sse=True and http=True, and a Socket has none";
    told.refused(failure(NO_EVENTS, status, `no WebSocket opens, and ${answered}: ${needed}`), 1006, reason);
  } else told.refused(failure(HTTP_ERROR, status, answered), stays ? 1008 : 1013, reason);
}
var Posts = class {
  #place;
  #codec;
  #deliver;
  #running = /* @__PURE__ */ new Map();
  /** @param deliver gets the answers, each a frame as a WebSocket would bring it */
  constructor(place, codec, deliver) {
    this.#place = place;
    this.#codec = codec;
    this.#deliver = deliver;
  }
  get size() {
    return this.#running.size;
  }
  /** @returns whether there was one */
  cancel(id) {
    const running = this.#running.get(id);
    this.#running.delete(id);
    running?.control.abort();
    running?.resume();
    return running !== void 0;
  }
  /** So many more items of a stream are taken. @returns whether there is one */
  give(id, count) {
    const running = this.#running.get(id);
    if (running === void 0) return false;
    running.credit += count;
    running.resume();
    return true;
  }
  cancelAll() {
    for (const id of [...this.#running.keys()]) this.cancel(id);
  }
  async make({ action, request_id: id, ...payload }) {
    const control = new AbortController();
    const credit = Number.isInteger(payload.window) ? payload.window : Infinity;
    const running = { control, credit, resume: () => {
    } };
    this.#running.set(id, running);
    try {
      const response = await this.#place.call(action, id, JSON.stringify(payload), control.signal);
      if (isStream(response)) await this.#stream(response, id, running);
      else await this.#answer(response, action, id);
    } catch (error) {
      this.#say(id, { ...failure(CONNECTION_LOST, "bad", `no answer to ${action}: ${error}`), action });
    } finally {
      if (this.#running.get(id) === running) this.#running.delete(id);
    }
  }
  async #stream(response, id, running) {
    let over = false;
    await readEvents(response.body, async (event) => {
      if (event.name !== "message" && event.name !== "binary") return;
      const content = contentOf(event);
      const frame = this.#codec.decode(content);
      over ||= frame.request_id === id && frame.more !== true;
      this.#pass(id, content);
      running.credit--;
      while (!over && running.credit <= 0 && this.#running.has(id)) {
        await new Promise((resolve) => {
          running.resume = resolve;
        });
      }
    });
    if (!over) throw new TypeError("the stream has ended before its last reply");
  }
  async #answer(response, action, id) {
    const { status } = response;
    const nothing = { type: "response", action, status: "ok", data: null };
    if (status === 204) return this.#say(id, nothing);
    const body = response.headers.get("Content-Type")?.startsWith("application/octet-stream") ? await response.arrayBuffer() : await response.text();
    const frame = decoded(body, this.#codec);
    if (frame?.request_id === id) this.#pass(id, body);
    else if (frame?.code !== void 0) this.#say(id, frame);
    else if (response.ok) {
      if (frame !== null) this.#pass(id, body);
      this.#say(id, nothing);
    } else if (status >= 500) throw new TypeError(`the answer is ${status}`);
    else {
      const said = `${this.#place.address(`/actions/${action}`)} answered ${status}: is the channel mounted with http=True?`;
      this.#say(id, { ...failure(HTTP_ERROR, status, said), action, data: frame });
    }
  }
  #say(id, frame) {
    this.#pass(id, written(this.#codec, { ...frame, request_id: id }));
  }
  #pass(id, data) {
    if (this.#running.has(id)) this.#deliver(data);
  }
};
var isStream = (response) => response.ok && response.body !== null && (response.headers.get("Content-Type") ?? "").startsWith(EVENTS);
function written(codec, frame) {
  const body = codec.encode(frame);
  return typeof body === "string" ? body : body.slice().buffer;
}
function failure(code, status, errors) {
  return { type: "response", action: null, status, request_id: null, data: null, errors, code };
}
function decoded(body, codec) {
  try {
    const found = codec.decode(body);
    return typeof found === "object" ? found : null;
  } catch {
    return null;
  }
}

// src/overlap.ts
var Overlap = class {
  /* What one way has brought and the other not yet, in its order. The room, and the client alone, have one each. */
  #ahead = { old: /* @__PURE__ */ new Map(), newer: /* @__PURE__ */ new Map() };
  /** Whether the newer way is there. */
  late = false;
  /** @returns whether the other way has not brought it */
  isNew(frame, by) {
    const text = JSON.stringify(frame);
    const channel = String(frame.channel);
    const other = this.#ahead[by === "old" ? "newer" : "old"].get(channel) ?? [];
    const at = other.findIndex((each) => each.text === text);
    if (at >= 0) other.splice(0, at + 1);
    else this.#ahead[by].set(channel, [...this.#ahead[by].get(channel) ?? [], { text, late: this.late }]);
    return at < 0;
  }
  /** The old way has ended: what it had brought before the newer was there does not come again. */
  end() {
    for (const [channel, brought] of this.#ahead.old) this.#ahead.old.set(channel, brought.filter(({ late }) => late));
  }
};

// src/settings.ts
var MOST_WAITING_BYTES = 256 * 1024;
var json = {
  encode: (frame) => JSON.stringify(frame),
  decode: (data) => JSON.parse(typeof data === "string" ? data : new TextDecoder().decode(data))
};

// src/fallback.ts
var FALLBACK_TIMES = {
  /** What a WebSocket may take to say something, before HTTP is tried: less than the client's `connect`. */
  patience: 5e3,
  /** Until a WebSocket is tried again while there is a stream of events; it doubles with each attempt. */
  again: 3e4,
  /** The most of it. */
  most: 6e5,
  /** What both ways are read for when one takes over from the other. */
  linger: 1e3,
  /** Beyond so long without a byte a stream is not known to be alive: the server sends one every 15 seconds. */
  beat: 2e4
};
var COMING_BACK = 3008;
var REPLACED = 4509;
var OWN = /* @__PURE__ */ new Set([
  "joined",
  "welcome",
  "presence",
  "presence_diff",
  "lagged",
  "resync",
  "drain",
  "expiring",
  "authenticated",
  "response"
]);
function withFallback(options = {}) {
  const ways = new Ways(options);
  return class extends FallbackSocket {
    constructor(url, protocols) {
      super(ways, url, protocols);
    }
  };
}
var Ways = class {
  times;
  clock;
  codec;
  credentials;
  fetch;
  refusals;
  #options;
  /** Whether HTTP is tried before a WebSocket. */
  isBroken = false;
  /** How often in a row no WebSocket has opened. */
  failures = 0;
  /** Paths that have no events: there it is a WebSocket, or nothing. */
  deaf = /* @__PURE__ */ new Set();
  #streams = /* @__PURE__ */ new Set();
  #tries = 0;
  #stop = () => {
  };
  constructor(options) {
    const { refusals = 2, credentials = "include", codec = json, clock = systemClock, times } = options;
    this.#options = options;
    this.times = { ...FALLBACK_TIMES, ...times };
    this.fetch = (address, how) => (options.fetch ?? fetch)(address, how);
    [this.refusals, this.credentials, this.codec, this.clock] = [refusals, credentials, codec, clock];
  }
  get webSocket() {
    return this.#options.webSocket ?? globalThis.WebSocket;
  }
  /** There is a stream of events. */
  enter(one) {
    this.isBroken = true;
    this.#streams.add(one);
    if (this.#streams.size === 1) this.#later();
  }
  leave(one) {
    if (!this.#streams.delete(one) || this.#streams.size > 0) return;
    this.#stop();
    this.#tries = 0;
  }
  opened() {
    this.isBroken = false;
    this.failures = 0;
  }
  #later() {
    if (this.webSocket === void 0) return;
    const ceiling = Math.min(this.times.most, this.times.again * 2 ** this.#tries++);
    this.#stop();
    this.#stop = this.clock.after(ceiling * (0.5 + this.clock.random() / 2), () => this.#try());
  }
  #try() {
    const [first, ...others] = this.#streams;
    first?.goBack((opens) => {
      if (opens) {
        this.opened();
        for (const other of others) other.goBack(() => {
        });
      }
      if (this.#streams.size > 0) this.#later();
    });
  }
};
function bySocket(ways, url, protocols, told) {
  const socket = new ways.webSocket(url, [...protocols]);
  const deafen = () => {
    socket.onopen = socket.onmessage = socket.onclose = null;
  };
  const way = {
    spoke: false,
    close: (code) => {
      deafen();
      socket.close(code);
    },
    send: (data) => socket.send(data)
  };
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    if (socket.protocol !== SUBPROTOCOL) told.opened(way, socket.protocol);
  };
  socket.onmessage = ({ data }) => told.message(way, data, "");
  socket.onclose = ({ code, reason }) => {
    deafen();
    told.closed(way, code, reason);
  };
  socket.onerror = () => {
  };
  return way;
}
function byStream(ways, place, since, told) {
  const control = new AbortController();
  let isOver = false;
  const way = {
    spoke: false,
    close: () => {
      isOver = true;
      control.abort();
    }
  };
  const end = (tell) => {
    if (isOver) return;
    way.close(COMING_BACK);
    tell();
  };
  void listen(place, ways.codec, since, control.signal, {
    message: (data, id) => {
      if (!isOver) told.message(way, data, id);
    },
    heard: () => {
      if (!isOver) told.heard(way);
    },
    closed: (code, reason) => end(() => told.closed(way, code, reason)),
    refused: (frame, code, reason) => end(() => told.refused(way, frame, code, reason))
  }).catch((error) => end(() => told.closed(way, 1006, String(error))));
  return way;
}
var FallbackSocket = class {
  binaryType = "arraybuffer";
  protocol = "";
  onopen = null;
  onmessage = null;
  onclose = null;
  onerror = null;
  #ways;
  #place;
  #posts;
  #url;
  #protocols;
  #way = null;
  /* The one that is to take over. */
  #next = null;
  /* The one that it was taken over from, while that is still read. */
  #old = null;
  /* While there are two, and until the newer one has brought all that the other had. */
  #overlap = null;
  /* What HTTP has answered in place of a stream. */
  #refusal = null;
  #position = "";
  #connection = "";
  #heard = 0;
  #alive = 0;
  #isAsked = false;
  #wantsStream = false;
  /* What ended the way while another was being tried that may take over. */
  #lost = null;
  #stop = () => {
  };
  #tried = () => {
  };
  constructor(ways, url, protocols) {
    this.#ways = ways;
    this.#url = url;
    this.#protocols = protocols;
    this.#place = new Place(ways, url, protocols);
    this.#posts = new Posts(this.#place, ways.codec, (data) => this.onmessage?.({ data }));
    if (ways.webSocket === void 0 || ways.isBroken && !ways.deaf.has(this.#place.path)) this.#listen();
    else this.#dial();
  }
  send(data) {
    const way = this.#way;
    if (way?.send !== void 0 && this.#posts.size === 0) return way.send(data);
    const frame = this.#read(typeof data === "string" ? data : data.slice().buffer);
    if (frame.type === "cancel" && this.#posts.cancel(frame.request_id)) return;
    if (frame.type === "credit" && this.#posts.give(frame.request_id, frame.count)) return;
    if (way?.send !== void 0) way.send(data);
    else if (typeof frame.action === "string") {
      if (typeof data !== "string") throw new NotSent("bytes are sent by a WebSocket only, and none opens here");
      void this.#posts.make(frame);
    } else if (frame.type === "ping") this.#ask();
    else if (frame.type === "presence") this.#renew();
    else if (frame.type === "refresh") {
      this.#place.token = frame.token;
      this.#protocols = [...this.#protocols.filter((name) => !name.startsWith(BEARER)), BEARER + frame.token];
      this.#renew();
    }
  }
  close(code = 1e3) {
    if (this.#way?.send !== void 0 && !this.#way.spoke && code === COMING_BACK) this.#ways.isBroken = true;
    this.#end(code);
  }
  /** Try whether a WebSocket opens, and let it take over. */
  goBack(tried) {
    if (this.#overlap !== null) return tried(false);
    this.#tried = tried;
    this.#begin(() => bySocket(this.#ways, this.#address(), this.#protocols, this.#told));
  }
  #dial() {
    const way = bySocket(this.#ways, this.#url, this.#protocols, this.#told);
    this.#way = way;
    this.#stop = this.#ways.clock.after(this.#ways.times.patience, () => this.#failed(way, 1006, "no answer in time", true));
  }
  #listen() {
    this.#way = byStream(this.#ways, this.#place, null, this.#told);
  }
  #told = {
    opened: (by, protocol) => {
      if (by === this.#next) return this.#give(true);
      this.#speaks(by);
      this.protocol = protocol;
      this.onopen?.({});
    },
    message: (by, data, id) => {
      if (by === this.#next && !this.#takeOver(by, data)) return;
      if (!by.spoke) this.#speaks(by);
      if (id !== "") this.#move(id);
      const told = this.#sifted(by, data);
      if (told !== null) this.onmessage?.({ data: told });
    },
    heard: (by) => {
      if (by !== this.#way) return;
      const now = this.#heard = this.#ways.clock.now();
      if (this.#isAsked || now - this.#alive >= 1e3) this.#sayAlive(now);
    },
    closed: (by, code, reason) => {
      if (by === this.#old) return;
      if (by === this.#next) this.#give(false);
      else if (!by.spoke) this.#failed(by, code, reason, false);
      else if (this.#next !== null && code === REPLACED) this.#lost = () => this.#finish(code, reason);
      else this.#finish(code, reason);
    },
    refused: (by, frame, code, reason) => {
      if (by === this.#next) return this.#give(false);
      const { deaf, isBroken, webSocket } = this.#ways;
      const { path } = this.#place;
      this.#refusal = frame;
      if (frame.code === HTTP_ERROR) this.#ways.isBroken = false;
      if (frame.code === NO_EVENTS && isBroken && webSocket !== void 0 && !deaf.has(path)) this.#dial();
      else this.#finish(code, reason);
      if (frame.code === NO_EVENTS) deaf.add(path);
    }
  };
  #speaks(by) {
    by.spoke = true;
    this.#refusal = null;
    this.#stop();
    if (by.send === void 0) this.#ways.enter(this);
    else {
      this.protocol = SUBPROTOCOL;
      this.#ways.opened();
    }
  }
  /* It has ended before anything came. */
  #failed(by, code, reason, isSilent) {
    const ways = this.#ways;
    this.#stop();
    by.close(COMING_BACK);
    if (by.send === void 0) ways.isBroken = false;
    else if ((++ways.failures >= ways.refusals || isSilent) && this.#refusal === null) return this.#listen();
    this.#finish(code, reason);
  }
  #finish(code, reason) {
    this.#end(COMING_BACK);
    if (this.#refusal !== null) this.onmessage?.({ data: written(this.#ways.codec, this.#refusal) });
    this.onclose?.({ code, reason });
  }
  #end(code) {
    this.#ways.leave(this);
    this.#lost = null;
    this.#wantsStream = false;
    if (this.#next !== null) this.#give(false);
    this.#stop();
    this.#posts.cancelAll();
    this.#old?.close(code);
    this.#way?.close(code);
    this.#way = this.#old = this.#overlap = null;
  }
  /* A stream that is as it would be if it began now. */
  #renew() {
    if (this.#overlap !== null) this.#wantsStream = true;
    else this.#begin(() => byStream(this.#ways, this.#place, this.#since(), this.#told));
  }
  /* Positions of two ways come, and only go on. */
  #move(id) {
    const [epoch, offset] = id.split(":");
    const [before, reached] = this.#position.split(":");
    if (epoch !== before || Number(offset) > Number(reached)) this.#position = id;
  }
  #since() {
    return this.#position === "" ? {} : { since: this.#position, connection: this.#connection };
  }
  #address() {
    const url = new URL(this.#url);
    for (const [name, value] of Object.entries(this.#since())) url.searchParams.set(name, value);
    return url.href;
  }
  #begin(way) {
    this.#overlap = new Overlap();
    this.#stop = this.#ways.clock.after(this.#ways.times.patience, () => this.#give(false));
    try {
      this.#next = way();
    } catch {
      this.#give(false);
    }
  }
  /* Give the other way up, and stay with the one that there is. */
  #give(opens) {
    this.#stop();
    this.#next?.close(COMING_BACK);
    this.#next = this.#overlap = null;
    this.#tell(opens);
    this.#lost?.();
    this.#again();
  }
  #tell(opens) {
    const tried = this.#tried;
    this.#tried = () => {
    };
    tried(opens);
  }
  #again() {
    const wanted = this.#wantsStream && this.#way !== null && this.#way.send === void 0;
    this.#wantsStream = false;
    if (wanted) this.#renew();
  }
  /* The first frame by the other way. @returns whether it is the way now */
  #takeOver(by, data) {
    const frame = this.#read(data);
    if (frame.type === "response" || frame.recovered === false) {
      this.#give(true);
      return false;
    }
    this.#stop();
    this.#lost = null;
    [this.#old, this.#way, this.#next] = [this.#way, by, null];
    by.spoke = true;
    this.#heard = this.#ways.clock.now();
    this.#overlap.late = true;
    this.#stop = this.#ways.clock.after(this.#ways.times.linger, () => this.#leaveOld());
    if (by.send !== void 0) this.#ways.leave(this);
    this.#tell(by.send !== void 0);
    return true;
  }
  /* The newer way may be behind by a moment. */
  #leaveOld() {
    this.#old?.close(COMING_BACK);
    this.#old = null;
    this.#overlap?.end();
    this.#stop = this.#ways.clock.after(this.#ways.times.linger, () => {
      this.#overlap = null;
      this.#again();
    });
  }
  /* What the client is told of what came; null for what it has got by the other way. */
  #sifted(by, data) {
    if (this.#overlap === null && (by.send !== void 0 || this.#connection !== "")) return data;
    const frame = this.#read(data);
    const isNewer = by !== this.#old;
    if (frame.type === "joined" || frame.type === "welcome") {
      if (isNewer) this.#connection = frame.connection ?? this.#connection;
    }
    if (this.#overlap === null) return data;
    if (OWN.has(frame.type)) {
      if (!isNewer) return null;
      if (!frame.recovered || this.#old === null) return data;
      return written(this.#ways.codec, { ...frame, position: this.#position });
    }
    if (typeof frame.position === "string") return data;
    return this.#overlap.isNew(frame, isNewer && this.#overlap.late ? "newer" : "old") ? data : null;
  }
  #read(data) {
    try {
      return this.#ways.codec.decode(data) ?? {};
    } catch {
      return {};
    }
  }
  /* Whether anybody is there: the server sends something every few seconds. */
  #ask() {
    const now = this.#ways.clock.now();
    if (now - this.#heard <= this.#ways.times.beat) this.#sayAlive(now);
    else this.#isAsked = true;
  }
  #sayAlive(now) {
    this.#alive = now;
    this.#isAsked = false;
    this.onmessage?.({ data: written(this.#ways.codec, { type: "pong" }) });
  }
};
export {
  FALLBACK_TIMES,
  withFallback
};
