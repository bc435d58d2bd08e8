/* Clients in Node: `node clients.mjs KIND URL ROOMS EVENTS FOLDER BUNDLE` prints the bytes that one takes, of so many
   rooms; or, for none, the seconds of CPU that so many events take. FOLDER has the packages, BUNDLE is ours. */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [kind, url, rooms, events, folder, bundle] = process.argv.slice(2);
const require = createRequire(folder + "/");
const ws = url.replace("http", "ws");
const memory = () => [...readFileSync("/proc/self/smaps_rollup", "utf8").matchAll(/^Private_\w+: +(\d+)/gm)]
  .reduce((sum, [, kilobytes]) => sum + 1024 * Number(kilobytes), 0);
const settled = async () => { gc(); await new Promise((go) => setTimeout(go, 200)); gc(); return memory(); };

/* Each gives a function that listens, and one that asks for events. */
const kinds = {
  async ours() {
    const { createClient } = await import(bundle);
    const room = createClient(url).room("/ours");
    await room.ready();
    return [(heard) => room.on("said", heard), (count) => room.call("flood", { count }, { timeout: 60_000 })];
  },
  async bare() {
    const socket = new WebSocket(ws + "/bare");
    await new Promise((go) => { socket.onopen = go; });
    const listen = (heard) => { socket.onmessage = ({ data }) => heard(JSON.parse(data).data); };
    return [listen, (count) => socket.send(JSON.stringify({ count }))];
  },
  async "socket.io"() {
    const socket = require("socket.io-client").io(url, { transports: ["websocket"], forceNew: true });
    await new Promise((go) => socket.on("connect", go));
    return [(heard) => socket.on("said", heard), (count) => socket.emit("flood", count)];
  },
  async centrifuge() {
    const { Centrifuge } = require("centrifuge");
    const client = new Centrifuge(ws + "/connection/websocket", { websocket: WebSocket });
    const room = client.newSubscription("room");
    room.subscribe();
    client.connect();
    await room.ready();
    return [(heard) => room.on("publication", ({ data }) => heard(data)), (count) => room.publish({ count })];
  },
  async phoenix() {
    const { Socket } = require("phoenix");
    const socket = new Socket(ws + "/socket", { transport: WebSocket });
    socket.connect();
    const room = socket.channel("room", {});
    await new Promise((go) => room.join().receive("ok", go));
    return [(heard) => room.on("said", heard), (count) => room.push("flood", { count })];
  },
};

await kinds[kind]();
const begun = await settled();
const all = [];
for (let number = 0; number < (Number(rooms) || 1); number++) all.push(await kinds[kind]());
let found;
if (Number(rooms)) found = ((await settled()) - begun) / rooms;
else {
  const [listen, flood] = all[0];
  let done;
  listen(({ number }) => { if (number === events - 1) done(); });
  const pass = () => new Promise((go) => {
    done = go;
    flood(Number(events));
  });
  await pass(); // until then V8 compiles what it will need: that is not what an event costs
  const start = process.cpuUsage();
  await pass();
  const { user, system } = process.cpuUsage(start);
  found = (user + system) / 1e6;
}
console.log(found);
process.exit();
