/** Rooms in components of React: joined while a component is there, and by no server that renders it. */

import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from "react";

import { NOBODY } from "./presence.ts";
import type { Presence } from "./presence.ts";
import type { About, Room, RoomState } from "./room.ts";
import type { EventData, EventName, Shown } from "./types.ts";

/**
 * Join a room when the component is mounted, and leave it with the component.
 *
 * @param join asks for the room: `() => client.room("/rooms/{channel}", { channel })`
 * @param deps what `join` goes by: when one of them is another one, the room is left, and the new one joined
 * @returns null before it is mounted, and on a server
 */
export function useRoom<W>(join: () => Room<W>, deps: readonly unknown[]): Room<W> | null {
  const [room, setRoom] = useState<Room<W> | null>(null);
  useEffect(() => {
    const joined = join();
    setRoom(joined);
    return () => joined.leave();
  }, deps);
  return room;
}

/** The state of a room: `joining` where there is none yet. */
export function useRoomState(room: Room<any> | null): RoomState {
  return useTold(room, "onState", (there): RoomState => there.state, "joining");
}

/** Who is in a room: nobody where there is none yet. */
export function usePresence<W>(room: Room<W> | null): Presence<Shown<W>> {
  return useTold(room, "onPresence", (there): Presence<Shown<W>> => there.presence, NOBODY);
}

/** Hear an event while the component is mounted. The listener may be another function each time. */
export function useEvent<W, N extends EventName<W>>(
  room: Room<W> | null, name: N, listener: (data: EventData<W, N>, about: About) => void,
): void {
  const latest = useRef(listener);
  useEffect(() => { latest.current = listener; });
  useEffect(() => room?.on(name, (data, about) => latest.current(data, about)), [room, name]);
}

function useTold<W, T>(
  room: Room<W> | null, told: "onState" | "onPresence", read: (room: Room<W>) => T, none: T,
): T {
  const subscribe = useCallback((changed: () => void) => room?.[told](changed) ?? (() => {}), [room, told]);
  return useSyncExternalStore(subscribe, () => (room === null ? none : read(room)), () => none);
}
