/** What is called in a room, what is told there, and what becomes of both when the connection is lost. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { ActionError } from "../src/index.ts";
import type { FakeSocket } from "./fake.ts";
import { World, outcome, settle, welcomed } from "./fake.ts";

const said = (offset: number, epoch = "e") =>
  ({ type: "event", event: "said", channel: "lobby", data: offset, position: `${epoch}:${offset}` });

/** A room with history: the world keeps count, and gives what was missed. */
async function kept() {
  const world = new World();
  let top = 0;
  world.arrives = (socket: FakeSocket) => {
    const since = socket.query().since;
    socket.accept();
    const position = since ?? `e:${top}`;
    socket.say({ type: "joined", channel: "lobby", position, connection: `c.${world.sockets.length}`, ...(since && { recovered: true }) });
    for (let offset = Number(position.slice(2)) + 1; offset <= top; offset++) socket.say(said(offset));
    socket.say({ type: "welcome", connection: "c", max_message_size: 65536 });
  };
  const publish = () => { top++; for (const socket of world.open) socket.say(said(top)); };
  const room = world.client().room("/rooms/{channel}", { channel: "lobby" });
  const heard: unknown[] = [];
  room.on("said", (data) => heard.push(data));
  await world.clock.pass(1);
  return { world, room, heard, publish, clock: world.clock };
}

test("what was missed is told once, also where nothing had come before the loss", async () => {
  const { world, heard, publish, clock } = await kept();
  world.socket.shut(1006);
  publish(), publish(), publish();
  await clock.pass(1_500);
  assert.deepEqual(heard, [1, 2, 3]);
  assert.deepEqual(world.socket.query(), { since: "e:0", connection: "c.1" });
});

test("ten losses in a row, an event in each: each is told once", async () => {
  const { world, heard, publish, clock } = await kept();
  for (let loss = 0; loss < 10; loss++) {
    world.socket.shut(1006);
    publish();
    await clock.pass(31_000);
  }
  assert.deepEqual(heard, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
});

test("an event that comes twice is told once, and another epoch begins anew", async () => {
  const { world, room, heard } = await kept();
  for (const frame of [said(1), said(2), said(1), said(2), said(3), said(1, "f")]) world.socket.say(frame);
  assert.deepEqual([heard, room.position], [[1, 2, 3, 1], "f:1"]);
});

test("the position moves before listeners run: leaving there and coming back tells nothing twice", async () => {
  const { world, room, publish, clock } = await kept();
  const seen: string[] = [];
  room.on("said", () => { seen.push(room.position); room.leave(); room.retry(); });
  publish();
  await clock.pass(2_000);
  publish();
  await clock.pass(2_000);
  assert.deepEqual(seen, ["e:1", "e:2"]);
  assert.equal(world.open.length, 1);
});

test("the latest publication, that a room with a cache sends behind joined, is told", async () => {
  const world = new World();
  const room = world.client().room("/a");
  const heard: unknown[] = [];
  room.on("said", (data) => heard.push(data));
  await settle();
  world.socket.say({ type: "joined", channel: "a", position: "e:7", connection: "c" });
  world.socket.say(said(7));
  world.socket.say(said(7));
  assert.deepEqual(heard, [7]);
});

test("a position of before is given back by a new client", async () => {
  const world = new World();
  world.client().room("/a", {}, { since: "e:5" });
  await settle();
  assert.deepEqual(world.socket.query(), { since: "e:5" });
});

for (const reason of ["epoch", "expired", "limit"]) {
  test(`who cannot get all is told so: ${reason}`, async () => {
    const { world, room, clock } = await kept();
    const gaps: unknown[] = [];
    room.onGap((gap) => gaps.push([gap.reason, room.position, room.state]));
    world.arrives = (socket) => {
      socket.accept();
      socket.say({ type: "joined", channel: "lobby", position: "f:9", connection: "c.2", recovered: false, reason });
      socket.say({ type: "welcome", connection: "c.2" });
    };
    world.socket.shut(1006);
    await clock.pass(2_000);
    assert.deepEqual(gaps, [[reason, "f:9", "joined"]]);
  });
}

test("other gaps: away without history, resync, lagged", async () => {
  const { world, room, clock } = await welcomed();
  const gaps: unknown[] = [];
  room.onGap(({ reason, dropped }) => gaps.push([reason, dropped]));
  world.socket.say({ type: "lagged", channel: "lobby", dropped: 12 });
  world.socket.say({ type: "resync", channel: "lobby" });
  world.socket.shut(1006);
  await clock.pass(2_000);
  assert.deepEqual(gaps, [["lagged", 12], ["resync", null], ["away", null]]);
});

test("a resync moves the position; at lagged it is still the one from before the hole", async () => {
  const { world, room } = await kept();
  const places: string[] = [];
  room.onGap(() => places.push(room.position));
  world.socket.say(said(3));
  world.socket.say({ type: "lagged", channel: "lobby", dropped: 12 });
  world.socket.say(said(16));
  world.socket.say({ type: "resync", channel: "lobby", position: "g:4" });
  assert.deepEqual(places, ["e:3", "g:4"]);
  assert.equal(room.position, "g:4");
});

test("a reply, an error and a reply to nothing", async () => {
  const { world, room } = await welcomed();
  const one = outcome(room.call("say", { text: "hello" }));
  assert.equal(world.socket.last().action, "say");
  assert.equal(world.socket.last().text, "hello");
  world.socket.reply({ id: 1 });
  await settle();
  assert.deepEqual(one.now, { id: 1 });
  const two = room.call("say", { text: "hello" });
  world.socket.fail("rate_limited", { retry_after: 2.5, data: [1] });
  await assert.rejects(two, (error: ActionError) => {
    assert.deepEqual([error.code, error.retryAfter, error.data, error.action], ["rate_limited", 2.5, [1], "say"]);
    return error instanceof ActionError;
  });
  world.socket.say({ type: "response", request_id: "nobody's", status: "ok", data: null });
});

test("the action is the one that was asked for, and comes first, whatever the payload has", async () => {
  const { world, room } = await welcomed();
  const frames: string[] = [];
  const { send } = world.socket;
  world.socket.send = function (data) { frames.push(data); send.call(this, data); };
  const payload = { text: "a", action: "boom", request_id: "mine" };
  outcome(room.call("say", payload));
  outcome(room.stream("count", payload).next());
  assert.deepEqual(world.socket.sent.map(({ action, text }) => [action, text]), [["say", "a"], ["count", "a"]]);
  for (const [at, { request_id }] of world.socket.sent.entries()) {
    assert.notEqual(request_id, "mine");
    assert.match(frames[at]!, /^\{"action":/);
  }
  assert.deepEqual(payload, { text: "a", action: "boom", request_id: "mine" });
});

test("a call says what it belongs to, where somebody traces", async () => {
  const said = { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", tracestate: "a=b" };
  const { world, room } = await welcomed({ trace: () => said });
  outcome(room.call("say", { text: "hello" }));
  const { traceparent, tracestate, text } = world.socket.last();
  assert.deepEqual([traceparent, tracestate, text], [said.traceparent, said.tracestate, "hello"]);
});

test("a call is given up after its time, and the server is told", async () => {
  const { world, room, clock } = await welcomed();
  const call = outcome(room.call("slow"));
  await clock.pass(9_999);
  assert.equal(call.now, "pending");
  await clock.pass(1);
  assert.equal(call.now, "TimedOut");
  assert.equal(world.socket.last().type, "cancel");
});

test("a timeout that is not above zero is an error at once", async () => {
  const { world, room } = await welcomed();
  for (const timeout of [0, -5, NaN]) {
    await assert.rejects(room.call("say", {}, { timeout }), { name: "RangeError", message: `timeout: ${timeout}` });
    assert.throws(() => room.stream("count", {}, { timeout }), { name: "RangeError" });
  }
  assert.deepEqual(world.socket.sent, []);
});

test("a timeout longer than timers can be does not end at once", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const { systemClock } = await import("../src/clock.ts");
  let count = 0;
  systemClock.after(1e12, () => count++);
  context.mock.timers.tick(2 ** 31 - 2);
  assert.equal(count, 0);
  context.mock.timers.tick(1);
  assert.equal(count, 1);
});

test("a signal cancels, before and while", async () => {
  const { world, room } = await welcomed();
  const control = new AbortController();
  const call = outcome(room.call("slow", {}, { signal: control.signal }));
  const { request_id } = world.socket.last();
  control.abort();
  await settle();
  assert.equal(call.now, 20); // the code of an AbortError
  assert.deepEqual(world.socket.last(), { type: "cancel", request_id });
  const count = world.socket.sent.length;
  const late = outcome(room.call("slow", {}, { signal: control.signal }));
  await settle();
  assert.deepEqual([late.now, world.socket.sent.length], [20, count]);
});

test("a lost connection: of what was sent nobody knows, and nothing is sent twice by itself", async () => {
  const { world, room, clock } = await welcomed();
  const call = outcome(room.call("pay"));
  world.socket.shut(1006);
  await clock.pass(2_000);
  assert.equal(call.now, "ConnectionLost");
  assert.deepEqual(world.socket.sent, []);
});

test("a call that may be repeated is, with the same id, until it is answered", async () => {
  const { world, room, clock } = await welcomed();
  const call = outcome(room.call("order", { article: "tea" }, { retry: true }));
  const first = world.socket.last();
  assert.ok(first.request_id.length >= 16);
  world.socket.shut(1006);
  await clock.pass(2_000);
  assert.deepEqual(world.socket.sent, [first]);
  world.socket.fail("in_progress", { retry_after: 2 });
  await clock.pass(2_000);
  assert.deepEqual(world.socket.sent, [first, first]);
  world.socket.reply(7);
  await settle();
  assert.equal(call.now, 7);
});

test("no two clients of a user have an id in common", async () => {
  const ids = new Set();
  for (const { world, room } of [await welcomed(), await welcomed()]) {
    outcome(room.call("order", { article: "tea" }));
    ids.add(world.socket.last().request_id);
  }
  assert.equal(ids.size, 2);
});

test("what is called while the room is away waits for it, in order, and is safe to repeat when its time is over", async () => {
  const world = new World();
  const room = world.client().room("/a");
  const calls = [1, 2].map((n) => outcome(room.call("say", { n })));
  await world.clock.pass(5_000);
  const third = outcome(room.call("say", { n: 3 }, { timeout: 60_000 }));
  await world.clock.pass(5_000);
  assert.deepEqual(calls.map(({ now }) => now), ["NotSent", "NotSent"]);
  world.arrives = (socket) => socket.welcome();
  await world.clock.pass(2_000);
  assert.deepEqual(world.socket.sent.map(({ n }) => n), [3]);
  world.socket.reply("ok");
  await settle();
  assert.equal(third.now, "ok");
});

test("the queue is bounded, in calls and in bytes; or there is none", async () => {
  const world = new World();
  const room = world.client().room("/a");
  const calls = Array.from({ length: 65 }, () => outcome(room.call("say")));
  await settle();
  assert.deepEqual([calls[63]!.now, calls[64]!.now], ["pending", "NotSent"]);
  const large = outcome(world.client().room("/b").call("say", { text: "x".repeat(300_000) }));
  const none = outcome(world.client({ away: "fail" }).room("/c").call("say"));
  await settle();
  assert.deepEqual([large.now, none.now], ["NotSent", "NotSent"]);
});

test("a message beyond the server's limit is not sent: it would take the connection along", async () => {
  const { world, room } = await welcomed();
  const ascii = outcome(room.call("say", { text: "x".repeat(70_000) }));
  const wide = outcome(room.call("say", { text: "好".repeat(22_000) }));
  const fits = outcome(room.call("say", { text: "x".repeat(60_000) }));
  await settle();
  assert.deepEqual([ascii.now, wide.now, fits.now, world.socket.sent.length], ["NotSent", "NotSent", "pending", 1]);
});

test("a stream: its items, its end, its error", async () => {
  const { world, room } = await welcomed();
  const items: unknown[] = [];
  const reading = (async () => { for await (const item of room.stream("count", { upto: 2 })) items.push(item); })();
  world.socket.reply(0, true);
  world.socket.reply(1, true);
  world.socket.reply(null, false);
  await reading;
  assert.deepEqual(items, [0, 1]);
  const failing = room.stream("count");
  world.socket.reply(0, true);
  world.socket.fail("internal_error");
  assert.deepEqual(await failing.next(), { done: false, value: 0 });
  await assert.rejects(failing.next(), ActionError);
  assert.deepEqual(await failing.next(), { done: true, value: undefined });
});

test("the time of a stream is that until its next item", async () => {
  const { world, room, clock } = await welcomed();
  const stream = room.stream("count", {}, { timeout: 1_000 });
  for (let number = 0; number < 5; number++) {
    await clock.pass(900);
    world.socket.reply(number, true);
    assert.deepEqual(await stream.next(), { done: false, value: number });
  }
  const next = outcome(stream.next());
  await clock.pass(1_000);
  assert.equal(next.now, "TimedOut");
});

test("a room that is joined has nothing to retry", async () => {
  const { world, room } = await welcomed();
  room.retry();
  assert.equal(room.state, "joined");
  const call = outcome(room.call("say"));
  world.socket.reply(1);
  await settle();
  assert.equal(call.now, 1);
});

test("leaving a loop cancels the stream on the server, once", async () => {
  const { world, room } = await welcomed();
  const stream = room.stream("count");
  world.socket.reply(0, true);
  for await (const item of stream) { assert.equal(item, 0); break; }
  assert.deepEqual(world.socket.sent.map(({ type, action }) => type ?? action), ["count", "cancel"]);
  world.socket.reply(1, true);
  await stream.return!();
  assert.equal(world.socket.sent.length, 2);
});

test("a stream that nobody reads is bounded, and ends on the server", async () => {
  const { world, room } = await welcomed();
  const stream = room.stream("count");
  const { request_id } = world.socket.last();
  for (let item = 0; item < 2_000; item++) {
    world.socket.say({ type: "response", action: "count", request_id, status: "ok", data: item, more: true });
  }
  assert.deepEqual(world.socket.last(), { type: "cancel", request_id });
  let count = 0;
  await assert.rejects(async () => { for await (const _ of stream) count++; }, { name: "Overflow" });
  assert.equal(count, 1_024);
});

/** A room of a server that knows windows, and a stream of it whose items come by `say`. */
async function windowed(options: object) {
  const world = new World();
  world.arrives = (socket) => socket.welcome({ max_window: 65_536 });
  const room = world.client().room("/rooms/{channel}", { channel: "lobby" });
  await world.clock.pass(1);
  const stream = room.stream("count", {}, options);
  const asked = world.socket.last();
  const { request_id } = asked;
  const say = (index: number, more = true, data: unknown = index) =>
    world.socket.say({ type: "response", action: "count", request_id, status: "ok", data, more, index });
  const given = () => world.socket.sent.filter(({ type }) => type === "credit").map(({ count }) => count);
  return { world, stream, asked, say, given, clock: world.clock };
}

test("a stream has a window, and gives credit for each half that is taken", async () => {
  const { world, stream, asked, say, given } = await windowed({ window: 4 });
  assert.equal(asked.window, 4);
  for (const index of [0, 1, 2, 3]) say(index);
  const seen: unknown[] = [];
  for (const index of [0, 1, 2, 3]) {
    assert.deepEqual(await stream.next(), { done: false, value: index });
    seen.push(given().length);
  }
  assert.deepEqual([seen, given()], [[0, 1, 1, 2], [2, 2]]);
  assert.deepEqual(world.socket.last(), { type: "credit", request_id: asked.request_id, count: 2 });
  // Whoever waits takes what comes at once.
  const next = [outcome(stream.next()), outcome(stream.next())];
  say(4), say(5);
  await settle();
  assert.deepEqual([next.map(({ now }: any) => now.value), given()], [[4, 5], [2, 2, 2]]);
  say(6), say(7), say(8, false, null);
  assert.deepEqual(await Array.fromAsync(stream), [6, 7]);
  assert.deepEqual(given(), [2, 2, 2], "what has ended needs none");
});

test("a window is 64 if nothing is said, and none where null is", async () => {
  for (const [options, window] of [[{}, 64], [{ window: 1024 }, 1024], [{ window: null }, undefined]] as const) {
    assert.equal((await windowed(options)).asked.window, window);
  }
});

test("what is no window is refused where it is said", async () => {
  const { world, room } = await welcomed();
  for (const window of [0, -1, 1.5, 1_025, NaN, Infinity, "8" as any]) {
    assert.throws(() => room.stream("count", {}, { window }), { name: "RangeError", message: /1 to 1024, or null/ });
  }
  assert.deepEqual(world.socket.sent, []);
});

test("a server that does not know windows is asked for all", async () => {
  const { world, room } = await welcomed();
  const stream = room.stream("count", {}, { window: 2 });
  assert.equal("window" in world.socket.last(), false);
  for (let item = 0; item < 10; item++) world.socket.reply(item, true);
  for (let item = 0; item < 10; item++) assert.equal((await stream.next()).value, item);
  assert.equal(world.socket.sent.length, 1);
});

test("the time of a stream stands still while the server may send nothing", async () => {
  const { stream, say, clock } = await windowed({ window: 2, timeout: 1_000 });
  say(0), say(1);
  await clock.pass(20_000);
  assert.equal((await stream.next()).value, 0);
  await clock.pass(900);
  assert.equal((await stream.next()).value, 1);
  const next = outcome(stream.next());
  await clock.pass(999);
  assert.equal(next.now, "pending");
  await clock.pass(1);
  assert.equal(next.now, "TimedOut");
});

test("an item that is missing ends the stream", async () => {
  for (const more of [true, false]) {
    const { world, stream, say } = await windowed({});
    say(0), say(2, more);
    assert.equal((await stream.next()).value, 0);
    await assert.rejects(stream.next(), /item 1 is missing/);
    assert.equal(world.socket.last().type, "cancel");
  }
});

test("a call of an action that streams says so, and a lost stream too", async () => {
  const { world, room } = await welcomed();
  const call = outcome(room.call("count"));
  world.socket.reply(0, true);
  const stream = room.stream("count");
  world.socket.shut(1006);
  await assert.rejects(stream.next(), { name: "ConnectionLost" });
  assert.equal(call.now, "ChannelsError");
});

test("events as listeners and as a loop; what throws harms nobody", async () => {
  const { world, room } = await welcomed();
  const heard: unknown[] = [];
  const looped: unknown[] = [];
  room.on("said", () => { throw new Error("mine"); });
  const all: unknown[] = [];
  room.onAny((_, { event }) => all.push(event));
  const stop = room.on("said", (data, about) => heard.push([data, about.channel]));
  const events = room.events("said");
  const loop = (async () => { for await (const data of events) looped.push(data); })();
  const say = (data: unknown) => world.socket.say({ type: "event", event: "said", channel: "lobby", data });
  say(1), say(2);
  stop();
  say(3);
  await settle();
  room.leave();
  await loop;
  assert.deepEqual(all, ["said", "said", "said"]);
  assert.deepEqual([heard, looped, world.errors.length], [[[1, "lobby"], [2, "lobby"]], [1, 2, 3], 3]);
});

test("what async listeners reject with reaches onError alone, as what they throw does", async () => {
  const { world, room } = await welcomed();
  const loose: unknown[] = [];
  const hear = (reason: unknown) => loose.push(reason);
  process.on("unhandledRejection", hear);
  const rejects = (name: string) => async () => { throw new Error(name); };
  room.on("said", rejects("event"));
  room.onAny(rejects("any"));
  room.onGap(rejects("gap"));
  room.onState(rejects("state"));
  room.onPresence(rejects("presence"));
  room.onFrame(rejects("frame"));
  room.answer("confirm", rejects("call"));
  world.socket.say({ type: "event", event: "said", channel: "lobby", data: 1 });
  world.socket.say({ type: "resync", channel: "lobby" });
  world.socket.say({ type: "presence", version: 1, present: [{ id: "c", user: "ann", data: null }] });
  world.socket.say({ type: "weather" });
  world.socket.say({ type: "call", call: "confirm", call_id: 1, channel: "lobby", data: 2 });
  room.leave();
  // What is rejected is told as unhandled before the next turn of the loop.
  await new Promise((resolve) => setImmediate(resolve));
  process.off("unhandledRejection", hear);
  const told = world.errors.map((error) => (error as Error).message).sort();
  assert.deepEqual([told, loose], [["any", "call", "event", "frame", "gap", "presence", "presence", "state"], []]);
});

test("what onError throws, or rejects with, is told as what nobody caught", async () => {
  const told: unknown[] = [];
  const before = Object.getOwnPropertyDescriptor(globalThis, "reportError");
  Object.defineProperty(globalThis, "reportError", { configurable: true, value: (error: Error) => told.push(error.message) });
  try {
    for (const onError of [() => { throw new Error("thrown"); }, async () => { throw new Error("rejected"); }]) {
      const { world, room } = await welcomed({ onError });
      room.on("said", () => { throw new Error("listener"); });
      world.socket.say({ type: "event", event: "said", channel: "lobby", data: 1 });
      world.socket.say("no frame");
      await settle();
      assert.equal(room.state, "joined");
    }
  } finally {
    if (before) Object.defineProperty(globalThis, "reportError", before);
    else delete (globalThis as any).reportError;
  }
  assert.deepEqual(told, ["thrown", "thrown", "rejected", "rejected"]);
});

test("a loop over a room that is over ends at once, or with what ended it", async () => {
  const { room } = await welcomed();
  room.leave();
  assert.deepEqual(await Array.fromAsync(room.events("said")), []);
  const { world, room: closed } = await welcomed();
  world.socket.shut(4501, "no token");
  await assert.rejects(Array.fromAsync(closed.events("said")), { name: "Refused", closeCode: 4501 });
  await assert.rejects(closed.ready(), { name: "Refused" });
});

test("what waits for a room is measured as it is sent", async () => {
  const codec = {
    encode: (frame: any) => new Uint8Array(frame.size ?? 1),
    decode: (data: string | ArrayBuffer) => JSON.parse(data as string),
  };
  const room = new World().client({ codec }).room("/a");
  const fits = outcome(room.call("say", { size: 200_000, number: 1n }));
  const large = outcome(room.call("say", { size: 100_000 }));
  await settle();
  assert.deepEqual([fits.now, large.now], ["pending", "NotSent"]);
});

test("what the server asks is answered: by a handler, with its error, or with none there", async () => {
  const { world, room } = await welcomed();
  const ask = async (call: string) => {
    world.socket.say({ type: "call", call, call_id: 1, channel: "lobby", data: 2 });
    await settle();
    return world.socket.last();
  };
  room.answer("double", async (n) => 2 * (n as number));
  room.answer("fail", () => { throw new Error("not now"); });
  const stop = room.answer("nothing", () => undefined);
  assert.deepEqual(await ask("double"), { type: "answer", call_id: 1, data: 4 });
  assert.deepEqual(await ask("fail"), { type: "answer", call_id: 1, errors: "not now" });
  assert.deepEqual(await ask("nothing"), { type: "answer", call_id: 1, data: null });
  room.answer("large", () => "x".repeat(70_000));
  assert.match((await ask("large")).errors, /65536/);
  stop();
  assert.deepEqual((await ask("nothing")).errors, "nobody here answers nothing");
});

test("a call within a listener is answered", async () => {
  const { world, room } = await welcomed();
  world.socket.heard = (frame) => { if (frame.action === "ack") world.socket.reply("done"); };
  const answered = outcome(new Promise((resolve) => room.on("said", async () => resolve(await room.call("ack")))));
  world.socket.say({ type: "event", event: "said", channel: "lobby", data: null });
  await settle();
  assert.equal(answered.now, "done");
});

test("the history is read by pages", async () => {
  const { world, room } = await welcomed();
  const pages = [{ items: [said(3), said(2)], next: "e:2" }, { items: [said(1)], next: null }];
  const asked: any[] = [];
  world.socket.heard = (frame) => {
    asked.push([frame.action, frame.limit, frame.since]);
    world.socket.reply({ ...pages[asked.length - 1], position: "e:3", complete: true });
  };
  const found: unknown[][] = [];
  for await (const { items } of room.history({ limit: 2 })) found.push(items.map(({ data }) => data));
  assert.deepEqual(found, [[3, 2], [1]]);
  assert.deepEqual(asked, [["history", 2, undefined], ["history", 2, "e:2"]]);
});

test("a codec of one's own: other names, in bytes", async () => {
  const encode = (frame: any) => {
    const { action, request_id, ...rest } = frame;
    return new TextEncoder().encode(JSON.stringify({ ...rest, ...(action && { method: action, id: request_id }) }));
  };
  const decode = (data: string | ArrayBuffer) => {
    const { id, method, ...rest } = JSON.parse(typeof data === "string" ? data : new TextDecoder().decode(data));
    return { ...rest, ...(id && { request_id: id, action: method }) };
  };
  const { world, room } = await welcomed({ codec: { encode, decode } });
  assert.equal(world.socket.binaryType, "arraybuffer");
  const call = outcome(room.call("say", { text: "hello" }));
  const { method, id, text } = world.socket.last();
  assert.deepEqual([method, text], ["say", "hello"]);
  const reply = { type: "response", method, id, status: "ok", data: 7 };
  world.socket.onmessage!({ data: new TextEncoder().encode(JSON.stringify(reply)).buffer });
  const large = outcome(room.call("say", { text: "x".repeat(70_000) }));
  await settle();
  assert.deepEqual([call.now, large.now, world.errors], [7, "NotSent", []]);
});

test("frames of an application's own are handed on", async () => {
  const { world, room } = await welcomed();
  const frames: unknown[] = [];
  room.onFrame((frame) => frames.push(frame));
  world.socket.say({ action: "message", user: "ann" });
  // Ours has a version.
  world.socket.say({ type: "presence", users: ["ann"] });
  assert.deepEqual(frames, [{ action: "message", user: "ann" }, { type: "presence", users: ["ann"] }]);
});

test("whatever happens, everything that was asked is settled and nothing is left", async () => {
  let seed = 7;
  const chance = () => { seed = (seed * 48_271) % 2_147_483_647; return seed / 2_147_483_647; };
  for (let round = 0; round < 60; round++) {
    const { world, room, clock } = await welcomed();
    clock.chance = chance;
    const outcomes: { now: unknown }[] = [];
    for (let step = 0; step < 40; step++) {
      const control = new AbortController();
      const moves = [
        () => outcomes.push(outcome(room.call("say", {}, { signal: control.signal, retry: chance() < 0.5 }))),
        () => outcomes.push(outcome((async () => { for await (const _ of room.stream("count")) if (chance() < 0.3) break; })())),
        () => world.socket.sent.length > 0 && world.socket.reply(step, chance() < 0.5 ? true : undefined),
        () => world.socket.sent.length > 0 && world.socket.fail("unavailable"),
        () => control.abort(),
        () => world.socket.shut(chance() < 0.8 ? 1006 : 1008),
        () => { world.socket.dead = true; },
        () => room.retry(),
        () => room.leave(),
      ];
      moves[Math.floor(chance() * moves.length)]!();
      await clock.pass(chance() * 8_000);
    }
    room.leave();
    await clock.pass(60_000);
    assert.deepEqual(outcomes.filter(({ now }) => now === "pending"), []);
    assert.deepEqual([world.open.length, clock.pending], [0, 0]);
  }
});

// Many rooms on one WebSocket

/** @param filters names of rooms without a history */
async function socketed(limits = {}, filters: string[] = []) {
  const world = new World();
  const members = new Set<string>();
  const joins: any[] = [];
  const sizes: number[] = [];
  world.arrives = (socket) => {
    members.clear();
    socket.heard = (frame) => {
      const { type, channel, request_id } = frame;
      if (type === "join") {
        const rooms = frame.channels ?? [frame];
        sizes.push(rooms.length);
        for (const { channel, request_id, since, connection } of rooms) {
          joins.push({ channel, since, connection });
          members.add(channel);
          const kept = { position: since ?? "e:0", connection: "m", ...(since && { recovered: true }) };
          socket.say({ type: "joined", channel, request_id, ...(filters.includes(channel) ? {} : kept) });
        }
      } else if (type === "leave") {
        members.delete(channel);
        socket.say({ type: "left", channel, request_id });
      }
    };
    socket.welcome(limits);
  };
  const socket = world.client().socket("/desk");
  await world.clock.pass(1);
  return { world, socket, members, joins, sizes, clock: world.clock };
}

test("a room that is left and asked for again while a loss is told is told no more of it", async () => {
  const { world, socket, clock } = await socketed({}, ["a"]);
  let losses = 0;
  const enter = () => {
    const room = socket.room("a");
    room.onState((state) => {
      if (state !== "joining" || ++losses > 9) return;
      room.leave();
      enter();
    });
  };
  enter();
  await clock.pass(1);
  world.socket.shut(1006);
  assert.equal(losses, 1);
});

test("an event on a topic is told in each room whose filter it fits", async () => {
  const names = ["sport/+/7", "sport/#", "sport/golf/7", "#", "+", "/+", "+/+", "$SYS/#", "#general"];
  const { world, socket, clock } = await socketed({}, names);
  const heard: [string, string][] = [];
  for (const name of names) socket.room(name).onAny((_, { channel }) => heard.push([name, channel]));
  socket.own.onAny((_, { channel }) => heard.push(["own", channel]));
  await clock.pass(1);
  const told = (channel: string, type = "event") => {
    heard.length = 0;
    world.socket.say({ type, event: "said", channel, data: null });
    return heard.map(([name, topic]) => (assert.equal(topic, channel), name));
  };
  assert.deepEqual(told("sport/golf/7"), ["sport/+/7", "sport/#", "sport/golf/7", "#"]);
  assert.deepEqual(told("sport"), ["sport/#", "#", "+"]);
  assert.deepEqual(told("/finance"), ["#", "/+", "+/+"]);
  assert.deepEqual(told("$SYS"), ["$SYS/#"]);
  assert.deepEqual(told("#general"), ["#", "+", "#general"]);
  const gaps: string[] = [];
  for (const name of names) socket.room(name).onGap(() => gaps.push(name));
  world.socket.say({ type: "resync", channel: "sport/#" });
  assert.deepEqual(gaps, ["sport/#"]);
});

test("a room with a history is no filter, whatever its name", async () => {
  const { world, socket, clock } = await socketed({}, ["news/+"]);
  const heard: string[] = [];
  for (const name of ["#", "news/+", "news/today"]) socket.room(name).onAny(() => heard.push(name));
  await clock.pass(1);
  const told = (channel: string, position?: string) => {
    heard.length = 0;
    world.socket.say({ type: "event", event: "said", channel, data: null, position });
    return [...heard];
  };
  assert.deepEqual(told("news/today", "e:1"), ["news/today"]);
  assert.deepEqual(told("#", "f:1"), ["#"]);
  assert.deepEqual(told("news/sport"), ["news/+"]);
});

const FRAMES: [object, number[]][] = [
  [{}, Array(99).fill(1)],
  [{ max_joins: 100 }, [51, 48]],
  [{ max_joins: 40 }, [40, 40, 19]],
  [{ max_joins: 100, max_message_size: 1_000_000 }, [99]],
];

for (const [limits, wanted] of FRAMES) test(`a hundred rooms are joined again, each from where it was: ${JSON.stringify(limits)}`, async () => {
  const { world, socket, members, joins, sizes, clock } = await socketed(limits);
  const rooms = Array.from({ length: 100 }, (_, n) => socket.room(`room:${n}`));
  for (const [n, room] of rooms.entries()) {
    world.socket.say({ type: "event", event: "said", channel: room.name, data: n, position: `e:${n + 1}` });
  }
  world.socket.shut(1006);
  assert.deepEqual(new Set(rooms.map(({ state }) => state)), new Set(["joining"]));
  rooms[7]!.leave();
  joins.length = sizes.length = 0;
  await clock.pass(2_000);
  assert.deepEqual(sizes, wanted);
  assert.deepEqual([members.size, joins.length, members.has("room:7")], [99, 99, false]);
  assert.ok(joins.every(({ channel, since, connection }) => since === `e:${Number(channel.slice(5)) + 1}` && connection === "m"));
});

test("what was dropped for a slow client is asked for in the open room", async () => {
  const { world, socket, joins } = await socketed();
  const [room, other] = [socket.room("a"), socket.room("b")];
  const heard: unknown[] = [];
  const gaps: unknown[] = [];
  room.onAny((_, { position }) => heard.push(position));
  room.onGap(({ reason, dropped }) => gaps.push([reason, dropped]));
  const said = (n: number) => world.socket.say({ type: "event", event: "said", channel: "a", data: n, position: `e:${n}` });
  const lagged = (since?: string) => world.socket.say({ type: "lagged", channel: "a", dropped: 6, since });
  const { heard: hear } = world.socket;
  let asked: any = null;
  world.socket.heard = (frame) => { asked = frame; };
  said(1);
  lagged("e:1");
  said(8);
  lagged("e:8");
  assert.deepEqual([asked.type, asked.channel, asked.since, heard, gaps, room.position], ["join", "a", "e:1", ["e:1"], [], "e:1"]);
  const { request_id } = asked;
  world.socket.say({ type: "joined", channel: "a", request_id, position: "e:1", connection: "m", recovered: true });
  for (let n = 2; n <= 9; n++) said(n);
  assert.deepEqual([heard.length, room.position, gaps, room.state, other.state], [9, "e:9", [], "joined", "joined"]);
  lagged("e:9");
  world.socket.say({ type: "joined", channel: "a", request_id: asked.request_id, position: "e:20", connection: "m", recovered: false, reason: "limit" });
  said(21);
  assert.deepEqual([heard.at(-1), room.position, gaps], ["e:21", "e:21", [["limit", null]]]);
  lagged("e:21");
  world.socket.say({ type: "response", action: "join", channel: "a", request_id: asked.request_id, status: "bad", code: "internal_error", errors: "no" });
  lagged();
  lagged("other:7");
  assert.deepEqual(gaps.slice(1), [["lagged", null], ["lagged", 6], ["lagged", 6]]);
  world.socket.heard = hear;
  lagged("e:21");
  assert.deepEqual(joins.at(-1), { channel: "a", since: "e:21", connection: undefined });
  said(22);
  assert.deepEqual([heard.at(-1), gaps.length], ["e:22", 4]);
});

test("who is lost while it asks for what was dropped comes back from where it was", async () => {
  const { world, room, clock } = await welcomed();
  const gaps: unknown[] = [];
  room.onGap((gap) => gaps.push(gap));
  world.socket.say({ type: "joined", position: "e:3", connection: "c" });
  world.socket.say({ type: "lagged", channel: "lobby", dropped: 6, since: "e:3" });
  assert.deepEqual([world.socket.last().type, world.socket.last().since], ["join", "e:3"]);
  world.arrives = (socket) => {
    socket.accept();
    socket.say({ type: "joined", position: "e:3", connection: "d", recovered: true });
    socket.say({ type: "event", event: "said", channel: "lobby", data: 4, position: "e:4" });
    socket.welcome();
  };
  world.socket.shut(1006);
  await clock.pass(2_000);
  assert.deepEqual([world.socket.query().since, room.position, gaps, world.socket.sent.length], ["e:3", "e:4", [], 0]);
});

test("events, calls and answers go to the room that they name", async () => {
  const { world, socket } = await socketed();
  const [a, b] = [socket.room("a"), socket.room("b")];
  const heard: unknown[] = [];
  a.on("said", (data) => heard.push(["a", data]));
  b.on("said", (data) => heard.push(["b", data]));
  socket.own.on("said", (data) => heard.push(["own", data]));
  for (const channel of ["a", "b", "*", "elsewhere"]) world.socket.say({ type: "event", event: "said", channel, data: channel });
  assert.deepEqual(heard, [["a", "a"], ["b", "b"], ["own", "*"]]);
  const call = outcome(b.call("say", { text: "x" }));
  assert.equal(world.socket.last().channel, "b");
  world.socket.reply(1);
  await settle();
  assert.equal(call.now, 1);
});

test("two that ask for one room share it, and it is left with the second", async () => {
  const { socket, members } = await socketed();
  const [one, two] = [socket.room("a"), socket.room("a")];
  assert.equal(one, two);
  one.leave();
  assert.ok(members.has("a"));
  two.leave();
  assert.deepEqual([members.has("a"), two.state], [false, "left"]);
  assert.notEqual(socket.room("a"), two);
});

test("a room that is left and asked for again at once is joined, whatever of the one before is answered then", async () => {
  const { world, socket } = await socketed();
  const asked: any[] = [];
  const before = socket.room("a");
  world.socket.heard = (frame) => asked.push(frame);
  const answered = (room: { state: string }) => asked.splice(0).map(({ type, channel, request_id }) => {
    world.socket.say({ type: type === "join" ? "joined" : "left", channel, request_id });
    return `${type} ${room.state}`;
  });
  before.leave();
  const after = socket.room("a");
  assert.deepEqual(answered(after), ["leave joining", "join joined"]);
  socket.room("b").leave();
  const again = socket.room("b");
  assert.deepEqual(answered(again), ["join joining", "leave joining", "join joined"]);
  world.socket.say({ type: "left", channel: "b" });
  assert.equal(again.state, "left");
});

test("a room that refuses for good stays away, one that refuses for now is asked again", async () => {
  const { world, socket, clock } = await socketed();
  let code = "permission_denied";
  world.socket.heard = ({ request_id, channel }) =>
    world.socket.say({ type: "response", action: "join", channel, request_id, status: "bad", code, errors: "no" });
  const never = socket.room("a");
  code = "channel_full";
  const later = socket.room("b");
  assert.deepEqual([never.state, never.refusal?.code], ["refused", "permission_denied"]);
  assert.deepEqual([later.state, later.refusal?.code], ["joining", "channel_full"]);
  const call = outcome(never.call("say", {}, { timeout: 1 }));
  world.socket.heard = ({ type, request_id, channel }) => { if (type === "join") world.socket.say({ type: "joined", channel, request_id }); };
  await clock.pass(1_000);
  assert.deepEqual([later.state, never.state, call.now], ["joined", "refused", "NotSent"]);
  never.retry();
  assert.equal(never.state, "joined");
});

test("who is sent out of a room comes back where the code says so", async () => {
  const { world, socket, clock } = await socketed();
  const [a, b, c] = ["a", "b", "c"].map((name) => socket.room(name));
  world.socket.say({ type: "left", channel: "a", close_code: 1013, reason: "full" });
  world.socket.say({ type: "left", channel: "b", close_code: 4501, reason: "language" });
  world.socket.say({ type: "left", channel: "c" });
  assert.deepEqual([a!.state, b!.state, b!.refusal?.closeCode, c!.state], ["joining", "refused", 4501, "left"]);
  await clock.pass(1_000);
  assert.deepEqual([a!.state, b!.state], ["joined", "refused"]);
});

test("closing the socket leaves all", async () => {
  const { world, socket, clock } = await socketed();
  const room = socket.room("a");
  const call = outcome(room.call("say"));
  socket.close();
  await settle();
  assert.deepEqual([room.state, socket.state, call.now, world.open.length, clock.pending], ["left", "idle", "ConnectionLost", 0, 0]);
  for (const again of [() => socket.room("b"), () => room.retry(), () => socket.own.retry()]) {
    assert.throws(again, { name: "ChannelsError", message: "the socket was closed" });
  }
  assert.deepEqual([world.sockets.length, clock.pending], [1, 0]);
});

test("a room of a socket that is refused is refused, until it is asked for again", async () => {
  const { world, socket, clock } = await socketed();
  world.socket.shut(4501, "no token");
  const room = socket.room("late");
  await assert.rejects(room.ready(), { name: "Refused", closeCode: 4501 });
  room.retry();
  await clock.pass(2_000);
  assert.deepEqual([socket.state, world.socket.last()?.channel], ["open", "late"]);
});

test("members of both sides agree when it is quiet, whatever was done from within listeners", async () => {
  let seed = 11;
  const chance = () => { seed = (seed * 48_271) % 2_147_483_647; return seed / 2_147_483_647; };
  for (let round = 0; round < 30; round++) {
    const { world, socket, members, clock } = await socketed();
    const here = new Map<string, any>();
    const move = () => {
      const name = `r${Math.floor(chance() * 4)}`;
      if (here.has(name)) { here.get(name).leave(); here.delete(name); }
      else {
        const room = socket.room(name);
        here.set(name, room);
        if (chance() < 0.5) room.onState(() => { if (chance() < 0.2 && here.get(name) === room) { room.leave(); here.delete(name); } });
      }
    };
    for (let step = 0; step < 30; step++) {
      if (chance() < 0.2) world.socket.shut(1006);
      else move();
      await clock.pass(chance() * 1_500);
    }
    await clock.pass(60_000);
    assert.deepEqual([...members].sort(), [...here.keys()].sort());
    assert.ok([...here.values()].every(({ state }) => state === "joined"));
  }
});

