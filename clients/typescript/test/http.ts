/** The HTTP of a server, whose every answer the test decides. */

import type { FakeClock, FakeSocket } from "./fake.ts";
import { World } from "./fake.ts";
import type { Frame } from "../src/connection.ts";
import { withFallback } from "../src/fallback.ts";
import type { FallbackOptions } from "../src/fallback.ts";
import type { ClientOptions } from "../src/index.ts";

/** Let everything go on that waits for nothing but its turn, streams too. */
export async function turns(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** One request. */
export class Asked {
  readonly url: URL;
  readonly how: RequestInit & { headers: Record<string, string> };
  /** Whether the client has given it up. */
  aborted = false;
  readonly answer: Promise<Response>;
  #resolve!: (response: Response) => void;
  #reject!: (error: unknown) => void;
  #out: ReadableStreamDefaultController<Uint8Array> | null = null;

  constructor(url: string, how: RequestInit) {
    this.url = new URL(url);
    this.how = how as Asked["how"];
    this.answer = new Promise((resolve, reject) => { [this.#resolve, this.#reject] = [resolve, reject]; });
    how.signal!.addEventListener("abort", () => {
      this.aborted = true;
      this.cut(new DOMException("aborted", "AbortError"));
    });
  }

  get body(): any {
    return JSON.parse(this.how.body as string);
  }

  get query(): Record<string, string> {
    return Object.fromEntries(this.url.searchParams);
  }

  /** Answer with a whole body. */
  reply(status: number, said: unknown = null, headers: Record<string, string> = {}): void {
    const text = typeof said === "string" ? said : JSON.stringify(said);
    const kind = typeof said === "string" ? "text/html" : "application/json";
    this.#resolve(new Response(status === 204 ? null : text, { status, headers: { "Content-Type": kind, ...headers } }));
  }

  /** Answer a call. */
  answered(data: unknown): void {
    const action = decodeURIComponent(this.url.pathname.split("/actions/")[1]!);
    this.reply(200, { type: "response", action, status: "ok", request_id: this.how.headers["Idempotency-Key"], data });
  }

  /** Answer with a stream of events. */
  open(): void {
    const body = new ReadableStream<Uint8Array>({ start: (controller) => { this.#out = controller; } });
    this.#resolve(new Response(body, { headers: { "Content-Type": "text/event-stream; charset=utf-8" } }));
    this.write("retry: 1000\n\n");
  }

  write(text: string): void {
    if (!this.aborted) this.#out?.enqueue(new TextEncoder().encode(text));
  }

  say(...frames: Frame[]): void {
    for (const frame of frames) {
      const id = frame.position === undefined ? "" : `id: ${frame.position}\n`;
      this.write(`${id}data: ${JSON.stringify(frame)}\n\n`);
    }
  }

  /** An item of a call that streams; the last reply without one. */
  item(data: unknown, more = true): void {
    this.say({ type: "response", action: "a", status: "ok", request_id: this.how.headers["Idempotency-Key"], data, more });
  }

  welcome(said: Frame = {}): void {
    this.open();
    this.say({ type: "welcome", connection: "s.1", max_message_size: 65536, max_window: 65536, ...said });
  }

  shut(code: number, reason = ""): void {
    this.write(`event: close\ndata: ${JSON.stringify({ code, reason })}\n\n`);
    this.end();
  }

  end(): void {
    if (!this.aborted) this.#out?.close();
    this.#out = null;
  }

  /** Lose it, before or within its answer. */
  cut(error: unknown = new TypeError("fetch failed")): void {
    this.#reject(error);
    this.#out?.error(error);
    this.#out = null;
  }
}

/** A world with HTTP beside WebSockets. */
export class Both {
  readonly world = new World();
  readonly requests: Asked[] = [];
  /** What becomes of each new request. */
  asked: (asked: Asked) => void = () => {};

  get clock(): FakeClock {
    return this.world.clock;
  }

  get socket(): FakeSocket {
    return this.world.socket;
  }

  client(options: ClientOptions = {}, how: FallbackOptions = {}) {
    const fetched = (url: string, init: RequestInit): Promise<Response> => {
      const asked = new Asked(url, init);
      this.requests.push(asked);
      this.asked(asked);
      return asked.answer;
    };
    const { clock, world } = this;
    const webSocket = withFallback({ clock, webSocket: world.webSocket, fetch: fetched as typeof fetch, ...how });
    return world.client({ webSocket, ...options });
  }

  /** The streams that were asked for. */
  get streams(): Asked[] {
    return this.requests.filter(({ url }) => url.pathname.endsWith("/events"));
  }

  get stream(): Asked {
    return this.streams.at(-1)!;
  }

  get calls(): Asked[] {
    return this.requests.filter(({ url }) => url.pathname.includes("/actions/"));
  }

  get call(): Asked {
    return this.calls.at(-1)!;
  }

  async pass(milliseconds: number): Promise<void> {
    await turns();
    // Streams go on beside the clock.
    for (let left = milliseconds; left > 0; left -= 1_000) {
      await this.clock.pass(Math.min(left, 1_000));
      await turns();
    }
  }
}

/** A room over HTTP, where every WebSocket is refused. */
export async function listening(options: ClientOptions = {}, how: FallbackOptions = {}) {
  const both = new Both();
  both.world.arrives = (socket) => socket.shut(1006);
  both.asked = (asked) => { if (asked.url.pathname.endsWith("/events")) asked.welcome(); };
  const client = both.client(options, how);
  const room = client.room("/rooms/{channel}", { channel: "lobby" });
  await both.pass(2_000);
  return { both, client, room };
}
