/** Clients of FastAPI applications with channels: they come back by themselves, in their rooms, with nothing twice. */

import type { State } from "./connection.ts";
import { Many, Single } from "./line.ts";
import type { Room, RoomOptions } from "./room.ts";
import { settingsOf } from "./settings.ts";
import type { ClientOptions, Settings } from "./settings.ts";
import type {
  AnyChannels, AnyWords, Parameters_, Places, RoomAddress, RoomAt, RoomName, SocketAddress, SocketAt, WordsOf,
} from "./types.ts";

export type { Frame, State } from "./connection.ts";
export { ActionError, ChannelsError, ConnectionLost, NotSent, Overflow, Refused, TimedOut } from "./errors.ts";
export type { Device, Person, Presence, PresenceChange } from "./presence.ts";
export type { CallOptions, StreamOptions } from "./requests.ts";
export type { About, Gap, HistoryPage, RoomOptions, RoomState } from "./room.ts";
export { Room } from "./room.ts";
export type { Clock } from "./clock.ts";
export type { ClientOptions, Codec, WebSocketLike } from "./settings.ts";
export { TIMES } from "./settings.ts";
export type { AnyChannels, AnyWords } from "./types.ts";

/** One WebSocket for many rooms. */
export interface Socket<S> {
  readonly state: State;
  /** Hears what is sent to this client alone, or to all of its user; and that the socket is refused. */
  readonly own: Room<AnyWords>;
  /**
   * Join a room. The same object for all that ask for it, until each of them has left.
   *
   * @throws ChannelsError: the socket was closed
   */
  room<N extends RoomName<S>>(name: N, options?: RoomOptions): Room<WordsOf<S, N>>;
  /** Leave all rooms, and the server. */
  close(): void;
}

export interface Client<C> {
  /** Join the room at an address of the application: a WebSocket of its own. */
  room<A extends RoomAddress<C>>(
    address: A, ...args: Parameters_<RoomAt<C, A>, RoomOptions & { query?: Record<string, string> }>
  ): Room<RoomAt<C, A>>;
  /** One WebSocket for many rooms, at the address of a `Socket`. */
  socket<A extends SocketAddress<C>>(address: A, ...args: Parameters_<SocketAt<C, A>, never>): Socket<SocketAt<C, A>>;
  /** Leave all rooms, those of sockets too. A room that is asked for afterwards is joined. */
  close(): void;
}

/**
 * A client of the application at `url`, which may be relative to the page. Nothing happens before a room, or a
 * socket, is asked for.
 *
 * `Channels` is what `fastapi-channels typescript` writes; without it every name is allowed, and all data is unknown.
 */
export function createClient<C = AnyChannels>(url: string | URL, options: ClientOptions = {}): Client<C> {
  const settings = settingsOf(options);
  const made = {
    room(address: string, parameters: Places = {}, { query, ...rest }: any = {}) {
      const own: Settings = { ...settings, query: () => ({ ...settings.query?.(), ...query }) };
      return new Single(own, place(url, address, parameters), address, rest).room;
    },
    socket: (address: string, parameters: Places = {}) => new Many(settings, place(url, address, parameters)),
    close: () => [...settings.open].forEach((each) => each.close()),
  };
  return made as unknown as Client<C>;
}

/* Where the address is: below the path of the application, which may be mounted under one. */
function place(base: string | URL, address: string, parameters: Places): string {
  const path = address.replace(/\{(\w+)(?::\w+)?\}/g, (_, name: string) => {
    const value = parameters[name];
    if (value === undefined) throw new TypeError(`${address} wants the parameter ${name}`);
    return encodeURIComponent(value);
  });
  const url = new URL(base, globalThis.location?.href);
  url.protocol = url.protocol.replace(/^http/, "ws");
  url.pathname = url.pathname.replace(/\/$/, "") + path;
  return url.href;
}
