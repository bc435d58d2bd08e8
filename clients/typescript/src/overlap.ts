/** What comes by two ways that bring the same, and has nothing that tells it apart: each is told once. */

import type { Frame } from "./connection.ts";

type Side = "old" | "newer";

export class Overlap {
  /* What one way has brought and the other not yet, in its order. The room, and the client alone, have one each. */
  readonly #ahead: Record<Side, Map<string, { text: string; late: boolean }[]>> = { old: new Map(), newer: new Map() };
  /** Whether the newer way is there. */
  late = false;

  /** @returns whether the other way has not brought it */
  isNew(frame: Frame, by: Side): boolean {
    const text = JSON.stringify(frame);
    const channel = String(frame.channel);
    const other = this.#ahead[by === "old" ? "newer" : "old"].get(channel) ?? [];
    const at = other.findIndex((each) => each.text === text);
    // Both have one order: what stood before it does not come any more.
    if (at >= 0) other.splice(0, at + 1);
    else this.#ahead[by].set(channel, [...(this.#ahead[by].get(channel) ?? []), { text, late: this.late }]);
    return at < 0;
  }

  /** The old way has ended: what it had brought before the newer was there does not come again. */
  end(): void {
    for (const [channel, brought] of this.#ahead.old) this.#ahead.old.set(channel, brought.filter(({ late }) => late));
  }
}
