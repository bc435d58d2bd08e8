/** Who is in a room, as the client keeps it. */

import assert from "node:assert/strict";
import { test } from "node:test";

import type { FakeSocket } from "./fake.ts";
import { World, welcomed } from "./fake.ts";

const device = (id: string, user: string | null, data: unknown = null) => ({ id, user, data });
const whole = (version: number, ...present: unknown[]) => ({ type: "presence", channel: "lobby", version, present });
const diff = (version: number, what: object) =>
  ({ type: "presence_diff", channel: "lobby", version, joined: [], changed: [], left: [], ...what });

/** What is told of changes, in short. */
function told(room: any): string[] {
  const heard: string[] = [];
  const names = (people: any[]) => people.map(({ user, devices }) => user ?? devices[0].id).join();
  room.onPresence(({ joined, left }: any) => heard.push(`+${names(joined)} -${names(left)}`));
  return heard;
}

const shown = (room: any) => room.presence.people.map(({ user, devices }: any) => [user, devices.map(({ id }: any) => id).join()]);

test("a list, and what is different: people with their devices", async () => {
  const { world, room } = await welcomed();
  const heard = told(room);
  world.socket.say(whole(1, device("a", "ann"), device("b", null)));
  const before = room.presence;
  world.socket.say(diff(2, { joined: [device("c", "ann"), device("d", "bob")], changed: [device("b", null, "away")] }));
  world.socket.say(diff(3, { left: ["a", "b", "unknown"] }));
  assert.deepEqual(shown(room), [["ann", "c"], ["bob", "d"]]);
  assert.deepEqual(heard, ["+ann,b -", "+bob -", "+ -b"]);
  assert.deepEqual([before.version, before.people.length, room.presence.version], [1, 2, 3]);
  assert.equal(room.presence.devices.get("d")?.user, "bob");
});

test("where a difference is missing everybody is asked for, once, and nothing wrong is shown", async () => {
  const { world, room } = await welcomed();
  const heard = told(room);
  world.socket.say(diff(7, { joined: [device("x", "early")] }));
  world.socket.say(whole(1, device("a", "ann")));
  for (const version of [3, 4, 5]) world.socket.say(diff(version, { joined: [device("b", "bob")] }));
  assert.deepEqual(world.socket.sent, [{ type: "presence" }]);
  assert.deepEqual([shown(room), room.presence.version], [[["ann", "a"]], null]);
  world.socket.say(whole(5, device("a", "ann"), device("b", "bob")));
  world.socket.say(diff(6, { left: ["a"] }));
  assert.deepEqual([heard, room.presence.version], [["+ann -", "+bob -", "+ -ann"], 6]);
});

test("after a loss the list stays until everybody comes, and who stayed is not told", async () => {
  const { world, room, clock } = await welcomed();
  world.socket.say(whole(9, device("a", "ann"), device("b", "bob")));
  const heard = told(room);
  world.socket.shut(1006);
  assert.deepEqual([room.presence.people.length, room.presence.version], [2, null]);
  await clock.pass(2_000);
  world.socket.say(whole(1, device("c", "ann"), device("d", "eve")));
  assert.deepEqual([heard, room.presence.version], [["+eve -bob"], 1]);
  room.leave();
  assert.deepEqual([room.presence.people, heard.at(-1)], [[], "+ -"], "who leaves knows of nobody who has gone");
});

test("on a socket each room has its own, and is asked for by its name", async () => {
  const world = new World();
  world.arrives = (socket: FakeSocket) => {
    socket.heard = ({ type, channel, request_id }) => type === "join" && socket.say({ type: "joined", channel, request_id });
    socket.welcome();
  };
  const socket = world.client().socket("/desk");
  const [a, b] = [socket.room("a"), socket.room("b")];
  await world.clock.pass(1);
  for (const channel of ["a", "b"]) world.socket.say({ ...whole(1, device(channel, channel)), channel });
  world.socket.say({ ...diff(5, {}), channel: "b" });
  assert.deepEqual([shown(a), shown(b), world.socket.last()], [[["a", "a"]], [["b", "b"]], { type: "presence", channel: "b" }]);
});
