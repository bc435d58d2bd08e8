/* What was asked and what came of it: the requests of the console, and the calls of the server. */

import { clip, copy, formatLasting, formatTime, fromTemplate, hasText, make, newId, pretty, retranslate, say, show, translate } from "./basics.js";
import { editorFor } from "./composites.js";
import { kindOf, resolve } from "./schema.js";

const MOST = 20; // requests that are shown
const MOST_SHOWN = 20_000; // characters of an answer
const STATES = { sent: "stateSent", streaming: "stateStreaming", ok: "stateOk", bad: "stateBad", lost: "stateLost" };

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
    card.querySelector(".id").textContent = `#${request.id} · ${formatTime(request.at)}`;
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
  if (request.error) return request.error;
  return request.operation.stream || request.count > 1 ? request.replies : request.replies[0];
}

function drawCall(card, request, names) {
  card.dataset.state = request.state;
  show(card.querySelector(".call-state"), STATES[request.state]);
  card.querySelector(".lasting").textContent = request.state === "sent" ? "" : formatLasting(request.lasting);
  card.querySelector(".cancel").hidden = !request.isOpen;
  card.querySelector(".copy").hidden = request.state === "sent";
  const result = card.querySelector(".result");
  if (request.error) result.replaceChildren(...errorParts(request.error, names));
  else if (request.operation.stream || request.count > 1) result.replaceChildren(...streamParts(request));
  else if (request.count) result.replaceChildren(code(request.replies[0]));
  else result.replaceChildren(say("p", waitingFor(request), {}, { className: "muted" }));
}

function waitingFor(request) {
  if (request.state === "sent") return request.operation.answers.length ? "waiting" : "waitingMaybe";
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

function errorParts(frame, names) {
  const errorCode = String(frame[names.code] ?? frame[names.status] ?? "");
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
  card.querySelector(".question").textContent = clip(pretty(call[names.data]), MOST_SHOWN);
  const editor = editorFor(schema, { name: names.data, required: true, schemas, level: 1 });
  card.querySelector(".asked-fields").append(editor.element);
  const done = (given) => {
    answer(call, given);
    card.remove();
  };
  card.addEventListener("submit", (event) => {
    event.preventDefault();
    let isWrong = false;
    const value = editor.read((field, text) => { isWrong = true; field.refuse(text); });
    if (!isWrong) done({ [names.data]: value ?? null });
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
