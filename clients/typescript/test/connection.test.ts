/** How a connection comes, goes and comes back. The clock and the server are the test's. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { SUBPROTOCOL } from "../src/connection.ts";
import { createClient } from "../src/index.ts";
import { World, evenly, outcome, settle, welcomed } from "./fake.ts";

test("nothing happens before a room is asked for, wherever it is imported", () => {
  const world = new World();
  const forbidden = ["WebSocket", "window", "document", "localStorage", "addEventListener"];
  const before = forbidden.map((name) => Object.getOwnPropertyDescriptor(globalThis, name));
  for (const name of forbidden) {
    Object.defineProperty(globalThis, name, { configurable: true, get() { throw new Error(`no ${name} here`); } });
  }
  try {
    world.client();
    createClient("http://example.com");
  } finally {
    forbidden.forEach((name, at) => {
      delete (globalThis as any)[name];
      if (before[at]) Object.defineProperty(globalThis, name, before[at]);
    });
  }
  assert.equal(world.sockets.length, 0);
  assert.equal(world.clock.pending, 0);
});

test("who asks for a room and leaves it at once has dialed nobody", async () => {
  const world = new World();
  world.arrives = (socket) => socket.welcome();
  const client = world.client();
  client.room("/a").leave();
  const room = client.room("/a");
  await world.clock.pass(2_000);
  assert.deepEqual([room.state, world.sockets.length], ["joined", 1]);
});

test("the address has the parameters, below the path of the application", async () => {
  const world = new World();
  const client = world.client({ protocols: ["app"], query: () => ({ lang: "zh" }) });
  client.room("/rooms/{channel}", { channel: "a b" }, { query: { name: "ann" } });
  await settle();
  assert.equal(world.socket.url, "ws://example.com/app/rooms/a%20b?lang=zh&name=ann");
  assert.deepEqual(world.socket.protocols, [SUBPROTOCOL, "app"]);
  assert.throws(() => client.room("/rooms/{channel}"), /wants the parameter channel/);
});

test("open means welcome, and not only that the handshake was accepted", async () => {
  const world = new World();
  const room = world.client().room("/a");
  await settle();
  world.socket.accept();
  assert.equal(room.line, "connecting");
  world.socket.say({ type: "welcome", connection: "c.1", max_message_size: 100 });
  assert.deepEqual([room.line, room.state], ["open", "joined"]);
});

test("a server that chose another subprotocol need not greet", async () => {
  const world = new World();
  const room = world.client({ protocols: ["app"] }).room("/a");
  await settle();
  world.socket.accept("app");
  assert.equal(room.line, "open");
});

for (const code of [1001, 1005, 1006, 1011, 1012, 1013, 1014, 3008, 4000, 4010]) {
  test(`it comes back after ${code}`, async () => {
    const { world, room, clock } = await welcomed();
    world.socket.shut(code);
    assert.deepEqual([room.line, room.state], ["waiting", "joining"]);
    await clock.pass(1_500);
    assert.deepEqual([room.line, world.sockets.length], ["open", 2]);
  });
}

for (const code of [1000, 1002, 1003, 1007, 1008, 1009, 3000, 3003, 4500, 4505]) {
  test(`it stays away after ${code}, until it is told to retry`, async () => {
    const { world, room, clock } = await welcomed();
    world.socket.shut(code, "why");
    assert.deepEqual([room.line, room.state, room.refusal?.closeCode], ["closed", "refused", code]);
    await clock.pass(3_600_000);
    assert.equal(world.sockets.length, 1);
    room.retry();
    await clock.pass(1);
    assert.deepEqual([room.state, room.refusal, world.sockets.length], ["joined", null, 2]);
  });
}

test("a refusal says why: the error frame that came before the close", async () => {
  const world = new World();
  const room = world.client().room("/a");
  const ready = outcome(room.ready());
  await settle();
  world.socket.accept();
  world.socket.say({ type: "response", status: "bad", request_id: null, code: "permission_denied", errors: "no" });
  world.socket.shut(1008, "no");
  await world.clock.pass(0);
  assert.deepEqual([ready.now, room.refusal?.code, room.refusal?.message], ["permission_denied", "permission_denied", "no"]);
});

test("who is full now is asked again, when it said", async () => {
  const world = new World();
  const room = world.client().room("/a");
  await settle();
  world.socket.accept();
  world.socket.say({ type: "response", status: "bad", code: "unavailable", errors: "later", retry_after: 7 });
  world.socket.shut(1013);
  assert.deepEqual([room.state, room.refusal?.code], ["joining", "unavailable"]);
  await world.clock.pass(6_999);
  assert.equal(world.sockets.length, 1);
  await world.clock.pass(1);
  assert.equal(world.sockets.length, 2);
});

test("a restart says when to come back, in a frame or in the reason", async () => {
  for (const how of ["frame", "reason"]) {
    const { world, clock } = await welcomed();
    if (how === "frame") world.socket.say({ type: "drain", within: 10, retry_after: 3.5 });
    world.socket.shut(1012, how === "reason" ? "restart; retry_after=3.5" : "");
    await clock.pass(3_499);
    assert.equal(world.sockets.length, 1);
    await clock.pass(2);
    assert.equal(world.sockets.length, 2);
  }
});

test("a first connection that fails is tried again, for as long as it takes", async () => {
  const world = new World();
  world.arrives = (socket) => socket.shut(1006);
  const room = world.client().room("/a");
  const ready = outcome(room.ready());
  await world.clock.pass(600_000);
  world.arrives = (socket) => socket.welcome();
  await world.clock.pass(31_000);
  assert.equal(ready.now, room);
});

test("a server that accepts and closes at once is not hammered", async () => {
  const world = new World();
  const began: number[] = [];
  world.clock.chance = evenly();
  world.arrives = (socket) => { began.push(world.clock.now()); socket.welcome(); socket.shut(1011); };
  world.client().room("/a");
  await world.clock.pass(600_000);
  const gaps = began.slice(1).map((at, index) => at - began[index]!);
  assert.ok(Math.min(...gaps) >= 1_000, `two attempts within ${Math.min(...gaps)} ms`);
  const late = gaps.slice(8);
  const mean = late.reduce((a, b) => a + b, 0) / late.length;
  assert.ok(mean > 13_000 && mean < 17_000, `the mean delay grows to half of the ceiling: ${mean}`);
});

test("delays fall back only when a connection has lasted", async () => {
  const { world, clock } = await welcomed();
  world.arrives = (socket) => { socket.welcome(); socket.shut(1011); };
  world.socket.shut(1006);
  await clock.pass(60_000);
  world.arrives = (socket) => socket.welcome();
  await clock.pass(30_000);
  assert.equal(world.open.length, 1);
  await clock.pass(5_000);
  world.socket.shut(1006);
  await clock.pass(300);
  assert.equal(world.open.length, 1);
});

test("clients that lose a server together come back apart", async () => {
  const world = new World();
  world.arrives = (socket) => socket.welcome();
  world.clock.chance = evenly();
  const client = world.client();
  for (let count = 0; count < 300; count++) client.room("/a");
  await world.clock.pass(10_000);
  const lost = world.clock.now();
  const back: number[] = [];
  world.arrives = () => back.push(world.clock.now() - lost);
  for (const socket of [...world.sockets]) socket.shut(1006);
  await world.clock.pass(501);
  assert.equal(back.length, 300);
  const tenths = Array.from({ length: 10 }, (_, tenth) => back.filter((at) => Math.floor((at - 1) / 50) === tenth).length);
  assert.ok(Math.max(...tenths) < 60, `in one twentieth of a second: ${Math.max(...tenths)}`);
});

test("clients of a restart come back over the window that they are told", async () => {
  const world = new World();
  world.arrives = (socket) => socket.welcome();
  const chance = evenly();
  world.clock.chance = chance;
  const client = world.client();
  for (let count = 0; count < 300; count++) client.room("/a");
  await world.clock.pass(10_000);
  const lost = world.clock.now();
  const seconds = new Array(16).fill(0);
  world.arrives = (socket) => {
    seconds[Math.floor((world.clock.now() - lost) / 1_000)]++;
    socket.welcome();
  };
  for (const socket of [...world.sockets]) socket.shut(1012, `restart; retry_after=${(15 * chance()).toFixed(2)}`);
  await world.clock.pass(15_500);
  assert.ok(Math.max(...seconds) <= (2 * 300) / 15, `in one second: ${Math.max(...seconds)}`);
  assert.equal(seconds.reduce((sum, count) => sum + count, 0), 300);
});

test("what an old socket still says changes nothing", async () => {
  const { world, room, clock } = await welcomed();
  const heard: unknown[] = [];
  room.on("said", (data) => heard.push(data));
  for (let loss = 0; loss < 50; loss++) {
    world.socket.shut(1006);
    await clock.pass(60_000);
  }
  const old = world.sockets.slice(0, -1);
  for (const socket of old) {
    socket.say({ type: "event", event: "said", channel: "lobby", data: "old" });
    socket.shut(1008);
  }
  world.socket.say({ type: "event", event: "said", channel: "lobby", data: "new" });
  assert.deepEqual([heard, room.line, world.open.length], [["new"], "open", 1]);
});

test("a close that never comes is not waited for", async () => {
  const { world, room, clock } = await welcomed();
  world.socket.dead = true;
  await clock.pass(35_000 + 5_000 + 1_500);
  assert.deepEqual([room.line, world.sockets.length], ["open", 2]);
});

test("a dead link is noticed within 40 seconds, and a live one is kept", async () => {
  const { world, room, clock } = await welcomed();
  world.arrives = () => {};
  world.socket.heard = (frame) => { if (frame.type === "ping") world.socket.say({ type: "pong" }); };
  await clock.pass(3_600_000);
  assert.deepEqual([room.line, world.sockets.length], ["open", 1]);
  world.socket.dead = true;
  await clock.pass(40_000);
  assert.notEqual(room.line, "open");
});

test("after sleep a dead socket is noticed within five seconds", async () => {
  const { world, room, clock } = await welcomed();
  world.arrives = () => {};
  world.socket.dead = true;
  await clock.sleep(3_600_000);
  assert.equal(world.sockets[0]!.last().type, "ping");
  await clock.pass(5_000);
  assert.notEqual(room.line, "open");
});

test("timers that run once a minute cut no connection on which frames come", async () => {
  const { world, room, clock } = await welcomed();
  world.socket.heard = (frame) => { if (frame.type === "ping") world.socket.say({ type: "pong" }); };
  for (let minute = 0; minute < 60; minute++) {
    world.socket.say({ type: "event", event: "tick", channel: "lobby", data: null });
    await clock.sleep(60_000);
  }
  assert.deepEqual([room.line, world.sockets.length], ["open", 1]);
});

test("a handshake gets ten seconds", async () => {
  const world = new World();
  const room = world.client().room("/a");
  await world.clock.pass(10_000);
  assert.equal(room.line, "waiting");
  await world.clock.pass(1_000);
  assert.equal(world.sockets.length, 2);
});

test("it answers the server's ping", async () => {
  const { world } = await welcomed();
  world.socket.say({ type: "ping" });
  assert.deepEqual(world.socket.last(), { type: "pong" });
});

test("the token is asked for each attempt, and stands in no address", async () => {
  let count = 0;
  const { world, clock } = await welcomed({ token: async () => `t${++count}` });
  await clock.pass(1);
  world.socket.shut(1006);
  await clock.pass(2_000);
  assert.deepEqual(world.sockets.map(({ protocols }) => protocols[1]), ["bearer.t1", "bearer.t2"]);
  assert.ok(!world.socket.url.includes("t2"));
});

test("before a token ends a new one is sent on the open socket", async () => {
  let count = 0;
  const { world, room, clock } = await welcomed({ token: async () => { if (count === 2) throw new Error("offline"); return `t${++count}`; } });
  await clock.pass(1);
  world.socket.say({ type: "expiring", expires_in: 30 });
  await clock.pass(0);
  assert.deepEqual(world.socket.sent, [{ type: "refresh", token: "t2" }]);
  world.socket.say({ type: "authenticated", expires_in: 900 });
  world.socket.say({ type: "expiring", expires_in: 30 });
  await clock.pass(0);
  assert.deepEqual([world.sockets.length, world.socket.sent.length, String(world.errors)], [1, 1, "Error: offline"]);
  count = 3;
  world.socket.shut(4001, "token expired; retry_after=0");
  await clock.pass(2_000);
  assert.deepEqual([room.line, world.socket.protocols[1]], ["open", "bearer.t4"]);
});

test("a token that is over is replaced once, and not tried for ever", async () => {
  let count = 0;
  const { world, room, clock } = await welcomed({ token: async () => `t${++count}` });
  world.arrives = (socket) => {
    socket.accept();
    socket.say({ type: "response", status: "bad", code: "token_expired", errors: "over" });
    socket.shut(4001);
  };
  world.socket.shut(4001, "token expired; retry_after=0");
  await clock.pass(600_000);
  assert.deepEqual([room.state, room.refusal?.code, world.sockets.length], ["refused", "token_expired", 3]);
});

test("of two users the later one signs in, whenever the token of the one before comes", async () => {
  const world = new World();
  world.arrives = (socket) => socket.welcome();
  const waiting: ((token: string) => void)[] = [];
  const room = world.client({ token: () => new Promise<string>((go) => waiting.push(go)) }).room("/a");
  room.leave();
  room.retry();
  await world.clock.pass(1_000);
  waiting[1]!("b");
  waiting[0]!("a");
  await world.clock.pass(1_000);
  assert.deepEqual([room.state, world.sockets.map(({ protocols }) => protocols[1])], ["joined", ["bearer.b"]]);
});

test("a token that fails is tried again; one that comes after the end is not used", async () => {
  let fail = true;
  const world = new World();
  const waiting: ((token: string) => void)[] = [];
  const token = () => (fail ? Promise.reject(new Error("offline")) : new Promise<string>((go) => waiting.push(go)));
  const room = world.client({ token }).room("/a");
  await world.clock.pass(500);
  assert.deepEqual([room.line, String(world.errors[0])], ["waiting", "Error: offline"]);
  fail = false;
  await world.clock.pass(1_000);
  room.leave();
  waiting[0]!("late");
  await world.clock.pass(1);
  assert.deepEqual([room.line, world.sockets.length], ["idle", 0]);
});

test("a token that cannot be sent is refused at once, and stands in no message", async () => {
  for (const wrong of ["", "a b", "a,b", "a\nb", "a\u007f", "ä", "a=", 7, null, undefined, {}]) {
    const world = new World();
    const room = world.client({ token: () => wrong as string }).room("/a");
    await world.clock.pass(60_000);
    assert.deepEqual([room.state, room.refusal?.closeCode, world.sockets.length], ["refused", 0, 0]);
    assert.match(room.refusal!.message, /token: not of the characters of HTTP tokens/);
  }
});

test("a token that is no function is an error at once", () => {
  for (const token of ["abc", "", 7, {}, null]) {
    assert.throws(() => new World().client({ token: token as any }), { name: "TypeError", message: /^token/ });
  }
});

test("a token that never comes ends the attempt in its time, and is asked for again", async () => {
  const world = new World();
  world.arrives = (socket) => socket.welcome();
  let count = 0;
  const token = async () => (++count === 2 ? "two" : new Promise<string>(() => {}));
  const room = world.client({ token }).room("/a");
  await world.clock.pass(9_999);
  assert.equal(room.line, "connecting");
  await world.clock.pass(1);
  assert.equal(room.line, "waiting");
  await world.clock.pass(1_000);
  assert.deepEqual([room.state, world.socket.protocols[1]], ["joined", "bearer.two"]);
});

test("an address of no WebSocket is refused at once", async () => {
  const room = createClient("ftp://127.0.0.1").room("/a");
  await assert.rejects(room.ready(), { name: "Refused", closeCode: 0, message: /^SyntaxError/ });
});

test("a new token that cannot be sent is told, and the open socket stays", async () => {
  const tokens = ["a", "b\n"];
  const { world, room } = await welcomed({ token: () => tokens.shift()! });
  world.socket.say({ type: "expiring", expires_in: 30 });
  await world.clock.pass(1);
  assert.deepEqual([room.line, world.socket.sent, world.errors.length], ["open", [], 1]);
});

test("without a WebSocket it says what to do", async () => {
  const before = Object.getOwnPropertyDescriptor(globalThis, "WebSocket")!;
  delete (globalThis as any).WebSocket;
  try {
    await assert.rejects(createClient("http://example.com").room("/a").ready(), /no WebSocket: use the option webSocket/);
  } finally {
    Object.defineProperty(globalThis, "WebSocket", before);
  }
});

test("what is no frame is told, and harms nothing", async () => {
  const { world, room } = await welcomed();
  world.socket.say("<html>sign in</html>");
  world.socket.say("7");
  assert.deepEqual([room.line, world.errors.length], ["open", 2]);
});

test("where there is no WebSocket, or no such address, it says so once", async () => {
  const world = new World();
  class Refusing { constructor() { throw new SyntaxError("no such address"); } }
  const room = world.client({ webSocket: Refusing as any }).room("/a");
  await world.clock.pass(60_000);
  assert.deepEqual([room.state, room.refusal?.message], ["refused", "SyntaxError: no such address"]);
});

test("leaving ends it: no timer, no socket is left", async () => {
  const { world, room, clock } = await welcomed();
  room.leave();
  assert.deepEqual([room.state, world.open.length, world.socket.code, clock.pending], ["left", 0, 1000, 0]);
  room.leave();
  await clock.pass(60_000);
  assert.equal(world.sockets.length, 1);
  room.retry();
  await clock.pass(2_000);
  assert.equal(room.state, "joined");
});

test("a client leaves all that it has opened by one call, and what is asked for then is joined", async () => {
  const world = new World();
  world.arrives = (socket) => socket.welcome();
  const client = world.client();
  const [first, refused, left] = ["/a", "/b", "/c"].map((address) => client.room(address));
  const desk = client.socket("/desk");
  const ticket = desk.room("ticket:7");
  await world.clock.pass(1);
  world.sockets[1]!.shut(4501, "no");
  left!.leave();
  let again: typeof first;
  first!.onState((state) => { if (state === "left") again ??= client.room("/again"); });
  client.close();
  const states = [first, refused, left, desk.own, ticket].map((room) => room!.state);
  assert.deepEqual(states, ["left", "left", "left", "left", "left"]);
  assert.throws(() => desk.room("ticket:8"), { name: "ChannelsError" });
  await world.clock.pass(1);
  assert.deepEqual([again!.state, world.sockets.length, world.open.length], ["joined", 5, 1]);
  client.close();
  await world.clock.pass(60_000);
  assert.deepEqual([again!.state, world.open.length, world.clock.pending], ["left", 0, 0]);
});

class Page extends EventTarget {
  hidden = false;
}

async function inPage(run: (page: Page, world: World) => Promise<void>): Promise<void> {
  const page = new Page();
  const names = ["addEventListener", "removeEventListener", "document"] as const;
  const target = globalThis as any;
  target.addEventListener = page.addEventListener.bind(page);
  target.removeEventListener = page.removeEventListener.bind(page);
  target.document = page;
  const world = new World();
  world.arrives = (socket) => socket.welcome();
  try {
    await run(page, world);
  } finally {
    for (const name of names) delete target[name];
  }
}

for (const name of ["online", "visibilitychange", "resume"]) {
  test(`${name} cuts a wait short, and makes sure of a connection`, () => inPage(async (page, world) => {
    world.clock.chance = () => 0.999;
    const room = world.client().room("/a");
    await world.clock.pass(1);
    page.dispatchEvent(new Event(name));
    assert.equal(world.socket.last()?.type, "ping");
    await world.clock.pass(5_000);
    world.arrives = (socket) => socket.shut(1006);
    await world.clock.pass(120_000);
    const before = world.sockets.length;
    world.arrives = (socket) => socket.welcome();
    page.dispatchEvent(new Event(name));
    await world.clock.pass(1_001);
    assert.ok(world.sockets.length > before);
    assert.equal(room.line, "open");
  }));
}

test("a page that is put aside lets go, and comes back at once", () => inPage(async (page, world) => {
  const room = world.client().room("/a");
  await world.clock.pass(2_000);
  page.dispatchEvent(new Event("pagehide"));
  assert.deepEqual([room.state, world.open.length, world.socket.code], ["joining", 0, 3008]);
  await world.clock.pass(3_600_000);
  assert.equal(world.sockets.length, 1);
  page.dispatchEvent(new Event("pageshow"));
  await world.clock.pass(1);
  assert.deepEqual([room.state, world.sockets.length], ["joined", 2]);
  room.leave();
  page.dispatchEvent(new Event("online"));
  await world.clock.pass(60_000);
  assert.equal(world.sockets.length, 2);
}));
