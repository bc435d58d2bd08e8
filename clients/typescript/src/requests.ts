/** What was asked and is not settled yet: each ends in exactly one way, and then nothing of it is left. */

import { ActionError, CONNECTION_LOST, ChannelsError, ConnectionLost, NotSent, TimedOut } from "./errors.ts";
import type { Frame } from "./connection.ts";
import { toldToWait } from "./connection.ts";
import type { RoomState } from "./room.ts";
import type { Settings } from "./settings.ts";
import { MOST_WAITING, MOST_WAITING_BYTES } from "./settings.ts";

/** Errors after which the same call may be made again: nothing was done, or it is being done. */
const AGAIN = new Set(["in_progress", "unavailable", "rate_limited", CONNECTION_LOST]);

export interface CallOptions {
  /** Milliseconds that it may take, waiting for the room included. Of a stream: until its next item; none by default. */
  timeout?: number;
  /** Cancels it, on the server too. */
  signal?: AbortSignal;
}

export interface StreamOptions extends CallOptions {
  /**
   * Items that the server may be ahead of those that were taken: 1 to 1,024, 64 if nothing is said; null for any number,
   * which may be more than are kept. A server that does not know windows sends all.
   */
  window?: number | null;
}

/** Who waits for the end of a request. */
export interface Asker {
  reply(data: unknown): void;
  /** One of several replies. */
  item(data: unknown): void;
  fail(error: unknown): void;
}

export interface Asked extends StreamOptions {
  frame: Frame;
  /** Whether the same request may be sent twice, as that of an idempotent action. */
  retry?: boolean;
}

export interface Request extends Asked {
  /** The room's name, as far as requests of several are told apart. */
  readonly room: string;
  readonly asker: Asker;
  readonly size: number;
  sent: boolean;
  /** What is to be stopped with it. */
  readonly end: (() => void)[];
  /** Items that the server may send yet. */
  credit: number;
  /** That have come. */
  items: number;
  /** Begins its time anew; it stands still while the server may send nothing. */
  wait(): void;
}

/** A text that nobody guesses: it tells a client without a user from others. */
export function secret(): string {
  return crypto.getRandomValues(new Uint8Array(16)).join("");
}

/** What carries them. */
export interface Carrier {
  readonly settings: Settings;
  /** What the server has said of itself. */
  readonly welcome: Frame;
  /** Send a frame to a room. @returns false while that is not joined */
  send(frame: Frame, room: string): boolean;
}

export class Requests {
  readonly #carrier: Carrier;
  readonly #all = new Map<string, Request>();
  readonly #prefix = secret();
  #count = 0;

  constructor(carrier: Carrier) {
    this.#carrier = carrier;
  }

  nextId(): string {
    return `${this.#prefix}-${++this.#count}`;
  }

  /** @param state of its room: while that is being joined, it waits for `flush` */
  ask(asked: Asked, room: string, state: RoomState, asker: Asker): Request | null {
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
    const request: Request = { ...asked, room, asker, size, sent: false, end: [], credit: Infinity, items: 0, wait() {} };
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
  flush(room: string): void {
    for (const request of this.#all.values()) {
      if (!request.sent && request.room === room) this.#dispatch(request);
    }
  }

  /** The connection is lost: who may be repeated waits for the next; nobody knows of the others that were sent. */
  lost(): void {
    for (const request of this.#all.values()) {
      if (!request.sent) continue;
      if (request.retry) request.sent = false;
      else this.#fail(request, new ConnectionLost("lost before the reply"));
    }
  }

  /** The room, or all of them, will not be joined. */
  refused(error: Error, room?: string): void {
    for (const request of this.#all.values()) {
      if (room !== undefined && request.room !== room) continue;
      this.#fail(request, new (request.sent ? ConnectionLost : NotSent)(error.message, { cause: error }));
    }
  }

  /** @returns whether the frame answers a request of ours */
  received(frame: Frame): boolean {
    const request = this.#all.get(frame.request_id);
    if (!request) return false;
    if (frame.code !== undefined) this.#failed(request, new ActionError(frame));
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
  give(request: Request, count: number): void {
    if (request.credit === Infinity) return;
    request.credit += count;
    this.#carrier.send({ type: "credit", request_id: request.frame.request_id, count }, request.room);
    request.wait();
  }

  /** Nobody waits for it any more; the server is told to stop. */
  cancel(request: Request, reason: unknown): void {
    if (this.#all.get(request.frame.request_id) !== request) return;
    this.#fail(request, reason);
    if (request.sent) this.#carrier.send({ type: "cancel", request_id: request.frame.request_id }, request.room);
  }

  #limit(request: Request, timeout: number): void {
    const expire = (): void => {
      const action = request.frame.action;
      const error = request.sent
        ? new TimedOut(`no reply to ${action} in ${timeout} ms`)
        : new NotSent(`${action} waited ${timeout} ms`);
      this.cancel(request, error);
    };
    let stop = (): void => {};
    request.wait = () => {
      stop();
      if (request.credit > 0) stop = this.#carrier.settings.clock.after(timeout, expire);
    };
    request.wait();
    request.end.push(() => stop());
  }

  #dispatch(request: Request): void {
    if (request.window && "max_window" in this.#carrier.welcome) request.frame.window = request.credit = request.window;
    try {
      request.sent = this.#carrier.send(request.frame, request.room);
    } catch (error) {
      this.#fail(request, error);
    }
  }

  #failed(request: Request, error: ActionError): void {
    if (!request.retry || !AGAIN.has(error.code)) {
      this.#fail(request, error.code === CONNECTION_LOST ? new ConnectionLost(error.message) : error);
      return;
    }
    request.sent = false;
    const wait = Math.max(toldToWait(error.retryAfter), this.#carrier.settings.times.rejoin);
    request.end.push(this.#carrier.settings.clock.after(wait, () => { if (!request.sent) this.#dispatch(request); }));
  }

  #fail(request: Request, error: unknown): void {
    this.#forget(request);
    request.asker.fail(error);
  }

  #forget(request: Request): void {
    this.#all.delete(request.frame.request_id);
    for (const end of request.end.splice(0)) end();
  }

  #refuse(asker: Asker, error: unknown): null {
    asker.fail(error);
    return null;
  }
}
