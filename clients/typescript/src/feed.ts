/** What comes one after the other, for whoever reads it with `for await`: bounded, and left by `break`. */

import { Overflow } from "./errors.ts";
import { MOST_UNTAKEN } from "./settings.ts";

type Step<T> = IteratorResult<T, undefined>;

const DONE = { done: true, value: undefined } as const;

export class Feed<T> implements AsyncIterableIterator<T, undefined> {
  readonly #untaken: T[] = [];
  readonly #waiting: (() => void)[] = [];
  #ended = false;
  #error: unknown;
  readonly #leave: () => void;
  readonly #taken: (() => void) | undefined;

  /**
   * @param leave called once, when nothing more is taken: it has ended, nobody reads on, or too much waits
   * @param taken called for each item that is, while more may come
   */
  constructor(leave: () => void, taken?: () => void) {
    this.#leave = leave;
    this.#taken = taken;
  }

  push(item: T): void {
    if (this.#ended) return;
    if (this.#untaken.length < MOST_UNTAKEN) {
      this.#untaken.push(item);
      this.#wake();
    } else this.fail(new Overflow(`${MOST_UNTAKEN} items wait`));
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#wake();
    this.#leave();
  }

  /** What came before it can still be taken. */
  fail(error: unknown): void {
    if (this.#ended) return;
    this.#error = error;
    this.end();
  }

  async next(): Promise<Step<T>> {
    while (this.#untaken.length === 0 && !this.#ended) {
      await new Promise<void>((resolve) => { this.#waiting.push(resolve); });
    }
    if (this.#untaken.length > 0) {
      const value = this.#untaken.shift()!;
      if (!this.#ended) this.#taken?.();
      return { done: false, value };
    }
    const error = this.#error;
    this.#error = undefined;
    if (error !== undefined) throw error;
    return DONE;
  }

  /** What `break` calls. */
  async return(): Promise<Step<T>> {
    this.end();
    this.#untaken.length = 0;
    return DONE;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}
