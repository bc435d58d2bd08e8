/** What a client can be told, and what it does where it is not. */

import type { Clock } from "./clock.ts";
import { systemClock } from "./clock.ts";

/** Milliseconds, if nothing else is said. */
export const TIMES = {
  /** The ceiling of the first delay; it doubles with each attempt. */
  first: 500,
  /** The highest ceiling. */
  most: 30_000,
  /** The least time between the beginnings of two attempts, whatever asks for one. */
  gap: 1_000,
  /** What an attempt may take, from asking for a token to the welcome. */
  connect: 10_000,
  /** What a connection must last before the next loss counts as the first. */
  settle: 5_000,
  /** Without a frame for so long, the server is asked whether it is there. */
  silence: 25_000,
  /** What its answer may take. */
  pong: 10_000,
  /** The same, where there is reason to doubt: after sleep, in a tab that comes back. */
  probe: 5_000,
  /** Between two looks at the clock. */
  tick: 5_000,
  /** What a call may take. */
  call: 10_000,
  /** The least time before a room that refused for now is asked again. */
  rejoin: 1_000,
};

/** Calls that wait for a room at a time, and bytes of them. */
export const MOST_WAITING = 64;
export const MOST_WAITING_BYTES = 256 * 1024;
/** Items of a stream, or events, that nobody has taken yet. */
export const MOST_UNTAKEN = 1_024;
/** Items of a stream that the server may be ahead. */
export const WINDOW = 64;

/** Turns frames into what is sent, and back. */
export interface Codec {
  encode(frame: unknown): string | Uint8Array<ArrayBuffer>;
  /** @throws what is no frame */
  decode(data: string | ArrayBuffer): unknown;
}

/** What is needed of a WebSocket: that of a browser, of Node 22, or of the package `ws`. */
export interface WebSocketLike {
  binaryType: string;
  readonly protocol: string;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(code?: number, reason?: string): void;
}

export interface ClientOptions {
  /** Asked before each attempt; sent as the subprotocol `bearer.…`, never in the URL. */
  token?: () => string | Promise<string>;
  /** Subprotocols beside the client's own. */
  protocols?: readonly string[];
  /** What the handshake's query says beside what a call of `room` says. */
  query?: () => Record<string, string>;
  /** `wait`: what is called while a room is not joined waits for it, within its time. `fail`: it fails at once. */
  away?: "wait" | "fail";
  codec?: Codec;
  /** What each call belongs to, as W3C Trace Context has it. The application has to want it. */
  trace?: () => { traceparent?: string; tracestate?: string };
  /** Whatever goes wrong where nobody waits for it: a listener that throws, a frame that cannot be read. */
  onError?: (error: unknown) => unknown;
  webSocket?: new (url: string, protocols: string[]) => WebSocketLike;
  /** Milliseconds in place of those of `TIMES`. */
  times?: Partial<typeof TIMES>;
  clock?: Clock;
}

export interface Settings extends ClientOptions {
  away: "wait" | "fail";
  codec: Codec;
  onError: (error: unknown) => void;
  times: typeof TIMES;
  clock: Clock;
  /** What ends when the client does. */
  readonly open: Set<{ close(): void }>;
}

/** What is used where no other codec is given. */
export const json: Codec = {
  encode: (frame) => JSON.stringify(frame),
  decode: (data) => JSON.parse(typeof data === "string" ? data : new TextDecoder().decode(data)),
};

export function settingsOf(options: ClientOptions): Settings {
  const { times, token } = options;
  if (token !== undefined && typeof token !== "function") throw new TypeError("token: no function");
  // As the browser tells of what nobody caught; where there is no such way, the console does.
  const report = (error: unknown): void => (globalThis.reportError ?? console.error)(error);
  const { onError = report } = options;
  return {
    away: "wait", codec: json, clock: systemClock, ...options, times: { ...TIMES, ...times }, open: new Set(),
    onError: async (error) => {
      try {
        await onError(error);
      } catch (failure) {
        report(failure);
      }
    },
  };
}
