/* The frames of a connection: the newest ones, drawn at most once for each picture of the screen. */

import { clip, copy, formatSize, formatTime, fromTemplate, make, pretty, say, show } from "./basics.js";

const MOST = 500; // frames that are kept
const MOST_LINE = 200; // characters of the line
const MOST_SHOWN = 20_000; // characters of the whole
const MOST_COPIED = 1_000_000; // characters that are kept to be copied

export class FrameLog {
  #list;
  #filter;
  #counter;
  #skipped;
  #waiting = [];
  #drawing = false;
  #paused = false;
  #lost = 0;
  count = 0;

  /* `root` has the list, a filter, and buttons; `counter` shows how many there were. */
  constructor(root, counter, names) {
    this.names = names;
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
    if (frame.body.length > MOST_COPIED) frame.body = frame.body.slice(0, MOST_COPIED);
    this.#waiting.push(frame);
    if (this.#waiting.length > MOST) {
      this.#waiting.shift();
      this.#lost += 1;
    }
    this.#plan();
  }

  /* A line that is no frame: what happened to the connection. */
  note(key, values) {
    this.#waiting.push({ key, values, at: new Date() });
    this.#plan();
  }

  clear() {
    this.#waiting = [];
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
      this.#list.append(...this.#waiting.map((frame) => (frame.key ? noteLine(frame) : this.#line(frame))));
      this.#waiting = [];
      while (this.#list.childElementCount > MOST) {
        this.#list.firstElementChild.remove();
        this.#lost += 1;
      }
      if (atEnd) this.#list.scrollTop = this.#list.scrollHeight;
    }
    this.#skipped.hidden = this.#lost === 0;
    show(this.#skipped, "skipped", { count: this.#lost });
  }

  #line(frame) {
    const line = fromTemplate("frame-template");
    const { names } = this;
    const title = frame.value ? describe(frame.value, names) : "";
    line.dataset.direction = frame.sent ? "up" : "down";
    line.dataset.found = `${title} ${frame.body.slice(0, MOST_SHOWN)}`.toLowerCase();
    if (frame.value?.[names.status] !== undefined && frame.value[names.status] !== "ok" && !frame.sent) line.dataset.bad = "";
    line.querySelector("time").textContent = formatTime(frame.at);
    show(line.querySelector(".direction"), frame.sent ? "sentShort" : "receivedShort");
    line.querySelector(".size").textContent = formatSize(frame.size);
    line.querySelector(".title").textContent = title;
    line.querySelector(".body").textContent = clip(frame.body, MOST_LINE).replace(/\s+/g, " ");
    line.hidden = !this.#passes(line);
    line.querySelector("details").addEventListener("toggle", () => unfold(line, frame), { once: true });
    return line;
  }

  #passes(line) {
    return (line.dataset.found ?? "").includes(this.#filter.value.trim().toLowerCase());
  }

  #sift() {
    for (const line of this.#list.children) line.hidden = !this.#passes(line);
  }
}

/* What a frame is, in a word or two. */
function describe(frame, names) {
  const kind = frame[names.type];
  if (kind === "event") return `event ${frame[names.event] ?? ""}`;
  if (kind === "call") return `call ${frame.call ?? ""}`;
  const action = frame[names.action] ?? "";
  return kind === undefined ? String(action) : `${kind} ${action}`.trim();
}

function unfold(line, frame) {
  const button = say("button", "copy", {}, { type: "button", className: "link" });
  button.addEventListener("click", () => copy(frame.body, button));
  const text = frame.value && frame.body.length <= MOST_SHOWN ? pretty(frame.value) : frame.body;
  line.querySelector("details").append(make("pre", { className: "code", tabIndex: 0, textContent: clip(text, MOST_SHOWN) }), button);
}

function noteLine({ key, values, at }) {
  const line = make("li", { className: "frame-note" }, make("time", { textContent: formatTime(at) }), " ");
  line.append(say("span", key, values));
  return line;
}
