/** Rooms over HTTP where a WebSocket does not open: the same frames, from a stream of events and by POST. */

import type { Clock } from "./clock.ts";
import { systemClock } from "./clock.ts";
import type { Frame } from "./connection.ts";
import { SUBPROTOCOL } from "./connection.ts";
import { NotSent } from "./errors.ts";
import { BEARER, HTTP_ERROR, NO_EVENTS, Place, Posts, listen, written } from "./http.ts";
import type { Reach } from "./http.ts";
import { Overlap } from "./overlap.ts";
import { json } from "./settings.ts";
import type { Codec, WebSocketLike } from "./settings.ts";

/** Milliseconds, if nothing else is said. */
export const FALLBACK_TIMES = {
  /** What a WebSocket may take to say something, before HTTP is tried: less than the client's `connect`. */
  patience: 5_000,
  /** Until a WebSocket is tried again while there is a stream of events; it doubles with each attempt. */
  again: 30_000,
  /** The most of it. */
  most: 600_000,
  /** What both ways are read for when one takes over from the other. */
  linger: 1_000,
  /** Beyond so long without a byte a stream is not known to be alive: the server sends one every 15 seconds. */
  beat: 20_000,
};

export interface FallbackOptions {
  /** How often in a row a WebSocket may be refused, before HTTP is tried; 2 if nothing is said. */
  refusals?: number;
  /** Whether requests have cookies: `include`, as the handshake of a WebSocket has, if nothing is said. */
  credentials?: RequestCredentials;
  /** That of the client, where it has one. */
  codec?: Codec;
  webSocket?: new (url: string, protocols: string[]) => WebSocketLike;
  fetch?: typeof fetch;
  /** Milliseconds in place of those of `FALLBACK_TIMES`. */
  times?: Partial<typeof FALLBACK_TIMES>;
  clock?: Clock;
}

/** Closes what the client comes back from. */
const COMING_BACK = 3008;
/** A newer connection of the same user took the place. */
const REPLACED = 4509;
/** Frames of the protocol that are of one connection: of two ways, those of the newer count. */
const OWN = new Set([
  "joined", "welcome", "presence", "presence_diff", "lagged", "resync", "drain", "expiring", "authenticated", "response",
]);

/**
 * For the option `webSocket` of `createClient`: a WebSocket where one opens, else the room over HTTP. While that is so,
 * a WebSocket is tried again now and then, and takes over when it opens.
 *
 * For rooms with an address of their own that the server has mounted with `sse=True, http=True`. A `Socket` with many
 * rooms has only its WebSocket, and nobody over HTTP can be asked by the server.
 */
export function withFallback(options: FallbackOptions = {}): new (url: string, protocols: string[]) => WebSocketLike {
  const ways = new Ways(options);
  return class extends FallbackSocket {
    constructor(url: string, protocols: string[]) {
      super(ways, url, protocols);
    }
  };
}

/** What the rooms of one client have learnt of the way to their server. */
class Ways implements Reach {
  readonly times: typeof FALLBACK_TIMES;
  readonly clock: Clock;
  readonly codec: Codec;
  readonly credentials: RequestCredentials;
  readonly fetch: typeof fetch;
  readonly refusals: number;
  readonly #options: FallbackOptions;
  /** Whether HTTP is tried before a WebSocket. */
  isBroken = false;
  /** How often in a row no WebSocket has opened. */
  failures = 0;
  /** Paths that have no events: there it is a WebSocket, or nothing. */
  readonly deaf = new Set<string>();
  readonly #streams = new Set<FallbackSocket>();
  #tries = 0;
  #stop = (): void => {};

  constructor(options: FallbackOptions) {
    const { refusals = 2, credentials = "include", codec = json, clock = systemClock, times } = options;
    this.#options = options;
    this.times = { ...FALLBACK_TIMES, ...times };
    this.fetch = (address, how) => (options.fetch ?? fetch)(address, how);
    [this.refusals, this.credentials, this.codec, this.clock] = [refusals, credentials, codec, clock];
  }

  get webSocket(): (new (url: string, protocols: string[]) => WebSocketLike) | undefined {
    return this.#options.webSocket ?? (globalThis as any).WebSocket;
  }

  /** There is a stream of events. */
  enter(one: FallbackSocket): void {
    this.isBroken = true;
    this.#streams.add(one);
    if (this.#streams.size === 1) this.#later();
  }

  leave(one: FallbackSocket): void {
    if (!this.#streams.delete(one) || this.#streams.size > 0) return;
    this.#stop();
    this.#tries = 0;
  }

  opened(): void {
    this.isBroken = false;
    this.failures = 0;
  }

  #later(): void {
    if (this.webSocket === undefined) return;
    const ceiling = Math.min(this.times.most, this.times.again * 2 ** this.#tries++);
    this.#stop();
    this.#stop = this.clock.after(ceiling * (0.5 + this.clock.random() / 2), () => this.#try());
  }

  #try(): void {
    const [first, ...others] = this.#streams;
    first?.goBack((opens) => {
      if (opens) {
        this.opened();
        for (const other of others) other.goBack(() => {});
      }
      if (this.#streams.size > 0) this.#later();
    });
  }
}

/** Who is told what comes, and from where. */
interface Told {
  opened(by: Way, protocol: string): void;
  message(by: Way, data: string | ArrayBuffer, id: string): void;
  heard(by: Way): void;
  closed(by: Way, code: number, reason: string): void;
  refused(by: Way, frame: Frame, code: number, reason: string): void;
}

/** A way to the room; it tells of its end once, and not if it was closed from here. */
interface Way {
  /** Whether anything came by it. */
  spoke: boolean;
  close(code: number): void;
  /** Where frames are sent by it; else calls are requests of their own. */
  send?(data: string | Uint8Array<ArrayBuffer>): void;
}

function bySocket(ways: Ways, url: string, protocols: readonly string[], told: Told): Way {
  const socket = new ways.webSocket!(url, [...protocols]);
  const deafen = () => { socket.onopen = socket.onmessage = socket.onclose = null; };
  const way: Way = {
    spoke: false,
    close: (code) => {
      deafen();
      socket.close(code);
    },
    send: (data) => socket.send(data),
  };
  socket.binaryType = "arraybuffer";
  // A server that knows the protocol greets: until then a proxy may have opened it, that swallows all.
  socket.onopen = () => { if (socket.protocol !== SUBPROTOCOL) told.opened(way, socket.protocol); };
  socket.onmessage = ({ data }) => told.message(way, data, "");
  socket.onclose = ({ code, reason }) => {
    deafen();
    told.closed(way, code, reason);
  };
  socket.onerror = () => {}; // `close` follows
  return way;
}

function byStream(ways: Ways, place: Place, since: Record<string, string> | null, told: Told): Way {
  const control = new AbortController();
  let isOver = false;
  const way: Way = {
    spoke: false,
    close: () => {
      isOver = true;
      control.abort();
    },
  };
  const end = (tell: () => void) => {
    if (isOver) return;
    way.close(COMING_BACK);
    tell();
  };
  void listen(place, ways.codec, since, control.signal, {
    message: (data, id) => { if (!isOver) told.message(way, data, id); },
    heard: () => { if (!isOver) told.heard(way); },
    closed: (code, reason) => end(() => told.closed(way, code, reason)),
    refused: (frame, code, reason) => end(() => told.refused(way, frame, code, reason)),
  }).catch((error) => end(() => told.closed(way, 1006, String(error))));
  return way;
}

class FallbackSocket implements WebSocketLike {
  binaryType = "arraybuffer";
  protocol = "";
  onopen: ((event: any) => void) | null = null;
  onmessage: ((event: any) => void) | null = null;
  onclose: ((event: any) => void) | null = null;
  onerror: ((event: any) => void) | null = null;
  readonly #ways: Ways;
  readonly #place: Place;
  readonly #posts: Posts;
  readonly #url: string;
  #protocols: readonly string[];
  #way: Way | null = null;
  /* The one that is to take over. */
  #next: Way | null = null;
  /* The one that it was taken over from, while that is still read. */
  #old: Way | null = null;
  /* While there are two, and until the newer one has brought all that the other had. */
  #overlap: Overlap | null = null;
  /* What HTTP has answered in place of a stream. */
  #refusal: Frame | null = null;
  #position = "";
  #connection = "";
  #heard = 0;
  #alive = 0;
  #isAsked = false;
  #wantsStream = false;
  /* What ended the way while another was being tried that may take over. */
  #lost: (() => void) | null = null;
  #stop = (): void => {};
  #tried: (opens: boolean) => void = () => {};

  constructor(ways: Ways, url: string, protocols: readonly string[]) {
    this.#ways = ways;
    this.#url = url;
    this.#protocols = protocols;
    this.#place = new Place(ways, url, protocols);
    this.#posts = new Posts(this.#place, ways.codec, (data) => this.onmessage?.({ data }));
    if (ways.webSocket === undefined || (ways.isBroken && !ways.deaf.has(this.#place.path))) this.#listen();
    else this.#dial();
  }

  send(data: string | Uint8Array<ArrayBuffer>): void {
    const way = this.#way;
    if (way?.send !== undefined && this.#posts.size === 0) return way.send(data);
    const frame = this.#read(typeof data === "string" ? data : data.slice().buffer);
    // What was called by POST goes on there.
    if (frame.type === "cancel" && this.#posts.cancel(frame.request_id)) return;
    if (frame.type === "credit" && this.#posts.give(frame.request_id, frame.count)) return;
    if (way?.send !== undefined) way.send(data);
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

  close(code = 1000): void {
    // Whoever waited for the WebSocket has no more time: next time it is not waited for.
    if (this.#way?.send !== undefined && !this.#way.spoke && code === COMING_BACK) this.#ways.isBroken = true;
    this.#end(code);
  }

  /** Try whether a WebSocket opens, and let it take over. */
  goBack(tried: (opens: boolean) => void): void {
    if (this.#overlap !== null) return tried(false);
    this.#tried = tried;
    this.#begin(() => bySocket(this.#ways, this.#address(), this.#protocols, this.#told));
  }

  #dial(): void {
    const way = bySocket(this.#ways, this.#url, this.#protocols, this.#told);
    this.#way = way;
    this.#stop = this.#ways.clock.after(this.#ways.times.patience, () => this.#failed(way, 1006, "no answer in time", true));
  }

  #listen(): void {
    this.#way = byStream(this.#ways, this.#place, null, this.#told);
  }

  readonly #told: Told = {
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
      if (this.#isAsked || now - this.#alive >= 1_000) this.#sayAlive(now);
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
      if (frame.code === NO_EVENTS && isBroken && webSocket !== undefined && !deaf.has(path)) this.#dial();
      else this.#finish(code, reason);
      if (frame.code === NO_EVENTS) deaf.add(path);
    },
  };

  #speaks(by: Way): void {
    by.spoke = true;
    this.#refusal = null;
    this.#stop();
    if (by.send === undefined) this.#ways.enter(this);
    else {
      this.protocol = SUBPROTOCOL;
      this.#ways.opened();
    }
  }

  /* It has ended before anything came. */
  #failed(by: Way, code: number, reason: string, isSilent: boolean): void {
    const ways = this.#ways;
    this.#stop();
    by.close(COMING_BACK);
    if (by.send === undefined) ways.isBroken = false;
    else if ((++ways.failures >= ways.refusals || isSilent) && this.#refusal === null) return this.#listen();
    this.#finish(code, reason);
  }

  #finish(code: number, reason: string): void {
    this.#end(COMING_BACK);
    if (this.#refusal !== null) this.onmessage?.({ data: written(this.#ways.codec, this.#refusal) });
    this.onclose?.({ code, reason });
  }

  #end(code: number): void {
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
  #renew(): void {
    if (this.#overlap !== null) this.#wantsStream = true;
    else this.#begin(() => byStream(this.#ways, this.#place, this.#since(), this.#told));
  }

  /* Positions of two ways come, and only go on. */
  #move(id: string): void {
    const [epoch, offset] = id.split(":");
    const [before, reached] = this.#position.split(":");
    if (epoch !== before || Number(offset) > Number(reached)) this.#position = id;
  }

  #since(): Record<string, string> {
    return this.#position === "" ? {} : { since: this.#position, connection: this.#connection };
  }

  #address(): string {
    const url = new URL(this.#url);
    for (const [name, value] of Object.entries(this.#since())) url.searchParams.set(name, value);
    return url.href;
  }

  #begin(way: () => Way): void {
    this.#overlap = new Overlap();
    this.#stop = this.#ways.clock.after(this.#ways.times.patience, () => this.#give(false));
    try {
      this.#next = way();
    } catch {
      this.#give(false);
    }
  }

  /* Give the other way up, and stay with the one that there is. */
  #give(opens: boolean): void {
    this.#stop();
    this.#next?.close(COMING_BACK);
    this.#next = this.#overlap = null;
    this.#tell(opens);
    this.#lost?.();
    this.#again();
  }

  #tell(opens: boolean): void {
    const tried = this.#tried;
    this.#tried = () => {};
    tried(opens);
  }

  #again(): void {
    const wanted = this.#wantsStream && this.#way !== null && this.#way.send === undefined;
    this.#wantsStream = false;
    if (wanted) this.#renew();
  }

  /* The first frame by the other way. @returns whether it is the way now */
  #takeOver(by: Way, data: string | ArrayBuffer): boolean {
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
    this.#overlap!.late = true;
    this.#stop = this.#ways.clock.after(this.#ways.times.linger, () => this.#leaveOld());
    if (by.send !== undefined) this.#ways.leave(this);
    this.#tell(by.send !== undefined);
    return true;
  }

  /* The newer way may be behind by a moment. */
  #leaveOld(): void {
    this.#old?.close(COMING_BACK);
    this.#old = null;
    this.#overlap?.end();
    this.#stop = this.#ways.clock.after(this.#ways.times.linger, () => {
      this.#overlap = null;
      this.#again();
    });
  }

  /* What the client is told of what came; null for what it has got by the other way. */
  #sifted(by: Way, data: string | ArrayBuffer): string | ArrayBuffer | null {
    if (this.#overlap === null && (by.send !== undefined || this.#connection !== "")) return data;
    const frame = this.#read(data);
    const isNewer = by !== this.#old;
    if (frame.type === "joined" || frame.type === "welcome") {
      if (isNewer) this.#connection = frame.connection ?? this.#connection;
    }
    if (this.#overlap === null) return data;
    if (OWN.has(frame.type)) {
      if (!isNewer) return null;
      if (!frame.recovered || this.#old === null) return data;
      // What the old way has brought meanwhile comes again.
      return written(this.#ways.codec, { ...frame, position: this.#position });
    }
    if (typeof frame.position === "string") return data; // the room knows whether it is new
    return this.#overlap.isNew(frame, isNewer && this.#overlap.late ? "newer" : "old") ? data : null;
  }

  #read(data: string | ArrayBuffer): Frame {
    try {
      return (this.#ways.codec.decode(data) ?? {}) as Frame;
    } catch {
      return {}; // the client says so itself
    }
  }

  /* Whether anybody is there: the server sends something every few seconds. */
  #ask(): void {
    const now = this.#ways.clock.now();
    if (now - this.#heard <= this.#ways.times.beat) this.#sayAlive(now);
    else this.#isAsked = true;
  }

  #sayAlive(now: number): void {
    this.#alive = now;
    this.#isAsked = false;
    this.onmessage?.({ data: written(this.#ways.codec, { type: "pong" }) });
  }
}
