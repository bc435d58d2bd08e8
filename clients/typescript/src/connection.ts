/** One WebSocket that comes back by itself, and never hammers. What travels over it is no business of this file. */

import { ActionError, NotSent, Refused } from "./errors.ts";
import type { Settings, WebSocketLike } from "./settings.ts";

/** Offered to the server: it greets us, answers every request, and tells us in frames why it refuses. */
export const SUBPROTOCOL = "fastapi-channels.1";

/** `closed` is for good, until somebody calls `retry()`; `waiting` for the next attempt. */
export type State = "idle" | "connecting" | "open" | "waiting" | "closed";

export type Frame = Record<string, any>;

/** Whose connection it is. */
export interface Owner {
  /** The query of the next handshake, for what has been received so far. */
  address(): string;
  opened(): void;
  received(frame: Frame): void;
  /** It is gone: for good, if the state is "closed" or "idle". */
  lost(): void;
}

/** Going away, no code, lost, server's fault, restart, try again later, bad gateway; and the application's own. */
export function comesBack(code: number): boolean {
  return /^(100[156]|101[1-4]|3008|4[0-4]..)$/.test(`${code}`);
}

/** Seconds that a server wants its client to stay away, in milliseconds; 0 if it does not say. */
export const toldToWait = (seconds: any): number => 1000 * (seconds ?? 0);

/** A time before another attempt. Full jitter: clients that lost a server together do not come back together. */
export function delayAfter(failures: number, { clock, times }: Settings): number {
  return clock.random() * Math.min(times.most, times.first * 2 ** failures);
}

/* What a client closes with that comes back: those in its rooms are not told that it has gone. */
const COMING_BACK = 3008;
/* All of them reach the window: that a page is hidden or not is told to the document, and bubbles. */
const WHERE = ["online", "offline", "pageshow", "pagehide", "resume", "visibilitychange"] as const;

export class Connection {
  state: State = "idle";
  /** Why it is closed; while it is not, what the server said to the last attempt, if it said no. */
  refusal: Refused | null = null;
  /** When the next attempt begins, by the clock; only while waiting. */
  until = 0;
  /** What the server has said of itself, and of the most that it takes; while it is open. */
  welcome: Frame = {};
  readonly #settings: Settings;
  readonly #owner: Owner;
  #socket: WebSocketLike | null = null;
  /* Each attempt has a number: what an older one still says is not heard. */
  #attempt = 0;
  #failures = 0;
  #began = -Infinity;
  #said: ActionError | undefined;
  /* How often in a row a token was refused because it was over. */
  #expired = 0;
  #retryAfter = 0;
  #heard = 0;
  #ticked = 0;
  #asked = false;
  readonly #timers = new Set<() => void>();
  /* Ends that the page is listened to. */
  #deaf: AbortController | null = null;

  /** What has become of its rooms for good, or until `retry()`; null while it is there, or comes back. */
  get over(): "refused" | "left" | null {
    return this.state === "closed" ? "refused" : this.state === "idle" ? "left" : null;
  }

  constructor(settings: Settings, owner: Owner) {
    this.#settings = settings;
    this.#owner = owner;
  }

  /** Connect, if it is not under way: at once, or as soon as it may be; also after a refusal. */
  retry(): void {
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
  close(): void {
    if (this.state === "idle") return;
    this.#deaf?.abort();
    this.#deaf = null;
    this.#settings.open.delete(this);
    this.#drop(1000);
    this.refusal = null;
    this.state = "idle";
    this.#owner.lost();
  }

  /**
   * @returns whether it was sent: false while the connection is not open
   * @throws NotSent: the server would close for its size
   */
  send(frame: Frame): boolean {
    if (this.state !== "open") return false;
    const body = this.#settings.codec.encode(frame);
    const most = this.welcome.max_message_size; // where none is said, no size is above it
    const size = typeof body !== "string" ? body.length : 3 * body.length > most ? new TextEncoder().encode(body).length : 0;
    if (size > most) throw new NotSent(`a message may have ${most} bytes, not ${size}`);
    this.#socket!.send(body);
    return true;
  }

  /** There is reason to doubt that anybody is there. */
  #doubt(): void {
    if (this.state === "open") this.#ask(this.#settings.times.probe);
    else if (this.state === "waiting") this.#wait(0);
  }

  #listen(): void {
    if (this.#deaf || !globalThis.addEventListener) return;
    const listen = (event: Event) => {
      if (event.type === "pagehide") this.#suspend();
      else if (event.type !== "visibilitychange" || !document.hidden) this.#doubt();
    };
    this.#deaf = new AbortController();
    const { signal } = this.#deaf;
    for (const name of WHERE) globalThis.addEventListener(name, listen, { signal });
  }

  /* A page with an open WebSocket is not kept for the way back. `pageshow` calls it to life again. */
  #suspend(): void {
    if (this.state !== "open" && this.state !== "connecting") return;
    this.#drop();
    this.until = Infinity;
    this.state = "waiting";
    this.#owner.lost();
  }

  async #begin(): Promise<void> {
    const { clock, times } = this.#settings;
    const attempt = ++this.#attempt;
    const mine = <T>(react: (event: T) => void) => (event: T) => { if (attempt === this.#attempt) react(event); };
    this.#began = clock.now();
    this.#said = undefined;
    this.#retryAfter = 0;
    this.welcome = {};
    this.#later(times.connect, () => this.#lost());
    this.state = "connecting";
    const protocols = [SUBPROTOCOL, ...(this.#settings.protocols ?? [])];
    try {
      // Also where there is none: who asks for a room and leaves it at once, as components do, has dialed nobody.
      const token = await this.#token();
      if (token) protocols.push(`bearer.${token}`);
    } catch (error) {
      if (attempt === this.#attempt) this.#lost(error instanceof Refused ? 0 : 1006, String(error));
      this.#settings.onError(error);
    }
    if (attempt !== this.#attempt) return;
    try {
      const WebSocketClass = this.#settings.webSocket ?? (globalThis as any).WebSocket;
      if (!WebSocketClass) throw new TypeError("no WebSocket: use the option webSocket");
      const socket: WebSocketLike = this.#socket = new WebSocketClass(this.#owner.address(), protocols);
      socket.binaryType = "arraybuffer";
      // A server that chose another subprotocol need not greet.
      socket.onopen = mine(() => { if (socket.protocol !== SUBPROTOCOL) this.#opened(); });
      socket.onmessage = mine((event) => this.#read(event.data));
      socket.onclose = mine(({ code, reason }) => this.#lost(code, reason));
      socket.onerror = () => {}; // `close` follows; `ws` throws where nobody listens
    } catch (error) {
      // A wrong address, or no WebSocket here: it would be the same each time.
      this.#lost(0, String(error));
    }
  }

  #read(data: string | ArrayBuffer): void {
    try {
      const frame = this.#settings.codec.decode(data);
      if (Object(frame) !== frame) throw new TypeError("no frame");
      this.#received(frame as Frame);
    } catch (error) {
      this.#settings.onError(error);
    }
  }

  #opened(): void {
    if (this.state !== "connecting") return;
    const { clock, times } = this.#settings;
    this.#forget();
    this.#heard = this.#ticked = clock.now();
    this.#asked = false;
    this.#later(times.settle, () => { this.#failures = 0; });
    this.#tick();
    this.state = "open";
    this.#owner.opened();
  }

  #received(frame: Frame): void {
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
  async #token(): Promise<string | undefined> {
    const { token } = this.#settings;
    const brought = await token?.();
    if (token && (typeof brought !== "string" || !/^[\w!#$%&'*+.^`|~-]+$/.test(brought))) {
      throw new Refused(0, "token: not of the characters of HTTP tokens");
    }
    return brought;
  }

  /* The token ends soon: a new one on the open socket saves coming back. Without one the server closes with 4001. */
  async #refresh(): Promise<void> {
    const attempt = this.#attempt;
    try {
      const token = await this.#token();
      if (token && attempt === this.#attempt) this.send({ type: "refresh", token });
    } catch (error) {
      this.#settings.onError(error);
    }
  }

  #tick(): void {
    const { clock, times } = this.#settings;
    this.#later(times.tick, () => {
      const now = clock.now();
      // Timers that are late say that the machine slept, or that the tab is throttled: then an answer comes.
      const slept = now - this.#ticked > 3 * times.tick;
      this.#ticked = now;
      this.#tick();
      if (slept) this.#ask(times.probe);
      else if (now - this.#heard >= times.silence) this.#ask(times.pong);
    });
  }

  #ask(within: number): void {
    if (this.#asked || this.state !== "open") return;
    this.#asked = true;
    this.send({ type: "ping" });
    this.#later(within, () => { if (this.#asked) this.#lost(); });
  }

  #lost(code = 1006, reason = "no answer"): void {
    const told = Math.max(this.#retryAfter, toldToWait(/\bretry_after=(\d+(?:\.\d+)?)/.exec(reason)?.[1]));
    const said = this.#said;
    this.#expired = said?.code === "token_expired" ? this.#expired + 1 : 0;
    // A new token that is over as well: the next would be too.
    const back = comesBack(code) && this.#expired < 2;
    this.#drop();
    this.refusal = back && !said ? null : new Refused(code, reason, said);
    if (back) {
      this.state = "waiting";
      this.#wait(Math.max(delayAfter(this.#failures++, this.#settings), told));
    } else this.state = "closed";
    this.#owner.lost();
  }

  #wait(delay: number): void {
    const now = this.#settings.clock.now();
    this.#forget();
    this.until = Math.max(now + delay, this.#began + this.#settings.times.gap);
    this.#later(this.until - now, () => void this.#begin());
  }

  /* Let go of the socket, without waiting for a close that may never come. To the server 1000 means to leave. */
  #drop(code = COMING_BACK): void {
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

  #later(delay: number, run: () => void): void {
    const cancel = this.#settings.clock.after(delay, () => {
      this.#timers.delete(cancel);
      run();
    });
    this.#timers.add(cancel);
  }

  #forget(): void {
    for (const cancel of this.#timers) cancel();
    this.#timers.clear();
  }
}
