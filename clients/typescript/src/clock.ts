/** Time and chance, as tests can replace them. */

export interface Clock {
  /** Milliseconds, as a clock on the wall: time that a machine sleeps passes too. */
  now(): number;
  /** Run something later; what is returned takes it back. */
  after(milliseconds: number, run: () => void): () => void;
  /** At least 0 and below 1. */
  random(): number;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  after(milliseconds, run) {
    const timer = setTimeout(run, Math.min(milliseconds, 0x7fffffff)); // beyond that it would run at once
    return () => clearTimeout(timer);
  },
  random: Math.random,
};
