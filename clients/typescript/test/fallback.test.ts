/** A room over HTTP where no WebSocket opens, and back. The clock, the network and the server are the test's. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { SUBPROTOCOL } from "../src/connection.ts";
import { evenly, outcome, settle } from "./fake.ts";
import { Both, listening, turns } from "./http.ts";

const said = (offset: number, epoch = "e") =>
  ({ type: "event", event: "said", channel: "lobby", data: offset, position: `${epoch}:${offset}` });
const joined = (offset: number, more = {}) =>
  ({ type: "joined", channel: "lobby", position: `e:${offset}`, connection: "s.1", ...more });
const told = (data: unknown, channel = "lobby") => ({ type: "event", event: "said", channel, data });

test("where a WebSocket opens nothing is asked over HTTP, and it is passed on as it is", async () => {
  const both = new Both();
  both.world.arrives = (socket) => socket.welcome();
  const room = both.client({ token: () => "t" }).room("/a");
  await both.pass(20_000);
  assert.deepEqual([room.state, both.requests.length], ["joined", 0]);
  assert.deepEqual(both.socket.protocols, [SUBPROTOCOL, "bearer.t"]);
  const reply = outcome(room.call("say"));
  both.socket.reply(7);
  await settle();
  assert.equal(reply.now, 7);
  both.socket.shut(1012);
  await both.pass(2_000);
  assert.deepEqual([room.state, both.world.sockets.length], ["joined", 2]);
  room.leave();
  assert.deepEqual([both.socket.code, both.clock.pending], [1000, 0]);
});

test("a server that chose another subprotocol need not greet", async () => {
  const both = new Both();
  both.world.arrives = (socket) => socket.accept("app");
  const room = both.client({ protocols: ["app"] }).room("/a");
  await both.pass(60_000);
  assert.deepEqual([room.state, both.requests.length], ["joined", 0]);
});

test("who is refused once comes back, and who is refused again listens over HTTP", async () => {
  const both = new Both();
  both.world.arrives = (socket) => socket.shut(1006);
  const room = both.client({ token: () => "secret", query: () => ({ lang: "zh" }) })
    .room("/rooms/{channel}", { channel: "a b" });
  await both.pass(900);
  assert.deepEqual([room.line, both.requests.length], ["waiting", 0]);
  await both.pass(600);
  assert.equal(both.world.sockets.length, 2);
  const { url, how } = both.stream;
  assert.equal(url.href, "http://example.com/app/rooms/a%20b/events?lang=zh");
  assert.deepEqual(how.headers, {
    Accept: `text/event-stream; protocol=${SUBPROTOCOL}`, Authorization: "Bearer secret",
  });
  assert.deepEqual([how.redirect, how.credentials], ["error", "include"]);
  assert.equal(room.state, "joining");
  both.stream.welcome();
  await both.pass(0);
  assert.deepEqual([room.state, room.line], ["joined", "open"]);
});

for (const opens of [false, true]) {
  test(`a WebSocket that ${opens ? "opens and" : ""} says nothing is not waited for`, async () => {
    const both = new Both();
    if (opens) both.world.arrives = (socket) => socket.accept();
    const room = both.client().room("/a");
    await both.pass(4_900);
    assert.equal(both.requests.length, 0);
    await both.pass(200);
    both.stream.welcome();
    await both.pass(0);
    assert.deepEqual([room.state, both.socket.closed], ["joined", true]);
    // Neither the next time.
    both.stream.shut(1012);
    await both.pass(1_500);
    assert.deepEqual([both.world.sockets.length, both.streams.length], [1, 2]);
  });
}

test("whose time is over before its patience does not wait the next time", async () => {
  const both = new Both();
  const room = both.client({ times: { connect: 3_000 } }).room("/a");
  await both.pass(5_000);
  assert.equal(both.world.sockets.length, 1);
  both.stream.welcome();
  await both.pass(0);
  assert.equal(room.state, "joined");
});

test("where there is no WebSocket at all it is HTTP from the beginning", async () => {
  const { WebSocket } = globalThis;
  delete (globalThis as any).WebSocket;
  try {
    const both = new Both();
    const room = both.client({}, { webSocket: undefined }).room("/a");
    both.asked = (asked) => asked.welcome();
    await both.pass(600_000);
    assert.equal(room.state, "joined");
    room.leave();
    await turns();
    assert.ok(both.streams.every(({ aborted }) => aborted));
    assert.deepEqual([both.clock.pending, both.world.errors], [0, []]);
  } finally {
    globalThis.WebSocket = WebSocket;
  }
});

test("a call is a request of its own, and ends as on a WebSocket", async () => {
  const { both, room } = await listening({ token: () => "t" });
  const reply = outcome(room.call("say", { text: "hello" }));
  const { url, how, body } = both.call;
  assert.equal(url.pathname, "/app/rooms/lobby/actions/say");
  assert.deepEqual([how.method, how.headers["Content-Type"], how.headers.Authorization], ["POST", "application/json", "Bearer t"]);
  assert.deepEqual(body, { text: "hello" });
  assert.match(how.headers["Idempotency-Key"]!, /^[0-9a-z]+-1$/);
  both.call.answered(5);
  await turns();
  assert.equal(reply.now, 5);

  const nothing = outcome(room.call("no/thing"));
  assert.equal(both.call.url.pathname, "/app/rooms/lobby/actions/no%2Fthing");
  both.call.reply(204);
  await turns();
  assert.equal(nothing.now, null);
});

test("an error is the same error", async () => {
  const { both, room } = await listening();
  const caught = async (answer: () => void): Promise<any> => {
    const call = room.call("say").catch((error) => error);
    answer();
    return call;
  };
  const frame = { type: "response", action: "say", status: "bad", data: [1], errors: "no", code: "invalid_payload" };
  const first = await caught(() => both.call.reply(422, { ...frame, request_id: both.call.how.headers["Idempotency-Key"] }));
  assert.deepEqual([first.name, first.code, first.data, first.status], ["ActionError", "invalid_payload", [1], "bad"]);
  // Of who is refused before the request was read.
  const limited = await caught(() => both.call.reply(429, { ...frame, request_id: null, code: "rate_limited", retry_after: 2 }));
  assert.deepEqual([limited.code, limited.retryAfter], ["rate_limited", 2]);
  const login = await caught(() => both.call.reply(401, { detail: "who?" }));
  assert.deepEqual([login.name, login.code, login.status, login.data], ["ActionError", "http_error", 401, { detail: "who?" }]);
  const missing = await caught(() => both.call.reply(404, "<h1>nginx"));
  assert.match(missing.message, /lobby\/actions\/say answered 404: is the channel mounted with http=True/);
  assert.equal(room.state, "joined");
});

test("of an answer that does not come nobody knows, and the others are not lost with it", async () => {
  const { both, room } = await listening();
  const other = outcome(room.call("other"));
  const answers = [() => both.call.cut(), () => both.call.reply(502, "<h1>nginx"), () => both.call.reply(504)];
  for (const answer of answers) {
    const call = outcome(room.call("say"));
    answer();
    await turns();
    assert.equal(call.now, "ConnectionLost");
  }
  both.calls[0]!.answered(1);
  await turns();
  assert.deepEqual([other.now, room.state], [1, "joined"]);
});

test("an idempotent call is made again, with the same id", async () => {
  const { both, room } = await listening();
  const call = outcome(room.call("order", {}, { retry: true }));
  both.call.cut();
  await both.pass(1_000);
  assert.equal(both.calls.length, 2);
  both.call.cut();
  await both.pass(1_000);
  assert.equal(new Set(both.calls.map(({ how }) => how.headers["Idempotency-Key"])).size, 1);
  both.call.answered("once");
  await turns();
  assert.deepEqual([call.now, both.calls.length], ["once", 3]);
});

test("it is also the same call after the WebSocket was lost", async () => {
  const both = new Both();
  both.world.arrives = (socket) => socket.welcome();
  const room = both.client().room("/a");
  await both.pass(10);
  const call = outcome(room.call("order", {}, { retry: true }));
  const { request_id } = both.socket.last();
  both.world.arrives = (socket) => socket.shut(1006);
  both.asked = (asked) => { if (asked.url.pathname.endsWith("/events")) asked.welcome(); };
  both.socket.shut(1006);
  await both.pass(4_000);
  assert.equal(both.call.how.headers["Idempotency-Key"], request_id);
  both.call.answered(1);
  await turns();
  assert.equal(call.now, 1);
});

test("what streams comes item by item, and leaving the loop or the signal ends the request", async () => {
  const { both, room } = await listening();
  const items: unknown[] = [];
  const read = (async () => { for await (const item of room.stream("count", { upto: 2 })) items.push(item); })();
  both.call.open();
  both.call.item(0);
  both.call.item(1);
  await turns();
  assert.deepEqual(items, [0, 1]);
  both.call.item(null, false);
  both.call.end();
  await read;

  const left = (async () => { for await (const item of room.stream("count")) return item; })();
  both.call.open();
  both.call.item("first");
  assert.equal(await left, "first");
  await turns();
  assert.ok(both.call.aborted);

  const control = new AbortController();
  const call = outcome(room.call("long", {}, { signal: control.signal }));
  control.abort("enough");
  await turns();
  assert.deepEqual([call.now, both.call.aborted], ["enough", true]);

  const late = outcome(room.call("late", {}, { timeout: 500 }));
  await both.pass(500);
  assert.deepEqual([late.now, both.call.aborted], ["TimedOut", true]);
});

test("a stream is read no further than its window, also when a WebSocket has taken over", async () => {
  const { both, room } = await listening();
  const feed = room.stream("count", {}, { window: 8 });
  assert.equal(both.call.body.window, 8);
  both.call.open();
  for (let item = 0; item < 3_000; item++) both.call.item(item);
  both.call.item(null, false);
  both.call.end();
  await turns();
  for (let item = 0; item < 1_500; item++) assert.deepEqual(await feed.next(), { done: false, value: item });
  both.world.arrives = (socket) => socket.welcome();
  for (let beat = 0; beat < 3; beat++) {
    both.stream.write(":\n\n");
    await both.pass(15_000);
  }
  assert.equal(both.world.open.length, 1);
  for (let item = 1_500; item < 3_000; item++) assert.deepEqual(await feed.next(), { done: false, value: item });
  assert.deepEqual([await feed.next(), both.socket.sent], [{ done: true, value: undefined }, []]);

  const left = room.stream("count", {}, { window: 1 });
  both.socket.reply(1, true);
  assert.deepEqual(await left.next(), { done: false, value: 1 });
});

test("one that waits for its reader is left when that goes", async () => {
  const { both, room } = await listening();
  const feed = room.stream("count", {}, { window: 2 });
  both.call.open();
  for (let item = 0; item < 9; item++) both.call.item(item);
  await turns();
  await feed.return!();
  await turns();
  assert.ok(both.call.aborted);
  room.leave();
  assert.equal(both.clock.pending, 0);
});

for (const how of ["end", "cut"] as const) {
  test(`a stream that ends before its last reply is lost: ${how}`, async () => {
    const { both, room } = await listening();
    const feed = room.stream("count");
    both.call.open();
    both.call.item(1);
    await turns();
    both.call[how]();
    await turns();
    assert.deepEqual(await feed.next(), { done: false, value: 1 });
    await assert.rejects(feed.next(), { name: "ConnectionLost" });
    assert.equal(room.state, "joined");
  });
}

test("what an action says to its client by the way is told, and then its reply", async () => {
  const { both, room } = await listening();
  const frames: unknown[] = [];
  room.onFrame((frame) => frames.push(frame));
  const call = outcome(room.call("whisper"));
  both.call.reply(200, { psst: 1 });
  await turns();
  assert.deepEqual([call.now, frames], [null, [{ psst: 1 }]]);
});

test("a stream says why it ends, and how long to stay away", async () => {
  const { both, room } = await listening();
  both.stream.say({ type: "drain", within: 1, retry_after: 3 });
  both.stream.shut(1012, "restart; retry_after=3");
  await both.pass(2_500);
  assert.deepEqual([room.line, both.streams.length], ["waiting", 1]);
  await both.pass(1_500);
  assert.deepEqual([room.line, both.streams.length], ["open", 2]);
  both.stream.shut(1008, "no");
  await both.pass(60_000);
  assert.deepEqual([room.state, room.refusal?.closeCode, both.streams.length], ["refused", 1008, 2]);
  assert.equal(both.clock.pending, 0);
});

test("a refusal is read in frames, or from the answer", async () => {
  const error = { type: "response", status: "bad", request_id: null, errors: "no", code: "permission_denied" };
  const answers: [string, number, (both: Both) => void][] = [
    ["permission_denied", 1008, ({ stream }) => { stream.open(); stream.say(error); stream.shut(1008, "no"); }],
    ["permission_denied", 1008, ({ stream }) => stream.reply(403, error)],
    ["http_error", 1008, ({ stream }) => stream.reply(401, { detail: "who?" })],
  ];
  for (const [code, close, answer] of answers) {
    const { both, room } = await listening();
    both.asked = () => {};
    both.stream.shut(1012);
    await both.pass(2_000);
    answer(both);
    await both.pass(0);
    assert.deepEqual([room.state, room.refusal?.code, room.refusal?.closeCode], ["refused", code, close]);
  }
});

test("who is refused for now comes back, also where something between has answered", async () => {
  for (const [status, body, code] of [
    [503, { type: "response", status: "bad", errors: "full", code: "channel_full", retry_after: 5 }, "channel_full"],
    [503, "<h1>nginx", "http_error"], [403, "<h1>a firewall", "http_error"],
  ] as const) {
    const { both, room } = await listening();
    both.asked = () => {};
    both.stream.shut(1012);
    await both.pass(2_000);
    both.stream.reply(status, body, { "Retry-After": "5" });
    await both.pass(4_000);
    assert.deepEqual([room.line, room.refusal?.code], ["waiting", code]);
    await both.pass(2_000);
    assert.ok(room.line !== "waiting");
  }
});

test("where no room is over HTTP that is said, and the WebSocket goes on being tried", async () => {
  const both = new Both();
  both.world.arrives = (socket) => socket.shut(1006);
  both.asked = (asked) => asked.reply(404, { detail: "Not Found" });
  const socket = both.client().socket("/desk");
  const room = socket.room("a");
  await both.pass(3_000);
  assert.equal(room.state, "joining");
  assert.equal(socket.own.refusal?.code, "no_events");
  assert.match(socket.own.refusal!.message, /desk\/events answered 404.*sse=True.*Socket/);
  both.world.arrives = (socket) => socket.welcome();
  await both.pass(30_000);
  assert.equal(socket.state, "open");
});

test("a Socket beside a room over HTTP has its WebSocket first", async () => {
  const { both, client } = await listening();
  both.world.arrives = (socket) => { if (socket.url.includes("/desk")) socket.welcome(); else socket.shut(1006); };
  both.asked = (asked) => asked.reply(404, { detail: "Not Found" });
  const socket = client.socket("/desk");
  const frames: unknown[] = [];
  socket.own.onFrame((frame) => frames.push(frame));
  await both.pass(10);
  assert.deepEqual([socket.state, both.socket.protocols], ["open", [SUBPROTOCOL]]);
  both.socket.shut(1012);
  assert.deepEqual([socket.own.refusal, frames], [null, []]);
});

test("where neither opens both are tried with each attempt, and no more", async () => {
  const { both, client } = await listening();
  const [sockets, streams] = [both.world.sockets.length, both.streams.length];
  both.asked = (asked) => asked.reply(404, { detail: "Not Found" });
  const socket = client.socket("/desk");
  await both.pass(900);
  assert.deepEqual([both.world.sockets.length - sockets, both.streams.length - streams], [1, 1]);
  await both.pass(600);
  assert.deepEqual([both.world.sockets.length - sockets, both.streams.length - streams], [2, 2]);
  assert.equal(socket.own.refusal?.code, "no_events");
});

test("where HTTP fails a WebSocket is tried first again", async () => {
  for (const fail of ["cut", "proxy"]) {
    const { both, room } = await listening();
    both.asked = (asked) => { if (fail === "cut") asked.cut(); else asked.reply(503, "<h1>nginx"); };
    both.world.arrives = (socket) => socket.welcome();
    both.stream.shut(1012);
    await both.pass(4_000);
    assert.deepEqual([room.state, both.streams.length], ["joined", 2]);
  }
});

test("a call has nothing of where the room has been, and of one that was cancelled nothing is told", async () => {
  const { both, room } = await listening({ query: () => ({ name: "ann" }) });
  const frames: unknown[] = [];
  room.onFrame((frame) => frames.push(frame));
  both.asked = (asked) => {
    if (!asked.url.pathname.endsWith("/events")) return;
    asked.open();
    asked.say(joined(3), { type: "welcome", connection: "s.1" });
  };
  for (let loss = 0; loss < 2; loss++) {
    both.stream.shut(1012);
    await both.pass(3_000);
  }
  assert.deepEqual(both.stream.query, { name: "ann", since: "e:3", connection: "s.1" });
  void room.call("say", {}, { timeout: 100 }).catch(() => {});
  assert.deepEqual(both.call.query, { name: "ann" });
  await both.pass(200);
  assert.deepEqual([both.call.aborted, frames], [true, []]);
});

test("comments keep a stream alive, and one that is silent is left", async () => {
  const { both, room } = await listening();
  for (let beat = 0; beat < 20; beat++) {
    both.stream.write(":\n\n");
    await both.pass(15_000);
  }
  assert.deepEqual([room.line, both.streams.length], ["open", 1]);
  await both.pass(25_000);
  assert.deepEqual([both.streams.length, both.streams[0]!.aborted], [2, true]);
});

test("after sleep a stream is known to be alive by the next byte, or is left soon", async () => {
  for (const lives of [true, false]) {
    const { both, room } = await listening();
    both.asked = () => {};
    await both.clock.sleep(600_000);
    await both.pass(1_000);
    if (lives) both.stream.write(":\n\n");
    await both.pass(5_500);
    assert.equal(room.line === "open", lives);
  }
});

test("events and presence come as on a WebSocket, and everybody is asked for anew by a stream", async () => {
  const { both, room } = await listening();
  const heard: unknown[] = [];
  room.on("said", (data) => heard.push(data));
  const one = (id: string) => ({ id, user: id, data: null });
  both.stream.say(told(1), { type: "presence", version: 1, present: [one("ann")] }, told(2));
  await turns();
  both.stream.say({ type: "presence_diff", version: 3, joined: [one("eve")], changed: [], left: [] });
  await turns();
  assert.deepEqual([room.presence.people.length, both.streams.length], [1, 2]);
  both.stream.say({ type: "presence", version: 9, present: [one("ann"), one("bob"), one("eve")] });
  await both.pass(2_000);
  assert.deepEqual([heard, room.presence.people.length, room.presence.version], [[1, 2], 3, 9]);
  assert.deepEqual(both.streams.map(({ aborted }) => aborted), [true, false]);
});

test("a new token is for the calls that follow, and for a stream that takes over", async () => {
  let count = 0;
  const { both, room } = await listening({ token: () => `t${++count}` });
  const gaps: unknown[] = [];
  room.onGap((gap) => gaps.push(gap));
  both.stream.say({ type: "expiring", expires_in: 30 });
  await both.pass(2_000);
  const newest = `Bearer t${count}`;
  assert.deepEqual([both.streams.length, both.stream.how.headers.Authorization], [2, newest]);
  assert.deepEqual([both.streams[0]!.aborted, gaps], [true, []]);
  void room.call("say").catch(() => {});
  assert.equal(both.call.how.headers.Authorization, newest);
});

test("bytes need a WebSocket, and a call says so", async () => {
  const encoder = new TextEncoder();
  const codec = {
    encode: (frame: unknown) => encoder.encode(JSON.stringify(frame)),
    decode: (data: string | ArrayBuffer) => JSON.parse(typeof data === "string" ? data : new TextDecoder().decode(data)),
  };
  const { both, room } = await listening({ codec }, { codec });
  const call = room.call("say").catch((error) => error);
  const error: any = await call;
  assert.deepEqual([error.name, /WebSocket/.test(error.message), both.calls.length], ["NotSent", true, 0]);
  await both.pass(30_000);
  assert.deepEqual(both.world.errors, []);
});

test("who leaves has nothing left, whatever is under way", async () => {
  for (const wait of [0, 1_100, 2_000, 10_000, 22_000]) {
    const both = new Both();
    both.world.arrives = (socket) => { if (wait < 10_000) socket.shut(1006); };
    both.asked = (asked) => { if (wait >= 10_000 && asked.url.pathname.endsWith("/events")) asked.welcome(); };
    const room = both.client({}, { times: { again: 18_000 } }).room("/a");
    await both.pass(wait);
    void room.call("say").catch(() => {});
    assert.equal(both.calls.length, wait < 10_000 ? 0 : 1);
    assert.ok(wait !== 22_000 || both.world.open.length === 1);
    room.leave();
    await both.pass(1);
    assert.ok(both.requests.every(({ aborted }) => aborted));
    assert.deepEqual([both.clock.pending, both.world.open.length], [0, 0]);
  }
});

/* Back to a WebSocket. */

test("a WebSocket is tried now and then, ever more seldom, and not at once by all", async () => {
  const { both } = await listening();
  const before = both.world.sockets.length;
  for (let minute = 0; minute < 120; minute++) {
    for (let beat = 0; beat < 4; beat++) {
      both.stream.write(":\n\n");
      await both.pass(15_000);
    }
  }
  const tries = both.world.sockets.length - before;
  assert.ok(tries >= 12 && tries <= 24, `${tries}`);
  assert.equal(both.streams.length, 1);
});

/* A room over HTTP, at an offset of its history; the WebSocket opens when the test says so. */
async function inHistory(offset: number) {
  const both = new Both();
  both.world.arrives = (socket) => socket.shut(1006);
  both.asked = (asked) => {
    if (!asked.url.pathname.endsWith("/events")) return;
    asked.open();
    asked.say(joined(offset), { type: "welcome", connection: "s.1", max_message_size: 65536 });
  };
  const room = both.client().room("/rooms/{channel}", { channel: "lobby" });
  const heard: unknown[] = [];
  const gaps: string[] = [];
  const states: string[] = [];
  room.on("said", (data) => heard.push(data));
  room.onGap(({ reason }) => gaps.push(reason));
  await both.pass(2_000);
  room.onState((state) => states.push(state));
  both.world.arrives = () => {};
  const before = both.world.sockets.length;
  const dialed = async () => {
    for (let waited = 0; both.world.sockets.length === before && waited < 60; waited++) await both.pass(1_000);
    assert.equal(both.world.sockets.length, before + 1);
    return both.socket;
  };
  return { both, room, heard, gaps, states, dialed };
}

test("it goes back without a gap, and with nothing twice", async () => {
  const { both, room, heard, gaps, states, dialed } = await inHistory(3);
  both.stream.say(said(4));
  const socket = await dialed();
  assert.deepEqual(socket.query(), { since: "e:4", connection: "s.1" });
  both.stream.say(said(5), said(6));
  await turns();
  // The server let it in when there were five.
  socket.accept();
  socket.say(joined(4, { recovered: true, connection: "w.1" }));
  socket.say(said(5));
  socket.say(said(6));
  socket.say({ type: "welcome", connection: "w.1", max_message_size: 65536 });
  socket.say(said(7));
  both.stream.say(said(7), said(8));
  await turns();
  socket.say(said(8));
  socket.say(said(9));
  assert.deepEqual(heard, [4, 5, 6, 7, 8, 9]);
  await both.pass(1_000);
  assert.deepEqual([gaps, states, room.connection, room.position], [[], [], "w.1", "e:9"]);
  assert.ok(both.stream.aborted);
  // All is on the WebSocket now.
  const call = outcome(room.call("say"));
  socket.reply(1);
  await settle();
  assert.deepEqual([call.now, both.calls.length], [1, 0]);
  await both.pass(20_000);
  assert.equal(both.streams.length, 1);
});

test("what runs by POST goes on, and is cancelled there", async () => {
  const { both, room, dialed } = await inHistory(0);
  const [call, stopped] = [outcome(room.call("long", {}, { timeout: Infinity })), new AbortController()];
  void room.call("other", {}, { timeout: Infinity, signal: stopped.signal }).catch(() => {});
  const socket = await dialed();
  socket.welcome();
  await both.pass(2_000);
  assert.ok(both.stream.aborted);
  stopped.abort();
  await turns();
  assert.deepEqual([both.calls.map(({ aborted }) => aborted), socket.sent], [[false, true], []]);
  both.calls[0]!.answered("late");
  await turns();
  assert.equal(call.now, "late");
});

test("in a room without history nothing is lost and nothing told twice either", async () => {
  const { both, room } = await listening();
  both.world.arrives = () => {};
  const before = both.world.sockets.length;
  const heard: unknown[] = [];
  const gaps: unknown[] = [];
  room.on("said", (data) => heard.push(data));
  room.onGap((gap) => gaps.push(gap));
  while (both.world.sockets.length === before) {
    both.stream.write(":\n\n");
    await both.pass(1_000);
  }
  both.stream.say(told(1), told(1), told(2));
  await turns();
  both.socket.accept();
  both.socket.say({ type: "welcome", connection: "w.1", max_message_size: 65536 });
  for (const each of [2, 3, 4]) both.socket.say(told(each));
  both.stream.say(told(3), told(4), told(5), { type: "presence", version: 70, present: [] });
  await both.pass(900);
  both.stream.say(told(5), told(6));
  await turns();
  both.socket.say(told(5));
  await both.pass(300);
  // Behind by a moment.
  for (const each of [5, 6, 2, 6]) both.socket.say(told(each));
  await both.pass(2_000);
  for (const each of [6, 6]) both.socket.say(told(each));
  assert.deepEqual([heard, gaps, room.presence.version], [[1, 1, 2, 3, 4, 5, 5, 6, 2, 6, 6, 6], [], null]);
});

for (const seed of [0, 0.13, 0.29, 0.71]) {
  test(`however late one way is behind the other, each is told once: ${seed}`, async () => {
    const { both, room } = await listening();
    const { clock } = both;
    const even = evenly();
    const members: ((frame: object) => void)[] = [];
    const enter = (say: (frame: object) => void) => {
      const delay = 900 * ((even() + seed) % 1);
      members.push((frame) => clock.after(delay, () => say(frame)));
      members.at(-1)!({ type: "welcome", connection: "c.1", max_message_size: 65536 });
    };
    const heard: string[] = [];
    const gaps: unknown[] = [];
    room.onAny((data, { channel }) => heard.push(`${channel} ${data}`));
    room.onGap((gap) => gaps.push(gap));
    both.world.arrives = (socket) => {
      socket.accept();
      enter((frame) => { if (!socket.closed) socket.say(frame); });
    };
    const stream = both.stream;
    enter((frame) => stream.say(frame));
    const sent: string[] = [];
    for (let step = 0; step < 600; step++) {
      const channel = step % 3 === 0 ? "*" : "lobby";
      for (const member of members) member(told(step, channel));
      sent.push(`${channel} ${step}`);
      await clock.pass(100);
      await turns();
    }
    await both.pass(2_000);
    assert.deepEqual([heard.sort(), gaps, stream.aborted], [sent.sort(), [], true]);
  });
}

test("a server that refuses the WebSocket, or cannot recover, leaves the stream alone", async () => {
  const refusals = [
    { type: "response", status: "bad", request_id: null, code: "channel_full", errors: "full" },
    joined(9, { recovered: false, reason: "expired" }),
  ];
  for (const refusal of refusals) {
    const { both, room, heard, gaps, states, dialed } = await inHistory(0);
    const socket = await dialed();
    socket.accept();
    socket.say(refusal);
    both.stream.say(said(1));
    await turns();
    assert.deepEqual([room.state, heard, gaps, states, socket.closed], ["joined", [1], [], [], true]);
    // But it is known to open, the next time.
    both.stream.shut(1012);
    both.world.arrives = (next) => { next.accept(); next.say(joined(1, { recovered: true })); next.welcome(); };
    await both.pass(2_000);
    assert.deepEqual([room.state, both.streams.length], ["joined", 1]);
  }
});

test("a stream that the server ends for the newer connection is no loss", async () => {
  for (const opens of [true, false]) {
    const { both, states, room, dialed } = await inHistory(0);
    const socket = await dialed();
    both.stream.shut(4509, "replaced");
    await turns();
    assert.deepEqual(states, []);
    if (opens) {
      socket.accept();
      socket.say(joined(0, { recovered: true }));
      await both.pass(10_000);
      assert.deepEqual([states, room.state], [[], "joined"]);
    } else {
      socket.shut(1006);
      assert.deepEqual([room.state, room.refusal?.closeCode], ["refused", 4509]);
    }
  }
});

test("what the server says by the old stream when the WebSocket is there is not heard", async () => {
  const { both, room, states, dialed } = await inHistory(0);
  const socket = await dialed();
  socket.accept();
  socket.say(joined(0, { recovered: true }));
  both.stream.say(said(1));
  both.stream.shut(4509, "replaced");
  await both.pass(3_000);
  socket.say(said(1));
  assert.deepEqual([states, room.state, room.position], [[], "joined", "e:1"]);
});

test("a stream that takes over tells nothing again that came meanwhile", async () => {
  const { both, room, heard, gaps } = await inHistory(1);
  both.asked = (asked) => asked.open();
  const old = both.stream;
  old.say({ type: "presence", version: 1, present: [] }, { type: "presence_diff", version: 3, joined: [], changed: [], left: [] });
  await turns();
  assert.equal(both.streams.length, 2);
  old.say(said(2), said(3));
  await turns();
  both.stream.say(joined(1, { recovered: true, connection: "s.2" }), said(2), said(3));
  await turns();
  old.say(said(4));
  await turns();
  both.stream.say(said(4));
  await both.pass(2_000);
  both.stream.say(said(5));
  await turns();
  assert.deepEqual([heard, gaps, room.connection, old.aborted], [[2, 3, 4, 5], [], "s.2", true]);
});

test("a new token that comes while a WebSocket is tried is for the stream when that has failed", async () => {
  let count = 0;
  const { both } = await listening({ token: () => `t${++count}` });
  const before = both.world.sockets.length;
  both.world.arrives = () => {};
  while (both.world.sockets.length === before) {
    both.stream.write(":\n\n");
    await both.pass(1_000);
  }
  both.stream.say({ type: "expiring", expires_in: 30 });
  await both.pass(1_000);
  assert.equal(both.streams.length, 1);
  await both.pass(6_000);
  assert.deepEqual([both.streams.length, both.stream.how.headers.Authorization], [2, `Bearer t${count}`]);
});

test("a stream that is lost while a WebSocket is tried is lost", async () => {
  const { both, room, dialed } = await inHistory(0);
  const socket = await dialed();
  both.stream.cut();
  await turns();
  assert.deepEqual([room.line, socket.closed], ["waiting", true]);
  await both.pass(2_000);
  assert.deepEqual([room.line, both.stream.query], ["open", { since: "e:0", connection: "s.1" }]);
});

test("where one room goes back the others do", async () => {
  const both = new Both();
  both.world.arrives = (socket) => socket.shut(1006);
  both.asked = (asked) => asked.welcome();
  const client = both.client();
  const rooms = ["/a", "/b", "/c"].map((address) => client.room(address));
  await both.pass(3_000);
  assert.deepEqual(rooms.map(({ state }) => state), ["joined", "joined", "joined"]);
  both.world.arrives = (socket) => socket.welcome();
  for (let second = 0; second < 40; second++) {
    for (const stream of both.streams) stream.write(":\n\n");
    await both.pass(1_000);
  }
  assert.deepEqual([both.world.open.length, both.streams.every(({ aborted }) => aborted)], [3, true]);
  assert.ok(rooms.every(({ state }) => state === "joined"));
});

/* A room with history behind a network that lets some things through, and not others. */
class Network {
  readonly both = new Both();
  top = 0;
  lets = { sockets: true, streams: true };
  readonly #chance: () => number;
  readonly #members: ((frame: object) => void)[] = [];

  constructor(seed: number) {
    const even = evenly();
    const chance = this.#chance = () => (even() + seed) % 1;
    const { clock, world } = this.both;
    clock.chance = chance;
    world.arrives = (socket) => {
      if (this.lets.sockets) {
        this.#enter(socket.query().since, (frame) => { if (!socket.closed) socket.say(frame); }, () => socket.accept());
      } else if (chance() < 0.5) socket.shut(1006);
    };
    this.both.asked = (asked) => {
      if (this.lets.streams) this.#enter(asked.query.since, (frame) => asked.say(frame), () => asked.open());
      else asked.cut();
    };
  }

  publish(): void {
    const frame = said(++this.top);
    for (const member of this.#members) member(frame);
  }

  change(): void {
    const { both: { world, streams }, lets } = this;
    lets.sockets = this.#chance() < 0.5;
    lets.streams = this.#chance() < 0.8;
    if (!lets.sockets) for (const socket of world.open) socket.shut(1006);
    if (!lets.streams) for (const stream of streams) stream.cut();
  }

  /* Each way has its own delay, and keeps the order. */
  #enter(since: string | undefined, say: (frame: object) => void, open: () => void): void {
    const delay = 20 + 600 * this.#chance();
    const later = (run: () => void) => this.both.clock.after(delay, run);
    later(() => {
      const at = since === undefined ? this.top : Number(since.slice(2));
      const member = (frame: object) => void later(() => say(frame));
      this.#members.push(member);
      later(open);
      member(joined(at, since === undefined ? {} : { recovered: true }));
      for (let offset = at + 1; offset <= this.top; offset++) member(said(offset));
      member({ type: "welcome", connection: "c.1", max_message_size: 65536 });
    });
  }
}

for (const seed of [0, 0.13, 0.29, 0.71]) {
  test(`whatever the network lets through, and when: all once and in order, ${seed}`, async () => {
    const network = new Network(seed);
    const { both, both: { clock, world } } = network;
    network.lets.sockets = false;
    const room = both.client({}, { times: { again: 2_000, most: 5_000 } }).room("/a");
    const heard: unknown[] = [];
    const gaps: string[] = [];
    room.on("said", (data) => heard.push(data));
    room.onGap(({ reason }) => gaps.push(reason));
    await both.pass(10_000);
    for (let step = 0; step < 1_000; step++) {
      if (step % 60 === 59) network.change();
      if (step === 940) network.lets = { sockets: true, streams: true };
      if (step < 960) network.publish();
      await clock.pass(250);
      await turns();
    }
    assert.deepEqual([room.state, gaps, heard], ["joined", [], Array.from({ length: 960 }, (_, index) => index + 1)]);
    assert.ok(both.streams.length > 5 && world.sockets.length > 5);
  });
}
