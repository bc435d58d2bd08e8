/** Why something failed. All have one base, and a `name` that stays as it is when the code is minified. */

export class ChannelsError extends Error {
  override name = "ChannelsError";
}

/** The error frame of a server. Decide by `code`; `message` is for people. */
export class ActionError<Code extends string = string> extends ChannelsError {
  override name = "ActionError";
  // The constructor sets these: `declare` keeps them out of the built file.
  declare readonly code: Code;
  declare readonly status: string | number;
  /** The frame's `errors`: a text, as a rule. */
  declare readonly errors: unknown;
  declare readonly data: unknown;
  /** Seconds, where the server says when to try again. */
  declare readonly retryAfter: number | null;
  declare readonly action: string | null;

  constructor(frame: Record<string, any>) {
    super(typeof frame.errors === "string" ? frame.errors : JSON.stringify(frame.errors));
    this.code = frame.code;
    this.status = frame.status;
    this.errors = frame.errors;
    this.data = frame.data ?? null;
    this.retryAfter = frame.retry_after ?? null;
    this.action = frame.action ?? null;
  }
}

/** It was not sent: to call again is safe. */
export class NotSent extends ChannelsError {
  override name = "NotSent";
}

/** It was sent, and the connection was lost before the reply: nobody knows whether it was handled. */
export class ConnectionLost extends ChannelsError {
  override name = "ConnectionLost";
}

/** What stands for it in the frame of a call that has a connection of its own. */
export const CONNECTION_LOST = "connection_lost";

/** It was sent, and no reply came in time: nobody knows whether it was handled. The server was told to stop. */
export class TimedOut extends ChannelsError {
  override name = "TimedOut";
}

/** Nobody took what came: more waited than may. */
export class Overflow extends ChannelsError {
  override name = "Overflow";
}

/** A room, or a connection, that is closed for good: by what the server said, or by its close code. */
export class Refused extends ChannelsError {
  override name = "Refused";
  /** Of the close; 0 where a room refused and the connection stayed. */
  declare readonly closeCode: number;
  /** Of the close, as the server wrote it; empty where it wrote none. */
  declare readonly reason: string;
  /** The error frame, where there was one. */
  declare readonly cause: ActionError | undefined;

  constructor(closeCode: number, reason: string, cause?: ActionError) {
    super(cause?.message || reason || `closed with ${closeCode}`);
    this.closeCode = closeCode;
    this.reason = reason;
    this.cause = cause;
  }

  /** The `code` of the error frame; empty where there was none. */
  get code(): string {
    return this.cause?.code ?? "";
  }
}

export const wasLeft = (): Refused => new Refused(0, "the room was left");
