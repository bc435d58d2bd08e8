/* The frames as they went over the wire, newest last, for whoever wants to see what the page does. */

const MOST_FRAMES = 200;

/* What colours a text that may be JSON: strings, with the colon behind those that are keys; numbers; words. */
const TOKENS = /("(?:[^"\\]|\\.)*")(\s*:)?|-?\d[\d.eE+-]*|\b(?:true|false|null)\b/g;

/* `text` as elements, coloured by what its parts are. Before a key a line may end. */
function coloured(text) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(TOKENS)) {
    const part = document.createElement("span");
    part.className = match[2] ? "key" : match[1] ? "string" : "value";
    part.textContent = match[1] ?? match[0];
    parts.push(text.slice(end, match.index), match[2] ? document.createElement("wbr") : "", part, match[2] ?? "");
    end = match.index + match[0].length;
  }
  return [...parts, text.slice(end)];
}

/* What a frame is, in one word: the action that is called, the event, or how a request went. */
function describeFrame(text) {
  const { type, event, action, status } = parseObject(text) ?? {};
  if (type === "response") return { kind: status === "ok" ? "reply" : "error", what: status };
  if (type === "event") return { kind: "event", what: event };
  return { kind: "plain", what: action ?? type ?? "" };
}

class Wire {
  #panel = byId("wire");
  #list = byId("frames");
  #template = byId("frame-template");
  #end = new End(this.#list);

  constructor() {
    const wide = matchMedia("(min-width: 1200px)");
    const settle = () => this.#settle(wide.matches);
    wide.addEventListener("change", settle);
    this.#panel.addEventListener("toggle", () => this.#panel.open && this.#opened());
    settle();
  }

  clear() {
    this.#list.replaceChildren();
    this.#end.follow();
  }

  /* Notes a frame that went in `direction`, an arrow. */
  note(direction, text) {
    const line = this.#template.content.firstElementChild.cloneNode(true);
    const { kind, what } = describeFrame(text);
    line.dataset.kind = direction === "→" ? "sent" : kind;
    line.querySelector(".way").textContent = direction;
    line.querySelector(".what").textContent = what;
    line.querySelector(".what").title = what;
    line.querySelector(".raw").append(...coloured(text));
    line.querySelector("time").dateTime = new Date().toISOString();
    line.querySelector("time").setAttribute("data-exact", "");
    showTime(line.querySelector("time"));
    this.#list.append(line);
    if (this.#list.childElementCount > MOST_FRAMES) this.#list.firstElementChild.remove();
    this.#end.keep();
  }

  /* Beside the chat where there is room, else below what else the side has. */
  #settle(wide) {
    if (wide) byId("chat").after(this.#panel);
    else byId("side").append(this.#panel);
    this.#panel.open = wide;
  }

  #opened() {
    this.#end.follow();
    this.#panel.scrollIntoView({ block: "nearest" });
  }
}
