/** Streams of events are read as the standard says, however they are cut into pieces. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { contentOf, readEvents } from "../src/events.ts";
import type { ServerEvent } from "../src/events.ts";
import { evenly } from "./fake.ts";

async function read(...pieces: Uint8Array[]): Promise<{ events: ServerEvent[]; heard: number }> {
  const events: ServerEvent[] = [];
  let heard = 0;
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const piece of pieces) controller.enqueue(piece);
      controller.close();
    },
  });
  await readEvents(body, (event) => events.push(event), () => { heard++; });
  return { events, heard };
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

const TEXT = "retry: 10\n\n:\n\nid: e:1\ndata: {}\n\nevent: close\r\ndata:one\r\ndata: two\r\rid: e:2\rdata:  déjà 東\r\n\r\n"
  + "data\n\nevent: binary\ndata: AAH/\n\nid: a\0b\ndata: x\n\nfield: y\nevent: nothing\n\ndata: lost";
const EVENTS = [
  { name: "message", data: "{}", id: "e:1" },
  { name: "close", data: "one\ntwo", id: "e:1" },
  { name: "message", data: " déjà 東", id: "e:2" },
  { name: "message", data: "", id: "e:2" },
  { name: "binary", data: "AAH/", id: "e:2" },
  { name: "message", data: "x", id: "e:2" },
];

test("a stream is read as the standard says, and what has no end is no event", async () => {
  assert.deepEqual((await read(bytes(TEXT))).events, EVENTS);
});

test("the pieces in which it comes make no difference", async () => {
  const whole = bytes(TEXT);
  const chance = evenly();
  for (let round = 0; round < 200; round++) {
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < whole.length;) {
      const end = round === 0 ? at + 1 : Math.min(whole.length, at + 1 + Math.floor(40 * chance()));
      pieces.push(whole.slice(at, end));
      at = end;
    }
    const { events, heard } = await read(...pieces);
    assert.deepEqual([events, heard], [EVENTS, pieces.length]);
  }
});

test("bytes come in base64", () => {
  assert.deepEqual(new Uint8Array(contentOf(EVENTS[4]!) as ArrayBuffer), new Uint8Array([0, 1, 255]));
  assert.equal(contentOf(EVENTS[0]!), "{}");
});
