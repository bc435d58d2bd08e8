/** One room, as an application sees it: what is called there, what is told, and what may have been missed. */

import type { Frame, State } from "./connection.ts";
import { ChannelsError, wasLeft } from "./errors.ts";
import type { Refused } from "./errors.ts";
import { Feed } from "./feed.ts";
import { NOBODY, after, changeOf } from "./presence.ts";
import type { Presence, PresenceChange } from "./presence.ts";
import type { Asker, CallOptions, Request, Requests, StreamOptions } from "./requests.ts";
import type { Settings } from "./settings.ts";
import { MOST_UNTAKEN, WINDOW } from "./settings.ts";
import type {
  ActionName, Answer, AnyWords, Asked, CallName, EventData, EventName, Given, Item, Payload, Repeatable, Reply, Shown, StreamName,
} from "./types.ts";

/** `joining` also while it is joined again; `refused` for good, until `retry()`. */
export type RoomState = "left" | "joining" | "joined" | "refused";

/** What came with an event. */
export interface About {
  event: string;
  /** The room it was sent to; `*` for what was sent to this client alone, or to all of its user. */
  channel: string;
  /** In the room's history; empty where it has none. */
  position: string;
}

/** Something of the room may be missing here: load its state again. */
export interface Gap {
  /**
   * `away`: the connection was lost, and the room has no history. `epoch`, `expired`, `limit`: it has one, that does
   * not reach so far. `resync`: the server missed something. `lagged`: this client was too slow.
   */
  reason: "away" | "epoch" | "expired" | "limit" | "resync" | "lagged";
  /** How many were left out, where the server counts them. */
  dropped: number | null;
}

/** A part of a room's history. */
export interface HistoryPage {
  /** Frames as they were sent, with their positions. */
  items: Frame[];
  /** The newest of the room. */
  position: string;
  /** `since` of the next page; null at the end. */
  next: string | null;
  /** Whether nothing is missing between `since` and the first item. */
  complete: boolean;
}

export interface RoomOptions {
  /** Where an earlier client of the room has been: its `position`. What came since is told. */
  since?: string;
}

/** What a room needs of the WebSocket that it is on. */
export interface Line {
  readonly settings: Settings;
  readonly state: State;
  readonly connection: { readonly until: number };
  readonly requests: Requests;
  retry(room: Room<any>): void;
  release(room: Room<any>): void;
  /** Send what is answered with no reply. */
  say(room: Room<any>, frame: Frame): void;
  ask(room: Room<any>, frame: Frame, options: StreamOptions & { retry?: boolean }, asker: Asker): Request | null;
}

type Listener = (data: any, about: About) => unknown;

export class Room<W = AnyWords> {
  /** Its name, on a socket with many; else the address. */
  declare readonly name: string;
  state: RoomState = "joining";
  /** Why, where it is refused; while it is being joined, what the server said to the last attempt, if it said no. */
  refusal: Refused | null = null;
  /** Of the newest event, in a room with history: keep it to come back in another page. */
  declare position: string;
  /** The id of the connection, as the server knows it; empty before it is joined. */
  connection = "";
  /** Who is here, in a room with presence. While the room is joined again, who was. */
  presence: Presence<Shown<W>> = NOBODY;
  readonly #line: Line;
  readonly #listeners = new Map<string, Set<Listener>>();
  readonly #handlers = new Map<string, (data: any) => unknown>();
  readonly #gaps = new Set<(gap: Gap) => void>();
  readonly #states = new Set<(state: RoomState) => void>();
  readonly #changes = new Set<(change: PresenceChange<any>) => void>();
  readonly #frames = new Set<(frame: Frame) => void>();
  readonly #all = new Set<Listener>();
  /* Offsets up to this one have been told. */
  #told: number;
  /* Whether the server is asked for what it has dropped. What comes meanwhile comes again with it. */
  #isBehind = false;
  #wasJoined: boolean;
  #lineTold: State | null = null;

  /** @internal */
  constructor(line: Line, name: string, options: RoomOptions) {
    this.#line = line;
    this.name = name;
    this.position = options.since ?? "";
    this.#told = offsetOf(this.position);
    this.#wasJoined = this.position !== "";
  }

  /** The connection below: `waiting` says that it is lost and will be tried again. */
  get line(): State {
    return this.#line.state;
  }

  /** When the next attempt begins, in milliseconds since 1970, while the line is `waiting`. */
  get until(): number {
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
  call<N extends ActionName<W>>(
    name: N,
    ...[payload, options]: Given<Payload<W, N>, CallOptions & { retry?: Repeatable<W, N> extends true ? boolean : false }>
  ): Promise<Reply<W, N>> {
    return new Promise((resolve, reject) => {
      const asked = { timeout: this.#line.settings.times.call, ...options };
      const request = this.#line.ask(this as Room<any>, called(name, payload), asked, {
        reply: resolve as (data: unknown) => void,
        fail: reject,
        item: () => this.#line.requests.cancel(request!, new ChannelsError(`${name} streams: read it with stream()`)),
      });
    });
  }

  /**
   * Call an action that streams. Leaving the loop, or the signal, ends it on the server too.
   *
   * @throws RangeError: there is no such window. The loop throws as `call`
   */
  stream<N extends StreamName<W>>(
    name: N,
    ...[payload, options]: Given<Payload<W, N>, StreamOptions>
  ): AsyncIterableIterator<Item<W, N>, undefined> {
    const { window = WINDOW } = options ?? {};
    if (window !== null && !(window > 0 && window <= MOST_UNTAKEN && Number.isInteger(window))) {
      throw new RangeError(`window: 1 to ${MOST_UNTAKEN}, or null; not ${window}`);
    }
    let request: Request | null = null;
    let taken = 0;
    const feed = new Feed<Item<W, N>>(() => {
      if (request) this.#line.requests.cancel(request, new ChannelsError("left"));
    }, () => {
      if (!request || !window || 2 * ++taken < window) return;
      this.#line.requests.give(request, taken);
      taken = 0;
    });
    request = this.#line.ask(this as Room<any>, called(name, payload), { ...options, window }, {
      item: (data) => feed.push(data as Item<W, N>),
      reply: (data) => {
        if (data != null) feed.push(data as Item<W, N>);
        feed.end();
      },
      fail: (error) => feed.fail(error),
    });
    return feed;
  }

  /**
   * Read the history of the room by pages, the newest first; with `reverse: false` from the oldest on. For a channel with
   * the `history_router`.
   *
   * @throws as `call`
   */
  async *history(
    ...[asked, options]: Given<Payload<W, "history">, CallOptions>
  ): AsyncGenerator<HistoryPage, void, undefined> {
    const room = this as unknown as Room;
    for (let next: object | null = {}; next !== null; ) {
      const page = await room.call("history", { ...(asked as object), ...next }, options) as HistoryPage;
      yield page;
      next = page.next === null ? null : { since: page.next };
    }
  }

  /** Hear an event. @returns what takes it back */
  on<N extends EventName<W>>(name: N, listener: (data: EventData<W, N>, about: About) => void): () => void {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners);
    return added(listeners, listener);
  }

  /** Hear all events, those too that the types do not know. */
  onAny(listener: (data: unknown, about: About) => void): () => void {
    return added(this.#all, listener);
  }

  /**
   * The events of a name from now on, one after the other. Ends when the room is left, and throws if it is refused: at
   * once, where it is already.
   */
  events<N extends EventName<W>>(name: N): AsyncIterableIterator<EventData<W, N>, undefined> {
    const feed = new Feed<EventData<W, N>>(() => {
      deaf();
      end();
    });
    const hear = (state: RoomState) => {
      if (state === "left") feed.end();
      else if (state === "refused") feed.fail(this.refusal);
    };
    const deaf = this.on(name, (data) => feed.push(data));
    const end = this.onState(hear);
    hear(this.state);
    return feed;
  }

  /** Say who answers what the server asks; one for each name. What it throws is the answer's error. */
  answer<N extends CallName<W>>(
    name: N, handler: (data: Asked<W, N>) => Answer<W, N> | Promise<Answer<W, N>>,
  ): () => void {
    this.#handlers.set(name, handler);
    return () => { if (this.#handlers.get(name) === handler) this.#handlers.delete(name); };
  }

  /** Hear that something may have been missed. */
  onGap(listener: (gap: Gap) => void): () => void {
    return added(this.#gaps, listener);
  }

  /** Hear that `state` is another one; or, while it is `joining`, that `line` or `refusal` is. */
  onState(listener: (state: RoomState) => void): () => void {
    return added(this.#states, listener);
  }

  /** Hear that `presence` is another one. When the room is over for this client, nobody is in it, and nobody has `left`. */
  onPresence(listener: (change: PresenceChange<Shown<W>>) => void): () => void {
    return added(this.#changes, listener);
  }

  /** Hear frames that are not of the protocol, as applications in the upstream style send them. */
  onFrame(listener: (frame: Frame) => void): () => void {
    return added(this.#frames, listener);
  }

  /** Resolves when the room is joined. @throws Refused */
  async ready(): Promise<this> {
    while (this.state === "joining") {
      await new Promise<void>((resolve) => {
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
  retry(): void {
    this.#line.retry(this as Room<any>);
  }

  leave(): void {
    this.#line.release(this as Room<any>);
  }

  /* What the line below says. */

  /** @internal The room is joined; `frame` says where, in a room with history. */
  joined(frame: Frame | null): void {
    const position: string | undefined = frame?.position;
    let gap: Gap["reason"] | null = null;
    this.#isBehind = false;
    if (position === undefined) {
      if (this.#wasJoined && !this.position) gap = "away";
    } else {
      // Without `recovered` the latest event may follow, which stands at this position itself.
      this.#told = offsetOf(position) - (frame?.recovered === undefined ? 1 : 0);
      this.position = position;
      if (frame?.recovered === false) gap = frame.reason ?? "expired";
    }
    this.connection = frame?.connection ?? this.connection;
    this.#wasJoined = true;
    this.become("joined");
    if (gap) this.#gap(gap);
  }

  /** @internal */
  become(state: RoomState, refusal: Refused | null = null): void {
    const waits = state === "joining" && (this.line !== this.#lineTold || this.refusal !== refusal);
    if (this.state === state && !waits) return;
    this.#lineTold = this.line;
    this.state = state;
    this.refusal = refusal;
    if (state === "joining") this.presence = { ...this.presence, version: null };
    else if (state !== "joined") this.#show(NOBODY, NOBODY); // who stays there has not gone
    this.#tell(this.#states, state);
  }

  /** @internal */
  received(frame: Frame): void {
    if (frame.type === "event") this.#event(frame);
    else if (frame.type === "call") void this.#asked(frame);
    // Without a version it is an application's own frame of that name.
    else if (/^presence(_diff)?$/.test(frame.type) && Number.isInteger(frame.version)) this.#present(frame);
    else if (frame.type === "lagged") this.#lagged(frame);
    else if (frame.type === "resync") {
      if (frame.position !== undefined) this.#move(frame.position);
      this.#gap("resync");
    } else this.#tell(this.#frames, frame);
  }

  #event({ event, channel, data, position = "" }: Frame): void {
    // The position moves before anybody is told: who leaves and joins in a listener gets nothing twice.
    if (position && (this.#isBehind ? this.#isNear(position) : !this.#move(position))) return;
    this.#tell([...(this.#listeners.get(event) ?? []), ...this.#all], data, { event, channel, position });
  }

  /* Go on to a position. @returns whether it lies ahead */
  #move(position: string): boolean {
    const offset = offsetOf(position);
    if (this.#isNear(position) && offset <= this.#told) return false;
    this.#told = offset;
    this.position = position;
    return true;
  }

  /* Whether it is of the history that the position is of. */
  #isNear(position?: string): boolean {
    return position?.split(":")[0] === this.position.split(":")[0];
  }

  /* The server has dropped events here. In a room with history it is asked for them. */
  #lagged({ since, dropped }: Frame): void {
    if (this.#isBehind) return; // what it is asked for has these too
    this.#isBehind = this.#isNear(since);
    if (!this.#isBehind) this.#gap("lagged", dropped);
    else this.#line.ask(this as Room<any>, { type: "join", since: this.position }, {}, {
      reply() {}, // `joined` says more
      item() {},
      // Where the server has not said no, the connection is lost, or the room left.
      fail: (error: any) => { if (error.code) this.#gap("lagged"); },
    });
  }

  #present(frame: Frame): void {
    const now = after(this.presence, frame);
    if (now) this.#show(now);
    else if (this.presence.version !== null) {
      // Asked once: until everybody comes, no other difference fits.
      this.presence = { ...this.presence, version: null };
      this.#line.say(this as Room<any>, { type: "presence" });
    }
  }

  #show(now: Presence<any>, before = this.presence): void {
    const { size } = this.presence.devices;
    this.presence = now;
    if (size + now.devices.size > 0) this.#tell(this.#changes, changeOf(before, now));
  }

  async #asked({ call, call_id, data }: Frame): Promise<void> {
    const handler = this.#handlers.get(call);
    const answer = (said: Frame) => this.#line.say(this as Room<any>, { type: "answer", call_id, ...said });
    try {
      if (!handler) throw new ChannelsError(`nobody here answers ${call}`);
      answer({ data: (await handler(data)) ?? null });
    } catch (error: any) {
      // Also an answer that is too large: the server need not wait for it.
      this.#tell([answer], { errors: error?.message ?? String(error) });
      if (!(error instanceof ChannelsError)) this.#line.settings.onError(error);
    }
  }

  #gap(reason: Gap["reason"], dropped: number | null = null): void {
    this.#isBehind = false;
    this.#tell(this.#gaps, { reason, dropped });
  }

  #tell<T extends unknown[]>(listeners: Iterable<(...told: T) => unknown>, ...told: T): void {
    // A copy: who listens may change meanwhile. Awaited for what an async one rejects with, which is nobody else's.
    [...listeners].forEach(async (listener) => {
      try {
        await listener(...told);
      } catch (error) {
        this.#line.settings.onError(error);
      }
    });
  }
}

function added<T>(all: Set<T>, one: T): () => void {
  all.add(one);
  return () => void all.delete(one);
}

/* The first key is the action, and it is the one that was asked for, whatever the payload has. */
const called = (action: string, payload: unknown): Frame => Object.assign({ action }, payload as object, { action });
const offsetOf = (position: string): number => Number(position.split(":")[1] ?? -1);
