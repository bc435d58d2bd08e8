/** Who is in a room: the server's list, and what is different since. */

import type { Frame } from "./connection.ts";

/** A connection of somebody who is in the room. */
export interface Device<Data = unknown> {
  /** Of the connection. */
  readonly id: string;
  readonly user: string | null;
  /** What `presence_data` or `set_presence` said of it. */
  readonly data: Data;
}

/** A user in the room, or a connection without one. */
export interface Person<Data = unknown> {
  readonly user: string | null;
  readonly devices: readonly Device<Data>[];
}

/** Who is in a room. Each change makes a new one: this one stays as it is. */
export interface Presence<Data = unknown> {
  /** Of the frame that it is from; null where it may be old. */
  readonly version: number | null;
  /** By their ids. */
  readonly devices: ReadonlyMap<string, Device<Data>>;
  readonly people: readonly Person<Data>[];
}

/** Who came, and who has gone; nobody, where only devices or their data are other ones. */
export interface PresenceChange<Data = unknown> {
  readonly joined: readonly Person<Data>[];
  readonly left: readonly Person<Data>[];
}

export const NOBODY: Presence<any> = { version: null, devices: new Map(), people: [] };

/** Who is there after a frame; null where one before it is missing. */
export function after(before: Presence<any>, frame: Frame): Presence<any> | null {
  const { present, joined = present, changed = [], left = [], version } = frame;
  if (!present && version - 1 !== before.version) return null;
  const devices = new Map(present ? [] : before.devices);
  for (const device of [...joined, ...changed]) devices.set(device.id, device);
  for (const id of left) devices.delete(id);
  const people = new Map<string, { user: string | null; devices: Device<any>[] }>();
  for (const device of devices.values()) {
    const person = people.get(keyOf(device)) ?? { user: device.user, devices: [] };
    person.devices.push(device);
    people.set(keyOf(device), person);
  }
  return { version, devices, people: [...people.values()] };
}

export function changeOf(before: Presence<any>, now: Presence<any>): PresenceChange<any> {
  return { joined: without(now, before), left: without(before, now) };
}

/* The people of one who are not in the other. */
function without({ people }: Presence<any>, { devices }: Presence<any>): Person<any>[] {
  const known = new Set([...devices.values()].map(keyOf));
  return people.filter((person) => !known.has(keyOf(person.devices[0]!)));
}

/* No id of a connection begins like that of a user here. */
const keyOf = ({ user, id }: Device<any>): string => (user === null ? id : `@${user}`);
