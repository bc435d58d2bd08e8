/* A WebSocket that comes back by itself, and never hammers.

   States: "connecting", "open", "waiting" for the next attempt, "closed" until somebody asks again.
   Events: "state", and "frame" whose detail is the text that came. */

const RETRY = {
  first: 500, // ms, the ceiling of the first delay; it doubles with each attempt
  most: 30_000, // ms, the highest ceiling
  gap: 1_000, // ms, the least time between the beginnings of two attempts, whatever asks for one
  patience: 10_000, // ms that a handshake may take
  settle: 5_000, // ms that a connection must last before the next loss counts as the first
};

const PING = '{"type":"ping"}'; // the server asks whether anybody is there

/* Going away, lost, server's fault, restart, try again later; and the application's "come back". */
function comesBack(code) {
  return [1001, 1006, 1011, 1012, 1013].includes(code) || (code >= 4000 && code < 4500);
}

/* How long the server wants a client that it closes to stay away, in ms; 0 if it does not say. */
function toldToWait(reason) {
  return 1000 * (/\bretry_after=(\d+(?:\.\d+)?)/.exec(reason)?.[1] ?? 0);
}

/* Full jitter: clients that lost a server together do not come back together. */
function backOff(attempts) {
  return Math.random() * Math.min(RETRY.most, RETRY.first * 2 ** attempts);
}

class Connection extends EventTarget {
  state = "closed";
  code = 0; // of the close that ended the last connection; 0 while there is nothing to tell
  reason = "";
  until = 0; // performance.now() of the next attempt, while waiting
  reached = false; // whether any attempt has ever succeeded
  #address;
  #socket = null;
  #attempts = 0;
  #began = -Infinity;
  #timer = 0;
  #refused = false; // whether the server has said that there is no use in coming back
  #listening = new AbortController();

  /* `address` is called for each attempt. */
  constructor(address) {
    super();
    this.#address = address;
  }

  open() {
    const { signal } = this.#listening;
    addEventListener("online", () => this.#hurry(), { signal });
    document.addEventListener("visibilitychange", () => document.hidden || this.#hurry(), { signal });
    this.#attempt();
  }

  /* Leaves for good. */
  close() {
    this.#listening.abort();
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000);
  }

  /* The server has said no: when it closes, nobody tries again by himself. */
  refuse() {
    this.#refused = true;
    this.reached = false; // it was let in by the door alone
  }

  /* The user's own wish to try again. */
  retry() {
    this.#attempts = 0;
    if (this.state === "closed") this.state = "waiting";
    this.#hurry();
  }

  /* Sends `frame` as JSON; false if there is nobody to send it to. */
  send(frame) {
    if (this.state !== "open") return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  #become(state) {
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }

  #attempt() {
    this.#began = performance.now();
    this.#refused = false;
    this.#become("connecting");
    const socket = new WebSocket(this.#address());
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.#timer = setTimeout(() => socket.close(), RETRY.patience);
    const whileCurrent = (react) => (event) => socket === this.#socket && react(event);
    socket.addEventListener("open", whileCurrent(() => this.#opened()));
    socket.addEventListener("message", whileCurrent((event) => this.#received(event.data)));
    socket.addEventListener("close", whileCurrent((event) => this.#lost(event)));
  }

  #opened() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => { this.#attempts = 0; }, RETRY.settle);
    this.code = 0;
    this.#become("open");
    this.reached = true;
  }

  #received(data) {
    const text = typeof data === "string" ? data : new TextDecoder().decode(data);
    if (text === PING) this.send({ type: "pong" });
    else this.dispatchEvent(new CustomEvent("frame", { detail: text }));
  }

  #lost({ code, reason }) {
    clearTimeout(this.#timer);
    this.#socket = null;
    this.code = code;
    this.reason = reason;
    if (comesBack(code) && !this.#refused) this.#wait(Math.max(backOff(this.#attempts++), toldToWait(reason)));
    else this.#become("closed");
  }

  #wait(delay) {
    const now = performance.now();
    this.until = Math.max(now + delay, this.#began + RETRY.gap);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#attempt(), this.until - now);
    this.#become("waiting");
  }

  #hurry() {
    if (this.state === "waiting") this.#wait(0);
  }
}
