/** Rooms in components of Vue: joined while a component is there, and by no server that renders it. */

import { shallowRef, watchPostEffect } from "vue";
import type { ShallowRef } from "vue";

import { NOBODY } from "./presence.ts";
import type { Presence } from "./presence.ts";
import type { About, Room, RoomState } from "./room.ts";
import type { EventData, EventName, Shown } from "./types.ts";

/** A room, as a component sees it. */
export interface Used<W> {
  /** Null before the component is mounted, and on a server. */
  room: Readonly<ShallowRef<Room<W> | null>>;
  state: Readonly<ShallowRef<RoomState>>;
  presence: Readonly<ShallowRef<Presence<Shown<W>>>>;
}

/**
 * Join a room when the component is mounted, and leave it with the component.
 *
 * @param join asks for the room: `() => client.room("/rooms/{channel}", { channel: props.channel })`. When something
 * reactive that it reads is another one, the room is left, and the new one joined
 */
export function useRoom<W>(join: () => Room<W>): Used<W> {
  const room = shallowRef<Room<W> | null>(null);
  const state = shallowRef<RoomState>("joining");
  const presence = shallowRef<Presence<Shown<W>>>(NOBODY);
  // A server runs no effect that waits for the component to be there.
  watchPostEffect((whenOver) => {
    const joined = join();
    const show = (): void => {
      state.value = joined.state;
      presence.value = joined.presence;
    };
    const stops = [joined.onState(show), joined.onPresence(show)];
    whenOver(() => {
      for (const stop of stops) stop();
      joined.leave();
    });
    room.value = joined;
    show();
  });
  return { room, state, presence };
}

/** Hear an event while the component is mounted. */
export function useEvent<W, N extends EventName<W>>(
  room: Readonly<ShallowRef<Room<W> | null>>, name: N, listener: (data: EventData<W, N>, about: About) => void,
): void {
  watchPostEffect((whenOver) => {
    const stop = room.value?.on(name, listener);
    if (stop) whenOver(stop);
  });
}
