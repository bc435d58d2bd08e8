/** A room over HTTP: its events as a stream, and its actions by POST. */

import type { Frame } from "./connection.ts";
import { SUBPROTOCOL } from "./connection.ts";
import { CONNECTION_LOST } from "./errors.ts";
import { contentOf, readEvents } from "./events.ts";
import type { Codec } from "./settings.ts";

/** Begins the subprotocol that is a token. */
export const BEARER = "bearer.";
const EVENTS = "text/event-stream";
/** Codes of what no server has put into a frame. */
export const NO_EVENTS = "no_events";
export const HTTP_ERROR = "http_error";

/** How requests are made. */
export interface Reach {
  fetch: typeof fetch;
  credentials: RequestCredentials;
  codec: Codec;
}

/** Where a WebSocket would be dialed, for requests: with the same query, and the same token. */
export class Place {
  token: string | null;
  readonly path: string;
  readonly #reach: Reach;
  readonly #url: URL;

  constructor(reach: Reach, handshake: string, protocols: readonly string[]) {
    this.#reach = reach;
    this.#url = new URL(handshake);
    this.#url.protocol = this.#url.protocol.replace(/^ws/, "http");
    this.path = this.#url.pathname.replace(/\/$/, "");
    this.token = protocols.find((name) => name.startsWith(BEARER))?.slice(BEARER.length) ?? null;
  }

  /** Without the query: it may have secrets. */
  address(below: string): string {
    return this.#url.origin + this.path + below;
  }

  /** @param since where the room has been, in place of what the handshake says */
  listen(since: Record<string, string> | null, signal: AbortSignal): Promise<Response> {
    const query = new URLSearchParams(this.#url.search);
    for (const [name, value] of Object.entries(since ?? {})) query.set(name, value);
    // Who knows the protocol is greeted, and reads a refusal in frames, as on a WebSocket.
    return this.#fetch("/events", query, { signal, headers: { Accept: `${EVENTS}; protocol=${SUBPROTOCOL}` } });
  }

  call(name: string, id: string, body: string, signal: AbortSignal): Promise<Response> {
    const query = new URLSearchParams(this.#url.search);
    query.delete("since");
    query.delete("connection");
    const headers = { "Content-Type": "application/json", "Idempotency-Key": id };
    return this.#fetch(`/actions/${encodeURIComponent(name)}`, query, { method: "POST", body, signal, headers });
  }

  #fetch(below: string, query: URLSearchParams, how: RequestInit & { headers: Record<string, string> }): Promise<Response> {
    const headers = { ...how.headers, ...(this.token !== null && { Authorization: `Bearer ${this.token}` }) };
    const { credentials } = this.#reach;
    // A token goes to nobody else.
    const rest: RequestInit = { cache: "no-store", redirect: "error", credentials };
    return this.#reach.fetch(`${this.address(below)}${query.size > 0 ? `?${query}` : ""}`, { ...rest, ...how, headers });
  }
}

/** Who is told what a stream of events brings. */
export interface Listener {
  message(data: string | ArrayBuffer, id: string): void;
  /** Something came, if only a comment. */
  heard(): void;
  closed(code: number, reason: string): void;
  /** There is no stream; `frame` says why, and the rest what a WebSocket would be closed with. */
  refused(frame: Frame, code: number, reason: string): void;
}

/** Listen to the room until it ends, and tell by `closed`, or by `refused`, that it has. */
export async function listen(
  place: Place, codec: Codec, since: Record<string, string> | null, signal: AbortSignal, told: Listener,
): Promise<void> {
  const response = await place.listen(since, signal);
  if (isStream(response)) {
    await readEvents(response.body!, (event) => {
      if (event.name === "message" || event.name === "binary") told.message(contentOf(event), event.id);
      else if (event.name === "close") {
        const { code, reason } = JSON.parse(event.data);
        told.closed(code, reason);
      }
    }, told.heard);
    told.closed(1006, "the stream of events has ended");
    return;
  }
  const { status } = response;
  const said = decoded(await response.text(), codec);
  const wait = response.headers.get("Retry-After") ?? "";
  const reason = /^\d+$/.test(wait) ? `retry_after=${wait}` : "";
  // What is no object is not of the application, but of what stands between.
  const stays = said !== null && status >= 400 && status < 500 && ![408, 425, 429].includes(status);
  const answered = `${place.address("/events")} answered ${status}`;
  if (said?.code !== undefined) told.refused(said, said.code === "token_expired" ? 4001 : stays ? 1008 : 1013, reason);
  else if (response.ok || status === 404 || status === 405) {
    const needed = "a room over HTTP has to be mounted with sse=True and http=True, and a Socket has none";
    told.refused(failure(NO_EVENTS, status, `no WebSocket opens, and ${answered}: ${needed}`), 1006, reason);
  } else told.refused(failure(HTTP_ERROR, status, answered), stays ? 1008 : 1013, reason);
}

/** One that is not answered yet. */
interface Running {
  control: AbortController;
  /** Items of its stream that may be told. */
  credit: number;
  /** There is more of it. */
  resume(): void;
}

/** Calls by POST that are not answered yet. */
export class Posts {
  readonly #place: Place;
  readonly #codec: Codec;
  readonly #deliver: (data: string | ArrayBuffer) => void;
  readonly #running = new Map<string, Running>();

  /** @param deliver gets the answers, each a frame as a WebSocket would bring it */
  constructor(place: Place, codec: Codec, deliver: (data: string | ArrayBuffer) => void) {
    this.#place = place;
    this.#codec = codec;
    this.#deliver = deliver;
  }

  get size(): number {
    return this.#running.size;
  }

  /** @returns whether there was one */
  cancel(id: string): boolean {
    const running = this.#running.get(id);
    this.#running.delete(id);
    running?.control.abort();
    running?.resume();
    return running !== undefined;
  }

  /** So many more items of a stream are taken. @returns whether there is one */
  give(id: string, count: number): boolean {
    const running = this.#running.get(id);
    if (running === undefined) return false;
    running.credit += count;
    running.resume();
    return true;
  }

  cancelAll(): void {
    for (const id of [...this.#running.keys()]) this.cancel(id);
  }

  async make({ action, request_id: id, ...payload }: Frame): Promise<void> {
    const control = new AbortController();
    const credit = Number.isInteger(payload.window) ? payload.window : Infinity;
    const running: Running = { control, credit, resume: () => {} };
    this.#running.set(id, running);
    try {
      const response = await this.#place.call(action, id, JSON.stringify(payload), control.signal);
      if (isStream(response)) await this.#stream(response, id, running);
      else await this.#answer(response, action, id);
    } catch (error) {
      // Nobody knows whether it was handled.
      this.#say(id, { ...failure(CONNECTION_LOST, "bad", `no answer to ${action}: ${error}`), action });
    } finally {
      if (this.#running.get(id) === running) this.#running.delete(id);
    }
  }

  async #stream(response: Response, id: string, running: Running): Promise<void> {
    let over = false;
    await readEvents(response.body!, async (event) => {
      if (event.name !== "message" && event.name !== "binary") return;
      const content = contentOf(event);
      const frame = this.#codec.decode(content) as Frame;
      over ||= frame.request_id === id && frame.more !== true;
      this.#pass(id, content);
      running.credit--;
      // No server is asked for less: what is beyond the window waits in the network.
      while (!over && running.credit <= 0 && this.#running.has(id)) {
        await new Promise<void>((resolve) => { running.resume = resolve; });
      }
    });
    if (!over) throw new TypeError("the stream has ended before its last reply");
  }

  async #answer(response: Response, action: string, id: string): Promise<void> {
    const { status } = response;
    const nothing = { type: "response", action, status: "ok", data: null };
    if (status === 204) return this.#say(id, nothing);
    const body = response.headers.get("Content-Type")?.startsWith("application/octet-stream")
      ? await response.arrayBuffer()
      : await response.text();
    const frame = decoded(body, this.#codec);
    if (frame?.request_id === id) this.#pass(id, body);
    else if (frame?.code !== undefined) this.#say(id, frame); // refused before its id was read
    else if (response.ok) {
      if (frame !== null) this.#pass(id, body); // what the action has sent to its client, beside no reply
      this.#say(id, nothing);
    } else if (status >= 500) throw new TypeError(`the answer is ${status}`);
    else {
      const said = `${this.#place.address(`/actions/${action}`)} answered ${status}: is the channel mounted with http=True?`;
      this.#say(id, { ...failure(HTTP_ERROR, status, said), action, data: frame });
    }
  }

  #say(id: string, frame: Frame): void {
    this.#pass(id, written(this.#codec, { ...frame, request_id: id }));
  }

  #pass(id: string, data: string | ArrayBuffer): void {
    if (this.#running.has(id)) this.#deliver(data);
  }
}

const isStream = (response: Response): boolean =>
  response.ok && response.body !== null && (response.headers.get("Content-Type") ?? "").startsWith(EVENTS);

/** A frame as a WebSocket would bring it. */
export function written(codec: Codec, frame: Frame): string | ArrayBuffer {
  const body = codec.encode(frame);
  return typeof body === "string" ? body : body.slice().buffer;
}

/** An error frame of what no server has put into one. */
function failure(code: string, status: string | number, errors: string): Frame {
  return { type: "response", action: null, status, request_id: null, data: null, errors, code };
}

function decoded(body: string | ArrayBuffer, codec: Codec): Frame | null {
  try {
    const found = codec.decode(body);
    return typeof found === "object" ? found as Frame | null : null;
  } catch {
    return null;
  }
}
