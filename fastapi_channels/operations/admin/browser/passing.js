/* What passes in a room, as it passes: a part of it, for a while. */

import { clip, make, say, show } from "./basics.js";
import { ask, streamOf } from "./api.js";
import { tellFault } from "./dialog.js";
import { button } from "./table.js";
import { moment } from "./words.js";

const MOST = 200; // messages that are kept here

export class Passing {
  #stream = null;
  #passed = 0;
  #shown = 0;

  constructor(path, where, keeps) {
    this.path = path;
    this.where = where;
    this.list = make("ol", { className: "frames passing", tabIndex: 0, attributes: { "data-text-label": "messages" } });
    this.state = say("p", "listenHint", {}, { className: "muted", role: "status" });
    this.toggle = button("listen", () => (this.#stream ? this.stop() : this.#listen()), "primary small");
    const past = button("readHistory", () => this.#read(keeps));
    past.hidden = keeps === undefined;
    const clear = button("clear", () => this.list.replaceChildren());
    this.element = make("div", { className: "parts" }, make("div", { className: "bar" }, this.toggle, past, clear), this.state, this.list);
  }

  stop(key = "listenStopped") {
    if (!this.#stream) return;
    this.#stream.close();
    this.#stream = null;
    show(this.toggle, "listen");
    show(this.state, key, { passed: this.#passed });
  }

  #listen() {
    this.#passed = this.#shown = 0;
    this.#stream = streamOf(`${this.path}/tail`, this.where);
    show(this.toggle, "stop");
    show(this.state, "listenBegins");
    this.#stream.addEventListener("open", () => show(this.state, "listening", { passed: 0, left: 0 }));
    this.#stream.addEventListener("message", ({ data }) => {
      const { passed, messages } = JSON.parse(data);
      this.#passed = passed;
      this.#shown += messages.length;
      show(this.state, "listening", { passed, left: passed - this.#shown });
      for (const each of messages) this.#add(each);
    });
    this.#stream.addEventListener("end", () => this.stop("listenEnded"));
    // It would come back by itself, and go on as if nothing were missing.
    this.#stream.addEventListener("error", () => this.stop("listenLost"));
  }

  async #read(channel) {
    let page;
    try {
      page = await ask(`${this.path}/history`, { query: { channel, limit: 50 } });
    } catch (error) {
      tellFault(error);
      return;
    }
    this.list.replaceChildren();
    for (const frame of page.items.toReversed()) {
      const text = JSON.stringify(frame);
      this.#add({ text, size: new TextEncoder().encode(text).length, position: frame.position ?? "", cut: false, binary: false, at: null });
    }
    show(this.state, "historyRead", { count: page.items.length });
  }

  #add({ at, text, size, cut, binary, position }) {
    const title = binary ? "…" : titleOf(text);
    const summary = make(
      "summary", {}, make("time", { textContent: at === null ? position : moment(at) }), make("span", { className: "title", textContent: title }),
      make("span", { className: "size", textContent: `${size} B` }), make("span", { className: "body", textContent: clip(binary ? text : contentOf(text), 200) }),
    );
    const whole = make("pre", { className: "code", tabIndex: 0, textContent: `${binary ? text : indented(text)}${cut ? "…" : ""}` });
    this.list.prepend(make("li", {}, make("details", {}, summary, whole)));
    while (this.list.childElementCount > MOST) this.list.lastElementChild.remove();
  }
}

function parsed(text) {
  try { return JSON.parse(text); } catch { return undefined; }
}

/* The name of an event, whatever the channel calls the field. */
function titleOf(text) {
  const frame = parsed(text);
  const name = frame?.event ?? frame?.action ?? frame?.method ?? frame?.type;
  return typeof name === "string" ? name : "";
}

/* What an event carries, where it is one; else the whole. */
function contentOf(text) {
  const frame = parsed(text);
  return frame?.event !== undefined && frame.data !== undefined ? JSON.stringify(frame.data) : text;
}

function indented(text) {
  const frame = parsed(text);
  return frame === undefined ? text : JSON.stringify(frame, null, 2);
}
