/** What comes one after the other, for whoever reads it with `for await`: bounded, and left by `break`. */

import { Overflow } from "./errors.ts";
import { MOST_UNTAKEN } from "./settings.ts";

type Step<T> = IteratorResult<T, undefined>;

export class Feed<T> implements AsyncIterableIterator<T, undefined> {
  readonly #untaken: T[] = [];
  readonly #takers: { resolve: (step: Step<T>) => void; reject: (error: unknown) => void }[] = [];
  #ended = false;
  #error: unknown = undefined;
  #leave: () => void;
  readonly #taken: (() => void) | undefined;

  /**
   * @param leave called once, when nobody reads on, or too much waits
   * @param taken called for each item that is, while more may come
   */
  constructor(leave: () => void, taken?: () => void) {
    this.#leave = leave;
    this.#taken = taken;
  }

  push(item: T): void {
    if (this.#ended) return;
    const taker = this.#takers.shift();
    if (taker) {
      taker.resolve({ done: false, value: item });
      this.#taken?.();
    } else if (this.#untaken.length < MOST_UNTAKEN) this.#untaken.push(item);
    else {
      this.fail(new Overflow(`${MOST_UNTAKEN} items wait`));
      this.#left();
    }
  }

  end(): void {
    this.#ended = true;
    for (const taker of this.#takers.splice(0)) taker.resolve({ done: true, value: undefined });
  }

  /** What came before it can still be taken. */
  fail(error: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    const taker = this.#takers.shift();
    if (taker) taker.reject(error);
    else this.#error = error;
    this.end();
  }

  async next(): Promise<Step<T>> {
    if (this.#untaken.length > 0) {
      const value = this.#untaken.shift()!;
      if (!this.#ended) this.#taken?.();
      return { done: false, value };
    }
    if (this.#error !== undefined) {
      const error = this.#error;
      this.#error = undefined;
      throw error;
    }
    if (this.#ended) return { done: true, value: undefined };
    return new Promise((resolve, reject) => this.#takers.push({ resolve, reject }));
  }

  /** What `break` calls. */
  async return(): Promise<Step<T>> {
    if (!this.#ended) {
      this.end();
      this.#left();
    }
    this.#untaken.length = 0;
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #left(): void {
    const leave = this.#leave;
    this.#leave = () => {};
    leave();
  }
}
