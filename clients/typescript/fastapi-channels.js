// src/errors.ts
var ChannelsError = class extends Error {
  name = "ChannelsError";
};
var ActionError = class extends ChannelsError {
  name = "ActionError";
  constructor(frame) {
    super(typeof frame.errors === "string" ? frame.errors : JSON.stringify(frame.errors));
    this.code = frame.code;
    this.status = frame.status;
    this.errors = frame.errors;
    this.data = frame.data ?? null;
    this.retryAfter = frame.retry_after ?? null;
    this.action = frame.action ?? null;
  }
};
var NotSent = class extends ChannelsError {
  name = "NotSent";
};
var ConnectionLost = class extends ChannelsError {
  name = "ConnectionLost";
};
var CONNECTION_LOST = "connection_lost";
var TimedOut = class extends ChannelsError {
  name = "TimedOut";
};
var Overflow = class extends ChannelsError {
  name = "Overflow";
};
var Refused = class extends ChannelsError {
  name = "Refused";
  constructor(closeCode, reason, cause) {
    super(cause?.message || reason || `closed with ${closeCode}`);
    this.closeCode = closeCode;
    this.reason = reason;
    this.cause = cause;
  }
  /** The `code` of the error frame; empty where there was none. */
  get code() {
    return this.cause?.code ?? "";
  }
};
var wasLeft = () => new Refused(0, "the room was left");

// src/connection.ts
var SUBPROTOCOL = "fastapi-channels.1";
function comesBack(code) {
  return /^(100[156]|101[1-4]|3008|4[0-4]..)$/.test(`${code}`);
}
var toldToWait = (seconds) => 1e3 * (seconds ?? 0);
function delayAfter(failures, { clock, times }) {
  return clock.random() * Math.min(times.most, times.first * 2 ** failures);
}
var COMING_BACK = 3008;
var WHERE = ["online", "offline", "pageshow", "pagehide", "resume", "visibilitychange"];
var Connection = class {
  state = "idle";
  /** Why it is closed; while it is not, what the server said to the last attempt, if it said no. */
  refusal = null;
  /** When the next attempt begins, by the clock; only while waiting. */
  until = 0;
  /** What the server has said of itself, and of the most that it takes; while it is open. */
  welcome = {};
  #settings;
  #owner;
  #socket = null;
  /* Each attempt has a number: what an older one still says is not heard. */
  #attempt = 0;
  #failures = 0;
  #began = -Infinity;
  #said;
  /* How often in a row a token was refused because it was over. */
  #expired = 0;
  #retryAfter = 0;
  #heard = 0;
  #ticked = 0;
  #asked = false;
  #timers = /* @__PURE__ */ new Set();
  /* Ends that the page is listened to. */
  #deaf = null;
  /** What has become of its rooms for good, or until `retry()`; null while it is there, or comes back. */
  get over() {
    return this.state === "closed" ? "refused" : this.state === "idle" ? "left" : null;
  }
  constructor(settings, owner) {
    this.#settings = settings;
    this.#owner = owner;
  }
  /** Connect, if it is not under way: at once, or as soon as it may be; also after a refusal. */
  retry() {
    if (this.state === "open" || this.state === "connecting") return;
    this.#failures = this.#expired = 0;
    this.refusal = null;
    this.#settings.open.add(this);
    this.#listen();
    if (this.#began + this.#settings.times.gap <= this.#settings.clock.now()) {
      this.#forget();
      void this.#begin();
    } else {
      this.#wait(0);
      this.state = "waiting";
    }
  }
  /** Leave, until the next `retry()`. */
  close() {
    if (this.state === "idle") return;
    this.#deaf?.abort();
    this.#deaf = null;
    this.#settings.open.delete(this);
    this.#drop(1e3);
    this.refusal = null;
    this.state = "idle";
    this.#owner.lost();
  }
  /**
   * @returns whether it was sent: false while the connection is not open
   * @throws NotSent: the server would close for its size
   */
  send(frame) {
    if (this.state !== "open") return false;
    const body = this.#settings.codec.encode(frame);
    const most = this.welcome.max_message_size;
    const size = typeof body !== "string" ? body.length : 3 * body.length > most ? new TextEncoder().encode(body).length : 0;
    if (size > most) throw new NotSent(`a message may have ${most} bytes, not ${size}`);
    this.#socket.send(body);
    return true;
  }
  /** There is reason to doubt that anybody is there. */
  #doubt() {
    if (this.state === "open") this.#ask(this.#settings.times.probe);
    else if (this.state === "waiting") this.#wait(0);
  }
  #listen() {
    if (this.#deaf || !globalThis.addEventListener) return;
    const listen = (event) => {
      if (event.type === "pagehide") this.#suspend();
      else if (event.type !== "visibilitychange" || !document.hidden) this.#doubt();
    };
    this.#deaf = new AbortController();
    const { signal } = this.#deaf;
    for (const name of WHERE) globalThis.addEventListener(name, listen, { signal });
  }
  /* A page with an open WebSocket is not kept for the way back. `pageshow` calls it to life again. */
  #suspend() {
    if (this.state !== "open" && this.state !== "connecting") return;
    this.#drop();
    this.until = Infinity;
    this.state = "waiting";
    this.#owner.lost();
  }
  async #begin() {
    const { clock, times } = this.#settings;
    const attempt = ++this.#attempt;
    const mine = (react) => (event) => {
      if (attempt === this.#attempt) react(event);
    };
    this.#began = clock.now();
    this.#said = void 0;
    this.#retryAfter = 0;
    this.welcome = {};
    this.#later(times.connect, () => this.#lost());
    this.state = "connecting";
    const protocols = [SUBPROTOCOL, ...this.#settings.protocols ?? []];
    try {
      const token = await this.#token();
      if (token) protocols.push(`bearer.${token}`);
    } catch (error) {
      if (attempt === this.#attempt) this.#lost(error instanceof Refused ? 0 : 1006, String(error));
      this.#settings.onError(error);
    }
    if (attempt !== this.#attempt) return;
    try {
      const WebSocketClass = this.#settings.webSocket ?? globalThis.WebSocket;
      if (!WebSocketClass) throw new TypeError("no WebSocket: use the option webSocket");
      const socket = this.#socket = new WebSocketClass(this.#owner.address(), protocols);
      socket.binaryType = "arraybuffer";
      socket.onopen = mine(() => {
        if (socket.protocol !== SUBPROTOCOL) this.#opened();
      });
      socket.onmessage = mine((event) => this.#read(event.data));
      socket.onclose = mine(({ code, reason }) => this.#lost(code, reason));
      socket.onerror = () => {
      };
    } catch (error) {
      this.#lost(0, String(error));
    }
  }
  #read(data) {
    try {
      const frame = this.#settings.codec.decode(data);
      if (Object(frame) !== frame) throw new TypeError("no frame");
      this.#received(frame);
    } catch (error) {
      this.#settings.onError(error);
    }
  }
  #opened() {
    if (this.state !== "connecting") return;
    const { clock, times } = this.#settings;
    this.#forget();
    this.#heard = this.#ticked = clock.now();
    this.#asked = false;
    this.#later(times.settle, () => {
      this.#failures = 0;
    });
    this.#tick();
    this.state = "open";
    this.#owner.opened();
  }
  #received(frame) {
    this.#heard = this.#settings.clock.now();
    this.#asked = false;
    const { type } = frame;
    if (type === "welcome") {
      this.welcome = frame;
      this.#opened();
    } else if (type === "ping") {
      this.send({ type: "pong" });
    } else if (type === "expiring") {
      void this.#refresh();
    } else if (type === "drain") {
      this.#retryAfter = toldToWait(frame.retry_after);
    } else if (this.state === "connecting" && type === "response") {
      this.#said = new ActionError(frame);
      this.#retryAfter = toldToWait(frame.retry_after);
    } else if (type !== "pong" && type !== "authenticated") {
      this.#owner.received(frame);
    }
  }
  /* Where there is one. What could not be sent the next time either is a refusal. */
  async #token() {
    const { token } = this.#settings;
    const brought = await token?.();
    if (token && (typeof brought !== "string" || !/^[\w!#$%&'*+.^`|~-]+$/.test(brought))) {
      throw new Refused(0, "token: not of the characters of HTTP tokens");
    }
    return brought;
  }
  /* The token ends soon: a new one on the open socket saves coming back. Without one the server closes with 4001. */
  async #refresh() {
    const attempt = this.#attempt;
    try {
      const token = await this.#token();
      if (token && attempt === this.#attempt) this.send({ type: "refresh", token });
    } catch (error) {
      this.#settings.onError(error);
    }
  }
  #tick() {
    const { clock, times } = this.#settings;
    this.#later(times.tick, () => {
      const now = clock.now();
      const slept = now - this.#ticked > 3 * times.tick;
      this.#ticked = now;
      this.#tick();
      if (slept) this.#ask(times.probe);
      else if (now - this.#heard >= times.silence) this.#ask(times.pong);
    });
  }
  #ask(within) {
    if (this.#asked || this.state !== "open") return;
    this.#asked = true;
    this.send({ type: "ping" });
    this.#later(within, () => {
      if (this.#asked) this.#lost();
    });
  }
  #lost(code = 1006, reason = "no answer") {
    const told = Math.max(this.#retryAfter, toldToWait(/\bretry_after=(\d+(?:\.\d+)?)/.exec(reason)?.[1]));
    const said = this.#said;
    this.#expired = said?.code === "token_expired" ? this.#expired + 1 : 0;
    const back = comesBack(code) && this.#expired < 2;
    this.#drop();
    this.refusal = back && !said ? null : new Refused(code, reason, said);
    if (back) {
      this.state = "waiting";
      this.#wait(Math.max(delayAfter(this.#failures++, this.#settings), told));
    } else this.state = "closed";
    this.#owner.lost();
  }
  #wait(delay) {
    const now = this.#settings.clock.now();
    this.#forget();
    this.until = Math.max(now + delay, this.#began + this.#settings.times.gap);
    this.#later(this.until - now, () => void this.#begin());
  }
  /* Let go of the socket, without waiting for a close that may never come. To the server 1000 means to leave. */
  #drop(code = COMING_BACK) {
    const socket = this.#socket;
    this.#attempt++;
    this.#socket = null;
    this.#forget();
    try {
      socket?.close(code);
    } catch (error) {
      this.#settings.onError(error);
    }
  }
  #later(delay, run) {
    const cancel = this.#settings.clock.after(delay, () => {
      this.#timers.delete(cancel);
      run();
    });
    this.#timers.add(cancel);
  }
  #forget() {
    for (const cancel of this.#timers) cancel();
    this.#timers.clear();
  }
};

// src/clock.ts
var systemClock = {
  now: () => Date.now(),
  after(milliseconds, run) {
    const timer = setTimeout(run, Math.min(milliseconds, 2147483647));
    return () => clearTimeout(timer);
  },
  random: Math.random
};

// src/settings.ts
var TIMES = {
  /** The ceiling of the first delay; it doubles with each attempt. */
  first: 500,
  /** The highest ceiling. */
  most: 3e4,
  /** The least time between the beginnings of two attempts, whatever asks for one. */
  gap: 1e3,
  /** What an attempt may take, from asking for a token to the welcome. */
  connect: 1e4,
  /** What a connection must last before the next loss counts as the first. */
  settle: 5e3,
  /** Without a frame for so long, the server is asked whether it is there. */
  silence: 25e3,
  /** What its answer may take. */
  pong: 1e4,
  /** The same, where there is reason to doubt: after sleep, in a tab that comes back. */
  probe: 5e3,
  /** Between two looks at the clock. */
  tick: 5e3,
  /** What a call may take. */
  call: 1e4,
  /** The least time before a room that refused for now is asked again. */
  rejoin: 1e3
};
var MOST_WAITING = 64;
var MOST_WAITING_BYTES = 256 * 1024;
var MOST_UNTAKEN = 1024;
var WINDOW = 64;
var json = {
  encode: (frame) => JSON.stringify(frame),
  decode: (data) => JSON.parse(typeof data === "string" ? data : new TextDecoder().decode(data))
};
function settingsOf(options) {
  const { times, token } = options;
  if (token !== void 0 && typeof token !== "function") throw new TypeError("token: no function");
  const report = (error) => (globalThis.reportError ?? console.error)(error);
  const { onError = report } = options;
  return {
    away: "wait",
    codec: json,
    clock: systemClock,
    ...options,
    times: { ...TIMES, ...times },
    open: /* @__PURE__ */ new Set(),
    onError: async (error) => {
      try {
        await onError(error);
      } catch (failure) {
        report(failure);
      }
    }
  };
}

// src/requests.ts
var AGAIN = /* @__PURE__ */ new Set(["in_progress", "unavailable", "rate_limited", CONNECTION_LOST]);
function secret() {
  return crypto.getRandomValues(new Uint8Array(16)).join("");
}
var Requests = class {
  #carrier;
  #all = /* @__PURE__ */ new Map();
  #prefix = secret();
  #count = 0;
  constructor(carrier) {
    this.#carrier = carrier;
  }
  nextId() {
    return `${this.#prefix}-${++this.#count}`;
  }
  /** @param state of its room: while that is being joined, it waits for `flush` */
  ask(asked, room, state, asker) {
    const { signal, timeout = Infinity } = asked;
    if (!(timeout > 0)) throw new RangeError(`timeout: ${timeout}`);
    if (signal?.aborted) return this.#refuse(asker, signal.reason);
    const waits = state !== "joined";
    if (waits && (state !== "joining" || this.#carrier.settings.away === "fail")) {
      return this.#refuse(asker, new NotSent(`the room is ${state}`));
    }
    let size = 0;
    if (waits) {
      size = this.#carrier.settings.codec.encode(asked.frame).length;
      const waiting = [...this.#all.values()].filter((each) => !each.sent);
      const bytes = waiting.reduce((sum, each) => sum + each.size, size);
      if (waiting.length >= MOST_WAITING || bytes > MOST_WAITING_BYTES) {
        return this.#refuse(asker, new NotSent("too much waits"));
      }
    }
    const id = this.nextId();
    Object.assign(asked.frame, this.#carrier.settings.trace?.()).request_id = id;
    const request = { ...asked, room, asker, size, sent: false, end: [], credit: Infinity, items: 0, wait() {
    } };
    this.#all.set(id, request);
    if (signal) {
      const abort = () => this.cancel(request, signal.reason);
      signal.addEventListener("abort", abort, { once: true });
      request.end.push(() => signal.removeEventListener("abort", abort));
    }
    if (timeout < Infinity) this.#limit(request, timeout);
    if (!waits) this.#dispatch(request);
    return request;
  }
  /** A room was joined: send what waited for it, in the order in which it was asked. */
  flush(room) {
    for (const request of this.#all.values()) {
      if (!request.sent && request.room === room) this.#dispatch(request);
    }
  }
  /** The connection is lost: who may be repeated waits for the next; nobody knows of the others that were sent. */
  lost() {
    for (const request of this.#all.values()) {
      if (!request.sent) continue;
      if (request.retry) request.sent = false;
      else this.#fail(request, new ConnectionLost("lost before the reply"));
    }
  }
  /** The room, or all of them, will not be joined. */
  refused(error, room) {
    for (const request of this.#all.values()) {
      if (room !== void 0 && request.room !== room) continue;
      this.#fail(request, new (request.sent ? ConnectionLost : NotSent)(error.message, { cause: error }));
    }
  }
  /** @returns whether the frame answers a request of ours */
  received(frame) {
    const request = this.#all.get(frame.request_id);
    if (!request) return false;
    if (frame.code !== void 0) this.#failed(request, new ActionError(frame));
    else if ((frame.index ?? request.items) !== request.items) {
      this.cancel(request, new ChannelsError(`item ${request.items} is missing`));
    } else if (frame.more) {
      request.items++;
      request.credit--;
      request.wait();
      request.asker.item(frame.data);
    } else {
      this.#forget(request);
      request.asker.reply(frame.data);
    }
    return true;
  }
  /** So many items of its stream were taken: the server may send as many more. */
  give(request, count) {
    if (request.credit === Infinity) return;
    request.credit += count;
    this.#carrier.send({ type: "credit", request_id: request.frame.request_id, count }, request.room);
    request.wait();
  }
  /** Nobody waits for it any more; the server is told to stop. */
  cancel(request, reason) {
    if (this.#all.get(request.frame.request_id) !== request) return;
    this.#fail(request, reason);
    if (request.sent) this.#carrier.send({ type: "cancel", request_id: request.frame.request_id }, request.room);
  }
  #limit(request, timeout) {
    const expire = () => {
      const action = request.frame.action;
      const error = request.sent ? new TimedOut(`no reply to ${action} in ${timeout} ms`) : new NotSent(`${action} waited ${timeout} ms`);
      this.cancel(request, error);
    };
    let stop = () => {
    };
    request.wait = () => {
      stop();
      if (request.credit > 0) stop = this.#carrier.settings.clock.after(timeout, expire);
    };
    request.wait();
    request.end.push(() => stop());
  }
  #dispatch(request) {
    if (request.window && "max_window" in this.#carrier.welcome) request.frame.window = request.credit = request.window;
    try {
      request.sent = this.#carrier.send(request.frame, request.room);
    } catch (error) {
      this.#fail(request, error);
    }
  }
  #failed(request, error) {
    if (!request.retry || !AGAIN.has(error.code)) {
      this.#fail(request, error.code === CONNECTION_LOST ? new ConnectionLost(error.message) : error);
      return;
    }
    request.sent = false;
    const wait = Math.max(toldToWait(error.retryAfter), this.#carrier.settings.times.rejoin);
    request.end.push(this.#carrier.settings.clock.after(wait, () => {
      if (!request.sent) this.#dispatch(request);
    }));
  }
  #fail(request, error) {
    this.#forget(request);
    request.asker.fail(error);
  }
  #forget(request) {
    this.#all.delete(request.frame.request_id);
    for (const end of request.end.splice(0)) end();
  }
  #refuse(asker, error) {
    asker.fail(error);
    return null;
  }
};

// src/feed.ts
var DONE = { done: true, value: void 0 };
var Feed = class {
  #untaken = [];
  #waiting = [];
  #ended = false;
  #error;
  #leave;
  #taken;
  /**
   * @param leave called once, when nothing more is taken: it has ended, nobody reads on, or too much waits
   * @param taken called for each item that is, while more may come
   */
  constructor(leave, taken) {
    this.#leave = leave;
    this.#taken = taken;
  }
  push(item) {
    if (this.#ended) return;
    if (this.#untaken.length < MOST_UNTAKEN) {
      this.#untaken.push(item);
      this.#wake();
    } else this.fail(new Overflow(`${MOST_UNTAKEN} items wait`));
  }
  end() {
    if (this.#ended) return;
    this.#ended = true;
    this.#wake();
    this.#leave();
  }
  /** What came before it can still be taken. */
  fail(error) {
    if (this.#ended) return;
    this.#error = error;
    this.end();
  }
  async next() {
    while (this.#untaken.length === 0 && !this.#ended) {
      await new Promise((resolve) => {
        this.#waiting.push(resolve);
      });
    }
    if (this.#untaken.length > 0) {
      const value = this.#untaken.shift();
      if (!this.#ended) this.#taken?.();
      return { done: false, value };
    }
    const error = this.#error;
    this.#error = void 0;
    if (error !== void 0) throw error;
    return DONE;
  }
  /** What `break` calls. */
  async return() {
    this.end();
    this.#untaken.length = 0;
    return DONE;
  }
  [Symbol.asyncIterator]() {
    return this;
  }
  #wake() {
    for (const wake of this.#waiting.splice(0)) wake();
  }
};

// src/presence.ts
var NOBODY = { version: null, devices: /* @__PURE__ */ new Map(), people: [] };
function after(before, frame) {
  const { present, joined = present, changed = [], left = [], version } = frame;
  if (!present && version - 1 !== before.version) return null;
  const devices = new Map(present ? [] : before.devices);
  for (const device of [...joined, ...changed]) devices.set(device.id, device);
  for (const id of left) devices.delete(id);
  const people = /* @__PURE__ */ new Map();
  for (const device of devices.values()) {
    const person = people.get(keyOf(device)) ?? { user: device.user, devices: [] };
    person.devices.push(device);
    people.set(keyOf(device), person);
  }
  return { version, devices, people: [...people.values()] };
}
function changeOf(before, now) {
  return { joined: without(now, before), left: without(before, now) };
}
function without({ people }, { devices }) {
  const known = new Set([...devices.values()].map(keyOf));
  return people.filter((person) => !known.has(keyOf(person.devices[0])));
}
var keyOf = ({ user, id }) => user === null ? id : `@${user}`;

// src/room.ts
var Room = class {
  state = "joining";
  /** Why, where it is refused; while it is being joined, what the server said to the last attempt, if it said no. */
  refusal = null;
  /** The id of the connection, as the server knows it; empty before it is joined. */
  connection = "";
  /** Who is here, in a room with presence. While the room is joined again, who was. */
  presence = NOBODY;
  #line;
  #listeners = /* @__PURE__ */ new Map();
  #handlers = /* @__PURE__ */ new Map();
  #gaps = /* @__PURE__ */ new Set();
  #states = /* @__PURE__ */ new Set();
  #changes = /* @__PURE__ */ new Set();
  #frames = /* @__PURE__ */ new Set();
  #all = /* @__PURE__ */ new Set();
  /* Offsets up to this one have been told. */
  #told;
  /* Whether the server is asked for what it has dropped. What comes meanwhile comes again with it. */
  #isBehind = false;
  #wasJoined;
  #lineTold = null;
  /** @internal */
  constructor(line, name, options) {
    this.#line = line;
    this.name = name;
    this.position = options.since ?? "";
    this.#told = offsetOf(this.position);
    this.#wasJoined = this.position !== "";
  }
  /** The connection below: `waiting` says that it is lost and will be tried again. */
  get line() {
    return this.#line.state;
  }
  /** When the next attempt begins, in milliseconds since 1970, while the line is `waiting`. */
  get until() {
    return this.#line.connection.until;
  }
  /**
   * Call an action, and wait for its reply.
   *
   * While the room is not joined the call waits for that, within its time. `retry` lets an idempotent action be
   * called again when the connection is lost, until its time is over.
   *
   * @throws ActionError, NotSent, ConnectionLost, TimedOut, or the reason of the signal
   */
  call(name, ...[payload, options]) {
    return new Promise((resolve, reject) => {
      const asked = { timeout: this.#line.settings.times.call, ...options };
      const request = this.#line.ask(this, called(name, payload), asked, {
        reply: resolve,
        fail: reject,
        item: () => this.#line.requests.cancel(request, new ChannelsError(`${name} streams: read it with stream()`))
      });
    });
  }
  /**
   * Call an action that streams. Leaving the loop, or the signal, ends it on the server too.
   *
   * @throws RangeError: there is no such window. The loop throws as `call`
   */
  stream(name, ...[payload, options]) {
    const { window = WINDOW } = options ?? {};
    if (window !== null && !(window > 0 && window <= MOST_UNTAKEN && Number.isInteger(window))) {
      throw new RangeError(`window: 1 to ${MOST_UNTAKEN}, or null; not ${window}`);
    }
    let request = null;
    let taken = 0;
    const feed = new Feed(() => {
      if (request) this.#line.requests.cancel(request, new ChannelsError("left"));
    }, () => {
      if (!request || !window || 2 * ++taken < window) return;
      this.#line.requests.give(request, taken);
      taken = 0;
    });
    request = this.#line.ask(this, called(name, payload), { ...options, window }, {
      item: (data) => feed.push(data),
      reply: (data) => {
        if (data != null) feed.push(data);
        feed.end();
      },
      fail: (error) => feed.fail(error)
    });
    return feed;
  }
  /**
   * Read the history of the room by pages, the newest first; with `reverse: false` from the oldest on. For a channel with
   * the `history_router`.
   *
   * @throws as `call`
   */
  async *history(...[asked, options]) {
    const room = this;
    for (let next = {}; next !== null; ) {
      const page = await room.call("history", { ...asked, ...next }, options);
      yield page;
      next = page.next === null ? null : { since: page.next };
    }
  }
  /** Hear an event. @returns what takes it back */
  on(name, listener) {
    const listeners = this.#listeners.get(name) ?? /* @__PURE__ */ new Set();
    this.#listeners.set(name, listeners);
    return added(listeners, listener);
  }
  /** Hear all events, those too that the types do not know. */
  onAny(listener) {
    return added(this.#all, listener);
  }
  /**
   * The events of a name from now on, one after the other. Ends when the room is left, and throws if it is refused: at
   * once, where it is already.
   */
  events(name) {
    const feed = new Feed(() => {
      deaf();
      end();
    });
    const hear = (state) => {
      if (state === "left") feed.end();
      else if (state === "refused") feed.fail(this.refusal);
    };
    const deaf = this.on(name, (data) => feed.push(data));
    const end = this.onState(hear);
    hear(this.state);
    return feed;
  }
  /** Say who answers what the server asks; one for each name. What it throws is the answer's error. */
  answer(name, handler) {
    this.#handlers.set(name, handler);
    return () => {
      if (this.#handlers.get(name) === handler) this.#handlers.delete(name);
    };
  }
  /** Hear that something may have been missed. */
  onGap(listener) {
    return added(this.#gaps, listener);
  }
  /** Hear that `state` is another one; or, while it is `joining`, that `line` or `refusal` is. */
  onState(listener) {
    return added(this.#states, listener);
  }
  /** Hear that `presence` is another one. When the room is over for this client, nobody is in it, and nobody has `left`. */
  onPresence(listener) {
    return added(this.#changes, listener);
  }
  /** Hear frames that are not of the protocol, as applications in the upstream style send them. */
  onFrame(listener) {
    return added(this.#frames, listener);
  }
  /** Resolves when the room is joined. @throws Refused */
  async ready() {
    while (this.state === "joining") {
      await new Promise((resolve) => {
        const stop = this.onState(() => {
          stop();
          resolve();
        });
      });
    }
    if (this.state !== "joined") throw this.refusal ?? wasLeft();
    return this;
  }
  /** Ask again, at once: after a refusal, or while a wait is long. @throws ChannelsError: the socket was closed */
  retry() {
    this.#line.retry(this);
  }
  leave() {
    this.#line.release(this);
  }
  /* What the line below says. */
  /** @internal The room is joined; `frame` says where, in a room with history. */
  joined(frame) {
    const position = frame?.position;
    let gap = null;
    this.#isBehind = false;
    if (position === void 0) {
      if (this.#wasJoined && !this.position) gap = "away";
    } else {
      this.#told = offsetOf(position) - (frame?.recovered === void 0 ? 1 : 0);
      this.position = position;
      if (frame?.recovered === false) gap = frame.reason ?? "expired";
    }
    this.connection = frame?.connection ?? this.connection;
    this.#wasJoined = true;
    this.become("joined");
    if (gap) this.#gap(gap);
  }
  /** @internal */
  become(state, refusal = null) {
    const waits = state === "joining" && (this.line !== this.#lineTold || this.refusal !== refusal);
    if (this.state === state && !waits) return;
    this.#lineTold = this.line;
    this.state = state;
    this.refusal = refusal;
    if (state === "joining") this.presence = { ...this.presence, version: null };
    else if (state !== "joined") this.#show(NOBODY, NOBODY);
    this.#tell(this.#states, state);
  }
  /** @internal */
  received(frame) {
    if (frame.type === "event") this.#event(frame);
    else if (frame.type === "call") void this.#asked(frame);
    else if (/^presence(_diff)?$/.test(frame.type) && Number.isInteger(frame.version)) this.#present(frame);
    else if (frame.type === "lagged") this.#lagged(frame);
    else if (frame.type === "resync") {
      if (frame.position !== void 0) this.#move(frame.position);
      this.#gap("resync");
    } else this.#tell(this.#frames, frame);
  }
  #event({ event, channel, data, position = "" }) {
    if (position && (this.#isBehind ? this.#isNear(position) : !this.#move(position))) return;
    this.#tell([...this.#listeners.get(event) ?? [], ...this.#all], data, { event, channel, position });
  }
  /* Go on to a position. @returns whether it lies ahead */
  #move(position) {
    const offset = offsetOf(position);
    if (this.#isNear(position) && offset <= this.#told) return false;
    this.#told = offset;
    this.position = position;
    return true;
  }
  /* Whether it is of the history that the position is of. */
  #isNear(position) {
    return position?.split(":")[0] === this.position.split(":")[0];
  }
  /* The server has dropped events here. In a room with history it is asked for them. */
  #lagged({ since, dropped }) {
    if (this.#isBehind) return;
    this.#isBehind = this.#isNear(since);
    if (!this.#isBehind) this.#gap("lagged", dropped);
    else this.#line.ask(this, { type: "join", since: this.position }, {}, {
      reply() {
      },
      // `joined` says more
      item() {
      },
      // Where the server has not said no, the connection is lost, or the room left.
      fail: (error) => {
        if (error.code) this.#gap("lagged");
      }
    });
  }
  #present(frame) {
    const now = after(this.presence, frame);
    if (now) this.#show(now);
    else if (this.presence.version !== null) {
      this.presence = { ...this.presence, version: null };
      this.#line.say(this, { type: "presence" });
    }
  }
  #show(now, before = this.presence) {
    const { size } = this.presence.devices;
    this.presence = now;
    if (size + now.devices.size > 0) this.#tell(this.#changes, changeOf(before, now));
  }
  async #asked({ call, call_id, data }) {
    const handler = this.#handlers.get(call);
    const answer = (said) => this.#line.say(this, { type: "answer", call_id, ...said });
    try {
      if (!handler) throw new ChannelsError(`nobody here answers ${call}`);
      answer({ data: await handler(data) ?? null });
    } catch (error) {
      this.#tell([answer], { errors: error?.message ?? String(error) });
      if (!(error instanceof ChannelsError)) this.#line.settings.onError(error);
    }
  }
  #gap(reason, dropped = null) {
    this.#isBehind = false;
    this.#tell(this.#gaps, { reason, dropped });
  }
  #tell(listeners, ...told) {
    [...listeners].forEach(async (listener) => {
      try {
        await listener(...told);
      } catch (error) {
        this.#line.settings.onError(error);
      }
    });
  }
};
function added(all, one) {
  all.add(one);
  return () => void all.delete(one);
}
var called = (action, payload) => Object.assign({ action }, payload, { action });
var offsetOf = (position) => Number(position.split(":")[1] ?? -1);

// src/topics.ts
function fits(filter, topic) {
  if (!/[+#]/.test(filter) || topic[0] === "$" && /^[+#]/.test(filter)) return false;
  const wanted = filter.split("/");
  const levels = topic.split("/");
  if (wanted.at(-1) === "#") {
    wanted.pop();
    levels.splice(wanted.length);
  }
  return wanted.length === levels.length && wanted.every((level, at) => level === "+" || level === levels[at]);
}

// src/line.ts
var FOR_NOW = /* @__PURE__ */ new Set(["unavailable", "channel_full", "rate_limited", "too_many_rooms"]);
var Line = class {
  #url;
  constructor(settings, url) {
    this.settings = settings;
    this.#url = url;
    this.connection = new Connection(settings, this);
    this.requests = new Requests(this);
  }
  get state() {
    return this.connection.state;
  }
  get welcome() {
    return this.connection.welcome;
  }
  send(frame, room) {
    return this.isReady(room) && this.connection.send(frame);
  }
  address() {
    const url = new URL(this.#url);
    for (const [name, value] of Object.entries({ ...this.settings.query?.(), ...this.since() })) {
      url.searchParams.set(name, value);
    }
    return url.href;
  }
  ask(room, frame, options, asker) {
    const asked = { frame: this.addressed(room, frame), ...options };
    return this.requests.ask(asked, room.name, room.state, asker);
  }
  say(room, frame) {
    this.connection.send(this.addressed(room, frame));
  }
  /** The connection is. If it is for good, so are the requests. */
  lost() {
    const { over, refusal } = this.connection;
    this.requests.lost();
    if (over) this.requests.refused(refusal ?? wasLeft());
  }
  /* What becomes of a room then. */
  become(room) {
    const { over, refusal } = this.connection;
    room.become(over ?? "joining", refusal);
  }
  /** Where the room has been, for the handshake. */
  since() {
    return {};
  }
  addressed(room, frame) {
    return frame;
  }
};
var Single = class extends Line {
  #placed = false;
  constructor(settings, url, name, options) {
    super(settings, url);
    this.room = new Room(this, name, options);
    this.connection.retry();
  }
  opened() {
    if (!this.#placed) this.room.joined(null);
    this.requests.flush(this.room.name);
  }
  received(frame) {
    if (frame.type === "joined") {
      this.#placed = true;
      this.requests.received(frame);
      this.room.joined(frame);
    } else if (frame.type !== "response" || !this.requests.received(frame)) this.room.received(frame);
  }
  lost() {
    this.#placed = false;
    super.lost();
    this.become(this.room);
  }
  retry() {
    if (this.room.state === "joined") return;
    this.room.become("joining");
    this.connection.retry();
  }
  release() {
    this.connection.close();
  }
  isReady() {
    return this.connection.state === "open";
  }
  since() {
    return sinceOf(this.room);
  }
};
var Many = class extends Line {
  /** What is sent to this client alone, or to all of its user, wherever it is. */
  own = new Room(this, "*", {});
  #places = /* @__PURE__ */ new Map();
  constructor(settings, url) {
    super(settings, url);
    this.connection.retry();
  }
  /** The room of that name: the same object for all that ask for it, until each of them has left. */
  room(name, options = {}) {
    this.#check();
    let place2 = this.#places.get(name);
    if (!place2) {
      const room = new Room(this, name, options);
      place2 = { room, uses: 0, joining: null, failures: 0, stop: () => {
      } };
      this.#places.set(name, place2);
      if (this.connection.over) this.become(room);
      this.#join(place2);
    }
    place2.uses++;
    return place2.room;
  }
  opened() {
    this.own.joined(null);
    const places = [...this.#places.values()].filter(({ room }) => room.state !== "refused");
    const { max_joins, max_message_size } = this.welcome;
    const most = Math.min(max_joins, max_message_size / 1280) | 0 || 1;
    while (places.length > 0) this.#ask(places.splice(0, most));
  }
  received(frame) {
    const place2 = this.#places.get(frame.channel);
    if (frame.type === "joined") this.#joined(place2, frame);
    else if (frame.type === "left") this.#left(place2, frame);
    else if (frame.type === "response") {
      const asked = [...this.#places.values()].find(({ joining }) => joining && joining === frame.request_id);
      if (asked) this.#refused(asked, new ActionError(frame));
      else if (!this.requests.received(frame)) (place2?.room ?? this.own).received(frame);
    } else if (frame.channel === void 0 || frame.channel === "*") this.own.received(frame);
    else {
      for (const { room } of [...this.#places.values()]) if (isFor(room, frame)) room.received(frame);
    }
  }
  lost() {
    super.lost();
    for (const place2 of [...this.#places.values()]) {
      const { room } = place2;
      place2.joining = null;
      place2.stop();
      if (room.state !== "refused") this.become(room);
    }
    this.become(this.own);
  }
  retry(room) {
    this.#check();
    const place2 = this.#places.get(room.name);
    this.connection.retry();
    if (!place2 || room.state === "joined") return;
    place2.stop();
    room.become("joining");
    if (!place2.joining) this.#join(place2);
  }
  release(room) {
    const place2 = this.#places.get(room.name);
    if (room === this.own) this.close();
    if (!place2 || place2.room !== room || --place2.uses > 0) return;
    if (room.state === "joined" || place2.joining) {
      this.say(room, { type: "leave", request_id: this.requests.nextId() });
    }
    this.#remove(place2);
  }
  close() {
    this.connection.close();
    this.#places.clear();
  }
  /* No connection is opened that nobody closes. */
  #check() {
    if (this.connection.over === "left") throw new ChannelsError("the socket was closed");
  }
  isReady(room) {
    return this.#places.get(room)?.room.state === "joined";
  }
  addressed(room, frame) {
    return { ...frame, channel: room.name };
  }
  #join(place2) {
    if (this.connection.state === "open" && place2.room.state !== "refused") this.#ask([place2]);
  }
  /* Join rooms by one frame. */
  #ask(places) {
    const channels = places.map((place2) => {
      place2.joining = this.requests.nextId();
      return { channel: place2.room.name, request_id: place2.joining, ...sinceOf(place2.room) };
    });
    this.connection.send({ type: "join", ...channels.length > 1 ? { channels } : channels[0] });
  }
  #joined(place2, frame) {
    if (!place2 || place2.joining && frame.request_id && frame.request_id !== place2.joining) return;
    place2.joining = null;
    place2.failures = 0;
    this.requests.received(frame);
    place2.room.joined(frame);
    this.requests.flush(place2.room.name);
  }
  #left(place2, frame) {
    const code = frame.close_code;
    if (!place2 || place2.joining && !code) return;
    if (comesBack(code)) this.#again(place2, null);
    else if (code) this.#over(place2, new Refused(code, frame.reason ?? ""));
    else this.#remove(place2);
  }
  #remove({ room, stop }) {
    this.#places.delete(room.name);
    stop();
    this.requests.refused(wasLeft(), room.name);
    room.become("left");
  }
  #refused(place2, error) {
    place2.joining = null;
    if (error.code === "already_joined") this.#joined(place2, {});
    else if (FOR_NOW.has(error.code)) this.#again(place2, error);
    else this.#over(place2, new Refused(0, error.message, error));
  }
  #over(place2, refusal) {
    this.requests.refused(refusal, place2.room.name);
    place2.room.become("refused", refusal);
  }
  #again(place2, error) {
    const { clock, times } = this.settings;
    const delay = Math.max(times.rejoin, delayAfter(place2.failures++, this.settings), toldToWait(error?.retryAfter));
    place2.room.become("joining", error && new Refused(0, error.message, error));
    place2.stop = clock.after(delay, () => this.#join(place2));
  }
};
function isFor(room, { type, channel, position }) {
  return room.name === channel || type === "event" && !position && !room.position && fits(room.name, channel);
}
function sinceOf({ position, connection }) {
  return position ? { since: position, ...connection && { connection } } : {};
}

// src/index.ts
function createClient(url, options = {}) {
  const settings = settingsOf(options);
  const made = {
    room(address, parameters = {}, { query, ...rest } = {}) {
      const own = { ...settings, query: () => ({ ...settings.query?.(), ...query }) };
      return new Single(own, place(url, address, parameters), address, rest).room;
    },
    socket: (address, parameters = {}) => new Many(settings, place(url, address, parameters)),
    close: () => [...settings.open].forEach((each) => each.close())
  };
  return made;
}
function place(base, address, parameters) {
  const path = address.replace(/\{(\w+)(?::\w+)?\}/g, (_, name) => {
    const value = parameters[name];
    if (value === void 0) throw new TypeError(`${address} wants the parameter ${name}`);
    return encodeURIComponent(value);
  });
  const url = new URL(base, globalThis.location?.href);
  url.protocol = url.protocol.replace(/^http/, "ws");
  url.pathname = url.pathname.replace(/\/$/, "") + path;
  return url.href;
}
export {
  ActionError,
  ChannelsError,
  ConnectionLost,
  NotSent,
  Overflow,
  Refused,
  Room,
  TIMES,
  TimedOut,
  createClient
};
