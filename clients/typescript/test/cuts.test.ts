/** Cuts of the network: for one second, for ten, and for longer than the history; reset, or only silent. */

import assert from "node:assert/strict";
import { test } from "node:test";

import type { FakeSocket } from "./fake.ts";
import { World, evenly } from "./fake.ts";

const KEPT = 100;
const EVERY = 500;

/** A room with history behind a network that can be cut. */
class Network {
  readonly world = new World();
  /* What is said to whom, when it is over; null while nothing is cut. */
  #held: (() => void)[] | null = null;
  #loses = false;
  top = 0;

  constructor() {
    this.world.clock.chance = evenly();
    this.world.arrives = (socket) => {
      if (this.#held !== null && this.#loses) socket.shut(1006);
      else this.#pass(() => this.#place(socket));
    };
  }

  publish(): void {
    const offset = ++this.top;
    for (const socket of this.world.sockets) {
      if (socket.placed && !socket.closed) this.#pass(() => socket.say(said(offset)));
    }
  }

  cut(loses: boolean): void {
    this.#held = [];
    this.#loses = loses;
    if (loses) for (const socket of this.world.open) socket.shut(1006);
  }

  mend(): void {
    const held = this.#held ?? [];
    this.#held = null;
    for (const run of held) run();
  }

  #pass(run: () => void): void {
    if (this.#held === null) run();
    else this.#held.push(run);
  }

  #place(socket: FakeSocket): void {
    if (socket.closed) return;
    const { since } = socket.query();
    const at = since === undefined ? this.top : Number(since.slice(2));
    const recovered = this.top - at <= KEPT;
    const position = `e:${recovered ? at : this.top}`;
    const result = since === undefined ? {} : recovered ? { recovered } : { recovered, reason: "expired" };
    socket.placed = true;
    socket.heard = (frame) => { if (frame.type === "ping") this.#pass(() => socket.say({ type: "pong" })); };
    socket.accept();
    socket.say({ type: "joined", channel: "lobby", position, connection: "c.1", ...result });
    for (let offset = at + 1; recovered && offset <= this.top; offset++) socket.say(said(offset));
    socket.say({ type: "welcome", connection: "c.1", max_message_size: 65536 });
  }
}

const said = (offset: number) =>
  ({ type: "event", event: "said", channel: "lobby", data: offset, position: `e:${offset}` });

for (const seconds of [1, 10, 200]) {
  for (const loses of [false, true]) {
    test(`a cut of ${seconds} s that ${loses ? "resets" : "is silent"}: all once and in order, or a gap`, async () => {
      const network = new Network();
      const { world, world: { clock } } = network;
      const room = world.client().room("/rooms/{channel}", { channel: "lobby" });
      const heard: unknown[] = [];
      const gaps: string[] = [];
      room.on("said", (data) => heard.push(data));
      room.onGap(({ reason }) => gaps.push(reason));
      await clock.pass(10);
      const speak = async (time: number) => {
        for (let passed = 0; passed < time; passed += EVERY) {
          network.publish();
          await clock.pass(EVERY);
        }
      };
      await speak(2_000);
      const before = network.top;
      network.cut(loses);
      await speak(1_000 * seconds);
      const missed = network.top - before;
      network.mend();
      await speak(60_000);
      assert.equal(room.state, "joined");
      const all = Array.from({ length: network.top }, (_, index) => index + 1);
      if (missed <= KEPT) assert.deepEqual([heard, gaps], [all, []]);
      else {
        assert.deepEqual([heard.slice(0, before), gaps], [all.slice(0, before), ["expired"]]);
        assert.ok((heard[before] as number) > before + missed);
        assert.deepEqual(heard.slice(before), all.slice((heard[before] as number) - 1));
      }
      assert.equal(world.sockets.length === 1, !loses && seconds < 35);
    });
  }
}
