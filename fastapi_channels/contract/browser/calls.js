/* What was asked and what came of it: the requests of the console, and the calls of the server. */

import { clip, copy, formatLasting, formatTime, fromTemplate, hasText, make, newId, pretty, retranslate, say, show, translate } from "./basics.js";
import { editorFor, readWhole } from "./composites.js";
import { written } from "./exact.js";
import { kindOf, resolve } from "./schema.js";

const MOST = 20; // requests that are shown
const MOST_WAIT = 2 ** 31 - 1; // ms: what a timer of a browser can wait
const MOST_SHOWN = 20_000; // characters of an answer
const STATES = { sent: "stateSent", streaming: "stateStreaming", ok: "stateOk", bad: "stateBad", cancelled: "stateCancelled", lost: "stateLost" };

/* The requests of one connection, the newest first. */
export class CallList {
  #list;

  constructor(list) {
    this.#list = list;
  }

  /* Shows `request`; `cancel` is called with it, `refused` with the frame that refused it. */
  add(request, { cancel, refused, names }) {
    const card = fromTemplate("call-template");
    card.querySelector(".name").textContent = request.operation.name;
    card.querySelector(".id").textContent = `#${written(request.id)} · ${formatTime(request.at)}`;
    const buttons = { cancel: card.querySelector(".cancel"), copy: card.querySelector(".copy") };
    buttons.cancel.addEventListener("click", () => cancel(request));
    buttons.copy.addEventListener("click", () => copy(pretty(resultOf(request)), buttons.copy));
    const draw = onceForAPicture(() => drawCall(card, request, names));
    request.addEventListener("change", () => {
      draw();
      if (request.state === "bad") refused(request.error);
    });
    retranslate(card);
    drawCall(card, request, names);
    this.#list.prepend(card);
    while (this.#list.childElementCount > MOST) this.#list.lastElementChild.remove();
  }

  clear() {
    this.#list.replaceChildren();
  }
}

/* `draw`, but at most once until the screen is painted: a stream may bring a thousand items before that. */
function onceForAPicture(draw) {
  let planned = false;
  return () => {
    if (planned) return;
    planned = true;
    requestAnimationFrame(() => {
      planned = false;
      draw();
    });
  };
}

function resultOf(request) {
  if (isStream(request)) return request.error ? { items: request.replies, error: request.error } : request.replies;
  return request.error ?? request.replies[0];
}

/* What comes in parts; an error before the first of them stands alone. */
const isStream = ({ operation, count, error }) => (error ? count > 0 : operation.stream || count > 1);

function drawCall(card, request, names) {
  card.dataset.state = request.state;
  show(card.querySelector(".call-state"), STATES[request.state]);
  card.querySelector(".lasting").textContent = request.state === "sent" ? "" : formatLasting(request.lasting);
  card.querySelector(".cancel").hidden = !request.canBeCancelled;
  card.querySelector(".copy").hidden = request.state === "sent";
  const result = card.querySelector(".result");
  if (isStream(request)) result.replaceChildren(...streamParts(request), ...endParts(request, names));
  else if (request.error) result.replaceChildren(...errorParts(request.error, names));
  else if (request.count) result.replaceChildren(code(request.replies[0]));
  else result.replaceChildren(say("p", waitingFor(request), {}, { className: "muted" }));
  if (request.sunset) result.append(say("p", "servedUntil", { date: request.sunset }, { className: "note" }));
}

function waitingFor(request) {
  if (request.state === "sent") return request.isAnswered ? "waiting" : "waitingMaybe";
  return request.state === "lost" ? "lostAnswer" : "emptyAnswer";
}

function streamParts(request) {
  const head = say("p", "items", { count: request.count }, { className: "muted" });
  const list = make("ol", { className: "stream code", tabIndex: 0 });
  list.start = request.count - request.replies.length + 1;
  list.append(...request.replies.map((data) => make("li", { textContent: clip(JSON.stringify(data) ?? "", 2000) })));
  requestAnimationFrame(() => { list.scrollTop = list.scrollHeight; });
  return [head, list];
}

/* How a stream ended: what has come of it stays above. */
function endParts({ state, error }, names) {
  if (error) return errorParts(error, names);
  const key = { ok: "streamEnded", lost: "lostAnswer" }[state];
  return key ? [say("p", key, {}, { className: "muted" })] : [];
}

/* An error of the server in words: its code, what that means, and what was said. */
export function errorParts(frame, names) {
  const errorCode = written(frame[names.code] ?? frame[names.status] ?? "");
  const head = make("p", {}, make("code", { className: "bad-code", textContent: errorCode }), " ");
  const key = `error_${errorCode}`;
  if (hasText(key)) head.append(say("span", key, {}, { className: "muted" }));
  const said = frame[names.errors];
  const parts = [head, make("p", { className: "said", textContent: typeof said === "string" ? clip(said, 2000) : clip(pretty(said), 2000) })];
  if (frame.retry_after !== undefined) parts.push(say("p", "retryAfter", { seconds: frame.retry_after }));
  if (frame[names.data] != null) parts.push(code(frame[names.data]));
  return parts;
}

const code = (value) => make("pre", { className: "code", tabIndex: 0, textContent: clip(pretty(value), MOST_SHOWN) });

/* A call of the server: a form for the answer, by `schema`. `answer` gets `data` or `errors` under the channel's names. */
export function askedCard(call, { names, about, schema, schemas, answer }) {
  const card = fromTemplate("asked-template");
  card.querySelector(".name").textContent = call.call;
  card.querySelector(".asked-about").textContent = about;
  const { within } = call;
  let expiry;
  if (typeof within === "number") {
    show(card.querySelector(".asked-within"), "within", { seconds: within });
    // Whoever waited has given up by then, and an answer would be heard by nobody.
    expiry = setTimeout(() => card.remove(), Math.min(within * 1000, MOST_WAIT));
  }
  const question = card.querySelector(".question");
  question.textContent = clip(pretty(call[names.data]), MOST_SHOWN);
  question.hidden = ["{}", "null", ""].includes(question.textContent);
  const editor = editorFor(schema, { name: names.data, required: true, schemas, level: 1, complete: true });
  card.querySelector(".asked-fields").append(editor.element);
  const done = (given) => {
    clearTimeout(expiry);
    answer(call, given);
    card.remove();
  };
  card.addEventListener("submit", (event) => {
    event.preventDefault();
    let isWrong = false;
    const value = readWhole(editor, (field, text) => { isWrong = true; field.refuse(text); });
    if (!isWrong) done({ [names.data]: value });
  });
  const why = card.querySelector(".why");
  card.querySelector(".fail").addEventListener("click", () => done({ [names.errors]: why.value.trim() || translate("closedNoReason") }));
  const isYesNo = ["anything", "boolean"].includes(kindOf(resolve(schema, schemas)));
  for (const [selector, value] of [[".yes", true], [".no", false]]) {
    card.querySelector(selector).hidden = !isYesNo;
    card.querySelector(selector).addEventListener("click", () => done({ [names.data]: value }));
  }
  why.id = newId();
  card.querySelector(".why-label").htmlFor = why.id;
  retranslate(card);
  return card;
}
