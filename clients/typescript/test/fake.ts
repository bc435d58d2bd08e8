/** A server, a network and a clock whose every move the test decides. */

import type { Clock } from "../src/clock.ts";
import type { Frame } from "../src/connection.ts";
import { SUBPROTOCOL } from "../src/connection.ts";
import { createClient } from "../src/index.ts";
import type { ClientOptions } from "../src/index.ts";

export class FakeClock implements Clock {
  time = 1_000_000;
  /** What `random` gives. */
  chance: () => number = () => 0.5;
  #timers: { at: number; run: () => void }[] = [];

  now = (): number => this.time;
  random = (): number => this.chance();

  after = (milliseconds: number, run: () => void): (() => void) => {
    const timer = { at: this.time + milliseconds, run };
    this.#timers.push(timer);
    return () => { this.#timers = this.#timers.filter((each) => each !== timer); };
  };

  get pending(): number {
    return this.#timers.length;
  }

  /** Let time pass, and what is due happen in its order. */
  async pass(milliseconds: number): Promise<void> {
    const end = this.time + milliseconds;
    await settle();
    for (;;) {
      const next = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.#timers = this.#timers.filter((each) => each !== next);
      this.time = Math.max(this.time, next.at);
      next.run();
      await settle();
    }
    this.time = end;
  }

  /** The machine sleeps: time passes, and no timer runs before it wakes. */
  async sleep(milliseconds: number): Promise<void> {
    this.time += milliseconds;
    await this.pass(0);
  }
}

/** Numbers as `random` gives them, the same each time: by the golden ratio, so that they lie evenly. */
export function evenly(): () => number {
  let count = 0;
  return () => (++count * 0.618_033_988_749) % 1;
}

/** Let everything go on that waits for nothing but its turn. */
export async function settle(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

export class FakeSocket {
  binaryType = "";
  protocol = "";
  onopen: ((event: any) => void) | null = null;
  onmessage: ((event: any) => void) | null = null;
  onclose: ((event: any) => void) | null = null;
  onerror: ((event: any) => void) | null = null;
  readonly url: string;
  readonly protocols: string[];
  /** What the client has sent. */
  readonly sent: Frame[] = [];
  /** Whether the client has let go of it. */
  closed = false;
  code = 0;
  /** Nothing that is said arrives, on either side. */
  dead = false;
  /** Whether the server has let it into its room, where a test has such a server. */
  placed = false;
  heard: (frame: Frame) => void = () => {};

  constructor(url: string, protocols: string[]) {
    this.url = url;
    this.protocols = protocols;
  }

  send(data: any): void {
    const frame = JSON.parse(typeof data === "string" ? data : new TextDecoder().decode(data));
    this.sent.push(frame);
    if (!this.dead) this.heard(frame);
  }

  close(code: number): void {
    this.code = code;
    this.closed = true; // its close event may never come
  }

  accept(protocol = SUBPROTOCOL): void {
    this.protocol = protocol;
    this.onopen?.({});
  }

  say(frame: Frame | string): void {
    if (!this.dead) this.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
  }

  welcome(said: Frame = {}): void {
    this.accept();
    this.say({ type: "welcome", connection: "c.1", max_message_size: 65536, ...said });
  }

  shut(code: number, reason = ""): void {
    this.closed = true;
    this.onclose?.({ code, reason });
  }

  query(): Record<string, string> {
    return Object.fromEntries(new URL(this.url).searchParams);
  }

  last(): Frame {
    return this.sent.at(-1)!;
  }

  reply(data: unknown, more?: boolean): void {
    const { action, request_id, channel } = this.last();
    this.say({ type: "response", action, request_id, channel, status: "ok", data, ...(more !== undefined && { more }) });
  }

  fail(code: string, said: Frame = {}): void {
    const { action, request_id } = this.last();
    this.say({ type: "response", action, request_id, status: "bad", data: null, errors: code, code, ...said });
  }
}

export class World {
  readonly clock = new FakeClock();
  readonly sockets: FakeSocket[] = [];
  readonly errors: unknown[] = [];
  /** What becomes of each new socket. */
  arrives: (socket: FakeSocket) => void = () => {};

  /** What a client dials. */
  get webSocket(): new (url: string, protocols: string[]) => FakeSocket {
    const { sockets } = this;
    const arrive = (socket: FakeSocket) => {
      sockets.push(socket);
      this.clock.after(1, () => this.arrives(socket));
    };
    return class extends FakeSocket {
      constructor(url: string, protocols: string[]) {
        super(url, protocols);
        arrive(this);
      }
    };
  }

  client(options: ClientOptions = {}) {
    return createClient("http://example.com/app", {
      clock: this.clock, webSocket: this.webSocket, onError: (error) => this.errors.push(error), ...options,
    });
  }

  get socket(): FakeSocket {
    return this.sockets.at(-1)!;
  }

  /** Those that the client has not let go of. */
  get open(): FakeSocket[] {
    return this.sockets.filter(({ closed }) => !closed);
  }
}

/** A world where everybody is welcome, and a room in it. */
export async function welcomed(options: ClientOptions = {}) {
  const world = new World();
  world.arrives = (socket) => socket.welcome();
  const room = world.client(options).room("/rooms/{channel}", { channel: "lobby" });
  await world.clock.pass(1);
  return { world, room, clock: world.clock };
}

/** What became of a promise, by the name of the error or as a value. */
export function outcome(promise: Promise<unknown>): { now: unknown } {
  const found = { now: "pending" as unknown };
  promise.then((value) => { found.now = value; }, (error) => { found.now = error?.code ?? error?.name ?? error; });
  return found;
}
