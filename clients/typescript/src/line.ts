/** A WebSocket and the rooms on it: one that the address names, or as many as are joined. */

import { Connection } from "./connection.ts";
import type { Frame, State } from "./connection.ts";
import { comesBack, delayAfter, toldToWait } from "./connection.ts";
import { ActionError, ChannelsError, Refused, wasLeft } from "./errors.ts";
import type { Asker, Request, StreamOptions } from "./requests.ts";
import { Requests } from "./requests.ts";
import { Room } from "./room.ts";
import type { RoomOptions } from "./room.ts";
import type { Settings } from "./settings.ts";
import { fits } from "./topics.ts";

/** Errors after which a room may be asked for again. */
const FOR_NOW = new Set(["unavailable", "channel_full", "rate_limited", "too_many_rooms"]);

interface Place {
  room: Room<any>;
  /** How often `room()` has asked for it, beyond those that have left. */
  uses: number;
  /** Of the join frame that waits for its answer. */
  joining: unknown;
  failures: number;
  stop: () => void;
}

export abstract class Line {
  declare readonly settings: Settings;
  declare readonly connection: Connection;
  declare readonly requests: Requests;
  readonly #url: string;

  constructor(settings: Settings, url: string) {
    this.settings = settings;
    this.#url = url;
    this.connection = new Connection(settings, this);
    this.requests = new Requests(this);
  }

  get state(): State {
    return this.connection.state;
  }

  get welcome(): Frame {
    return this.connection.welcome;
  }

  send(frame: Frame, room: string): boolean {
    return this.isReady(room) && this.connection.send(frame);
  }

  address(): string {
    const url = new URL(this.#url);
    for (const [name, value] of Object.entries({ ...this.settings.query?.(), ...this.since() })) {
      url.searchParams.set(name, value);
    }
    return url.href;
  }

  ask(room: Room<any>, frame: Frame, options: StreamOptions & { retry?: boolean }, asker: Asker): Request | null {
    const asked = { frame: this.addressed(room, frame), ...options };
    return this.requests.ask(asked, room.name, room.state, asker);
  }

  say(room: Room<any>, frame: Frame): void {
    this.connection.send(this.addressed(room, frame));
  }

  /** The connection is. If it is for good, so are the requests. */
  lost(): void {
    const { over, refusal } = this.connection;
    this.requests.lost();
    if (over) this.requests.refused(refusal ?? wasLeft());
  }

  /* What becomes of a room then. */
  protected become(room: Room<any>): void {
    const { over, refusal } = this.connection;
    room.become(over ?? "joining", refusal);
  }

  abstract opened(): void;
  abstract received(frame: Frame): void;
  abstract retry(room: Room<any>): void;
  abstract release(room: Room<any>): void;
  protected abstract isReady(room: string): boolean;

  /** Where the room has been, for the handshake. */
  protected since(): Record<string, string> {
    return {};
  }

  protected addressed(room: Room<any>, frame: Frame): Frame {
    return frame;
  }
}

/** A WebSocket whose address is that of a room. */
export class Single extends Line {
  declare readonly room: Room<any>;
  #placed = false;

  constructor(settings: Settings, url: string, name: string, options: RoomOptions) {
    super(settings, url);
    this.room = new Room(this, name, options);
    this.connection.retry();
  }

  opened(): void {
    // In a room with history `joined` has come before.
    if (!this.#placed) this.room.joined(null);
    this.requests.flush(this.room.name);
  }

  received(frame: Frame): void {
    if (frame.type === "joined") {
      this.#placed = true;
      this.requests.received(frame);
      this.room.joined(frame);
    } else if (frame.type !== "response" || !this.requests.received(frame)) this.room.received(frame);
  }

  override lost(): void {
    this.#placed = false;
    super.lost();
    this.become(this.room);
  }

  retry(): void {
    if (this.room.state === "joined") return;
    this.room.become("joining");
    this.connection.retry();
  }

  release(): void {
    this.connection.close();
  }

  protected isReady(): boolean {
    return this.connection.state === "open";
  }

  protected override since(): Record<string, string> {
    return sinceOf(this.room);
  }
}

/** A WebSocket that carries as many rooms as are joined. */
export class Many extends Line {
  /** What is sent to this client alone, or to all of its user, wherever it is. */
  readonly own: Room<any> = new Room(this, "*", {});
  readonly #places = new Map<string, Place>();

  constructor(settings: Settings, url: string) {
    super(settings, url);
    this.connection.retry();
  }

  /** The room of that name: the same object for all that ask for it, until each of them has left. */
  room(name: string, options: RoomOptions = {}): Room<any> {
    this.#check();
    let place = this.#places.get(name);
    if (!place) {
      const room = new Room(this, name, options);
      place = { room, uses: 0, joining: null, failures: 0, stop: () => {} };
      this.#places.set(name, place);
      if (this.connection.over) this.become(room);
      this.#join(place);
    }
    place.uses++;
    return place.room;
  }

  opened(): void {
    this.own.joined(null);
    const places = [...this.#places.values()].filter(({ room }) => room.state !== "refused");
    const { max_joins, max_message_size } = this.welcome;
    // A name of 255 characters, a position and two ids have fewer bytes than that.
    const most = Math.min(max_joins, max_message_size / 1280) | 0 || 1;
    while (places.length > 0) this.#ask(places.splice(0, most));
  }

  received(frame: Frame): void {
    const place = this.#places.get(frame.channel);
    if (frame.type === "joined") this.#joined(place, frame);
    else if (frame.type === "left") this.#left(place, frame);
    else if (frame.type === "response") {
      const asked = [...this.#places.values()].find(({ joining }) => joining && joining === frame.request_id);
      if (asked) this.#refused(asked, new ActionError(frame));
      else if (!this.requests.received(frame)) (place?.room ?? this.own).received(frame);
    } else if (frame.channel === undefined || frame.channel === "*") this.own.received(frame);
    else {
      for (const { room } of [...this.#places.values()]) if (isFor(room, frame)) room.received(frame);
    }
  }

  override lost(): void {
    super.lost();
    for (const place of [...this.#places.values()]) {
      const { room } = place;
      place.joining = null;
      place.stop();
      if (room.state !== "refused") this.become(room);
    }
    this.become(this.own);
  }

  retry(room: Room<any>): void {
    this.#check();
    const place = this.#places.get(room.name);
    this.connection.retry();
    if (!place || room.state === "joined") return;
    place.stop();
    room.become("joining");
    if (!place.joining) this.#join(place);
  }

  release(room: Room<any>): void {
    const place = this.#places.get(room.name);
    if (room === this.own) this.close();
    if (!place || place.room !== room || --place.uses > 0) return;
    if (room.state === "joined" || place.joining) {
      this.say(room, { type: "leave", request_id: this.requests.nextId() });
    }
    this.#remove(place);
  }

  close(): void {
    this.connection.close();
    this.#places.clear();
  }

  /* No connection is opened that nobody closes. */
  #check(): void {
    if (this.connection.over === "left") throw new ChannelsError("the socket was closed");
  }

  protected isReady(room: string): boolean {
    return this.#places.get(room)?.room.state === "joined";
  }

  protected override addressed(room: Room<any>, frame: Frame): Frame {
    return { ...frame, channel: room.name };
  }

  #join(place: Place): void {
    if (this.connection.state === "open" && place.room.state !== "refused") this.#ask([place]);
  }

  /* Join rooms by one frame. */
  #ask(places: Place[]): void {
    const channels = places.map((place) => {
      place.joining = this.requests.nextId();
      return { channel: place.room.name, request_id: place.joining, ...sinceOf(place.room) };
    });
    this.connection.send({ type: "join", ...(channels.length > 1 ? { channels } : channels[0]) });
  }

  #joined(place: Place | undefined, frame: Frame): void {
    // The server let it in and nobody here has asked, or it was left meanwhile and is asked for again.
    if (!place || (place.joining && frame.request_id && frame.request_id !== place.joining)) return;
    place.joining = null;
    place.failures = 0;
    this.requests.received(frame);
    place.room.joined(frame);
    this.requests.flush(place.room.name);
  }

  #left(place: Place | undefined, frame: Frame): void {
    const code = frame.close_code;
    // It is asked for again: this answers that it was left before.
    if (!place || (place.joining && !code)) return;
    if (comesBack(code)) this.#again(place, null);
    else if (code) this.#over(place, new Refused(code, frame.reason ?? ""));
    else this.#remove(place);
  }

  #remove({ room, stop }: Place): void {
    this.#places.delete(room.name);
    stop();
    this.requests.refused(wasLeft(), room.name);
    room.become("left");
  }

  #refused(place: Place, error: ActionError): void {
    place.joining = null;
    // It is there already: the server has let it in meanwhile.
    if (error.code === "already_joined") this.#joined(place, {});
    else if (FOR_NOW.has(error.code)) this.#again(place, error);
    else this.#over(place, new Refused(0, error.message, error));
  }

  #over(place: Place, refusal: Refused): void {
    this.requests.refused(refusal, place.room.name);
    place.room.become("refused", refusal);
  }

  #again(place: Place, error: ActionError | null): void {
    const { clock, times } = this.settings;
    const delay = Math.max(times.rejoin, delayAfter(place.failures++, this.settings), toldToWait(error?.retryAfter));
    place.room.become("joining", error && new Refused(0, error.message, error));
    place.stop = clock.after(delay, () => this.#join(place));
  }
}

/* An event on a topic comes once, for all filters that it fits. */
function isFor(room: Room<any>, { type, channel, position }: Frame): boolean {
  // What has a position is of a history, and topics have none.
  return room.name === channel || (type === "event" && !position && !room.position && fits(room.name, channel));
}

function sinceOf({ position, connection }: Room<any>): Record<string, string> {
  return position ? { since: position, ...(connection && { connection }) } : {};
}
