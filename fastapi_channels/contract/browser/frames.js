/* The frames of a connection: the newest ones, drawn at most once for each picture of the screen. */

import { clip, copy, formatSize, formatTime, fromTemplate, make, pretty, say, show } from "./basics.js";
import { parse, written } from "./exact.js";

const MOST = 500; // frames that are kept
const MOST_KEPT = 10_000_000; // characters of all of them
const MOST_LINE = 200; // characters of the line
const MOST_SHOWN = 20_000; // characters of the whole
const MOST_COPIED = 1_000_000; // characters that are kept to be copied

/* The newest entries, the oldest first, within both bounds. */
export class Newest {
  entries = [];
  #length = 0; // of all bodies

  /* Takes newer ones; gives those that have no room any more. */
  add(...entries) {
    for (const { body } of entries) this.#length += body.length;
    this.entries.push(...entries);
    const gone = [];
    while (this.entries.length > MOST || this.#length > MOST_KEPT) {
      gone.push(this.entries.shift());
      this.#length -= gone.at(-1).body.length;
    }
    return gone;
  }

  /* Gives all of them away. */
  take() {
    this.#length = 0;
    return this.entries.splice(0);
  }
}

export class FrameLog {
  #list;
  #filter;
  #counter;
  #skipped;
  #waiting = new Newest();
  #shown = new Newest(); // each with its line
  #drawing = false;
  #paused = false;
  #lost = 0;
  count = 0;

  names = {}; // of the fields of a frame

  /* `root` has the list, a filter, and buttons; `counter` shows how many there were. */
  constructor(root, counter) {
    this.#counter = counter;
    this.#list = root.querySelector(".frames");
    this.#filter = root.querySelector(".filter");
    this.#skipped = root.querySelector(".skipped");
    const pause = root.querySelector(".pause");
    pause.addEventListener("click", () => this.#pause(pause));
    root.querySelector(".clear").addEventListener("click", () => this.clear());
    this.#filter.addEventListener("input", () => this.#sift());
  }

  add(frame) {
    this.count += 1;
    const { value, sent, at, size } = frame;
    const { status } = this.names;
    this.#queue({
      ...{ sent, at, size, body: frame.body.slice(0, MOST_COPIED), title: value ? describe(value, this.names) : "" },
      isBad: !sent && value?.[status] !== undefined && value[status] !== "ok",
    });
  }

  /* A line that is no frame: what happened to the connection. */
  note(key, values) {
    this.#queue({ key, values, at: new Date(), body: "", title: "" });
  }

  #queue(entry) {
    this.#lost += this.#waiting.add(entry).length;
    this.#plan();
  }

  clear() {
    this.#waiting.take();
    this.#shown.take();
    this.#lost = 0;
    this.count = 0;
    this.#list.replaceChildren();
    this.#draw();
  }

  #pause(button) {
    this.#paused = !this.#paused;
    button.setAttribute("aria-pressed", String(this.#paused));
    show(button, this.#paused ? "goOn" : "pause");
    this.#plan();
  }

  #plan() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#drawing = false;
    this.#counter.textContent = this.count;
    if (!this.#paused) {
      const atEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 40;
      const come = this.#waiting.take();
      for (const entry of come) entry.line = entry.key ? noteLine(entry) : this.#line(entry);
      this.#list.append(...come.map(({ line }) => line));
      const gone = this.#shown.add(...come);
      for (const { line } of gone) line.remove();
      this.#lost += gone.length;
      if (atEnd) this.#list.scrollTop = this.#list.scrollHeight;
    }
    this.#skipped.hidden = this.#lost === 0;
    show(this.#skipped, "skipped", { count: this.#lost });
  }

  #line(frame) {
    const line = fromTemplate("frame-template");
    line.dataset.direction = frame.sent ? "up" : "down";
    if (frame.isBad) line.dataset.bad = "";
    line.querySelector("time").textContent = formatTime(frame.at);
    show(line.querySelector(".direction"), frame.sent ? "sentShort" : "receivedShort");
    line.querySelector(".size").textContent = formatSize(frame.size);
    line.querySelector(".title").textContent = frame.title;
    line.querySelector(".body").textContent = clip(frame.body, MOST_LINE).replace(/\s+/g, " ");
    line.hidden = !this.#passes(frame);
    line.querySelector("details").addEventListener("toggle", () => unfold(line, frame), { once: true });
    return line;
  }

  #passes({ title, body }) {
    const found = `${title} ${body.slice(0, MOST_SHOWN)}`.toLowerCase();
    return found.includes(this.#filter.value.trim().toLowerCase());
  }

  #sift() {
    for (const entry of this.#shown.entries) entry.line.hidden = !this.#passes(entry);
  }
}

/* What a frame is, in a word or two. */
function describe(frame, names) {
  const kind = frame[names.type];
  if (kind === "event") return `event ${written(frame[names.event] ?? "")}`;
  if (kind === "call") return `call ${written(frame.call ?? "")}`;
  const action = written(frame[names.action] ?? "");
  return kind === undefined ? action : `${written(kind)} ${action}`.trim();
}

function unfold(line, frame) {
  const button = say("button", "copy", {}, { type: "button", className: "link" });
  button.addEventListener("click", () => copy(frame.body, button));
  const text = frame.body.length <= MOST_SHOWN ? laidOut(frame.body) : frame.body;
  line.querySelector("details").append(make("pre", { className: "code", tabIndex: 0, textContent: clip(text, MOST_SHOWN) }), button);
}

/* JSON for people; what is none, as it is. */
function laidOut(text) {
  try {
    return pretty(parse(text));
  } catch {
    return text;
  }
}

function noteLine({ key, values, at }) {
  const line = make("li", { className: "frame-note" }, make("time", { textContent: formatTime(at) }), " ");
  line.append(say("span", key, values));
  return line;
}
