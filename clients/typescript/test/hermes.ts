/** What React Native does with the client, in its engine without React Native: a room, a call, a stream, a loss. */

// What the engine has not, and React Native's has, or its users bring.
(Array.prototype as any).at ??= function (this: unknown[], at: number) { return this[at < 0 ? this.length + at : at]; };
(Symbol as any).asyncIterator ??= Symbol.for("Symbol.asyncIterator");
declare const print: (line: string) => void;
let chance = 1;
(globalThis as any).crypto = {
  getRandomValues: (bytes: Uint8Array) => bytes.map(() => (chance = (chance * 48_271) % 2_147_483_647)),
};

async function main(): Promise<void> {
  // @ts-ignore: there are no types of it here
  const { URL, URLSearchParams } = await import("react-native-url-polyfill/js/URL.js");
  Object.assign(globalThis, { URL, URLSearchParams });
  const { World } = await import("./fake.ts");
  const world = new World();
  world.arrives = (socket) => {
    const { since } = socket.query();
    socket.accept();
    socket.say({ type: "joined", channel: "lobby", position: since ?? "e:0", connection: "c", ...(since && { recovered: true }) });
    socket.say({ type: "welcome", connection: "c", max_message_size: 65_536, max_window: 65_536 });
  };
  const told: unknown[] = [];
  const room = world.client({ token: () => "t" }).room("/rooms/{channel}", { channel: "löbby" });
  room.on("said", (data) => told.push(data));
  await world.clock.pass(1);
  told.push(room.state, world.socket.url, world.socket.protocols);
  const call = room.call("say", { text: "hello" });
  world.socket.reply(5);
  told.push(await call);
  const stream = room.stream("count", {}, { window: 2 });
  const { request_id } = world.socket.last();
  for (const index of [0, 1, 2]) {
    const item = index < 2 ? { data: index, more: true } : { data: null, more: false };
    world.socket.say({ type: "response", action: "count", request_id, status: "ok", index, ...item });
  }
  for await (const item of stream) told.push(item);
  world.socket.say({ type: "event", event: "said", channel: "lobby", data: "hi", position: "e:1" });
  world.socket.shut(1006);
  await world.clock.pass(1_500);
  told.push(room.state, world.socket.query().since, world.sockets.length);
  room.leave();
  print(JSON.stringify([...told, room.state, ...world.errors.map(String)]));
}

main().catch((error) => print(`failed: ${error.stack ?? error}`));
