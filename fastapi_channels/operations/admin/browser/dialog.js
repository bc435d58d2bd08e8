/* Asking before something is done, and telling what came of it. */

import { byId, make, newId, retranslate, say, show, showPlain } from "./basics.js";
import { Refused, ask } from "./api.js";

const SHOWN = 8000; // ms

/* Tells in a line that goes away; `said` is a text, or `[key, values]`. */
export function tell(said, isBad = false) {
  const toast = byId("toast");
  toast.className = isBad ? "bad" : "good";
  if (Array.isArray(said)) show(toast, ...said);
  else showPlain(toast, said);
  clearTimeout(tell.timer);
  tell.timer = setTimeout(() => showPlain(toast, ""), SHOWN);
}

/* What went wrong, in words. */
export function tellFault(error) {
  if (!(error instanceof Refused)) throw error;
  if (error.isOut) tell(["notLetIn"], true);
  else tell(["failed", { status: error.status || "—", detail: error.detail }], true);
}

/* Does it, and tells; whether it was done. */
export async function act(path, options, done = ["done"]) {
  try {
    await ask(path, { method: "POST", ...options });
  } catch (error) {
    tellFault(error);
    return false;
  }
  tell(done);
  return true;
}

const CONTROLS = {
  text: ({ value = "", most = 255 }) => make("input", { value, maxLength: most, autocomplete: "off", spellcheck: false }),
  number: ({ value }) => make("input", { type: "number", value, step: 1 }),
  choice: ({ options, value }) => {
    const select = make("select", {}, ...options.map(([given, key]) => say("option", key, {}, { value: given })));
    select.value = value ?? options[0][0];
    return select;
  },
};

export const TIMES = [["600", "time10m"], ["3600", "time1h"], ["86400", "time1d"], ["604800", "time7d"], ["2592000", "time30d"]];

/* Asks for `fields` (each a `name`, a `kind`, and what that needs) before something is done to `whom`; what was
   given, or null. */
export function askFor(title, whom, fields, confirm) {
  const controls = fields.map((field) => [field, Object.assign(CONTROLS[field.kind](field), { id: newId(), required: Boolean(field.required) })]);
  const heading = say("h2", title, {}, { id: newId() });
  const cancel = say("button", "cancel", {}, { type: "button", className: "quiet" });
  const form = make(
    "form", { className: "parts" }, heading, ...(whom ? [make("p", {}, make("code", { textContent: whom }))] : []),
    ...controls.map(([{ label }, control]) => make("div", { className: "field" }, say("label", label, {}, { htmlFor: control.id }), control)),
    make("div", { className: "dialog-foot" }, cancel, say("button", confirm ?? title, {}, { type: "submit", className: "primary" })),
  );
  const dialog = make("dialog", { attributes: { "aria-labelledby": heading.id } }, form);
  document.body.append(dialog);
  retranslate(dialog);
  return new Promise((resolve) => {
    let given = null;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      given = Object.fromEntries(controls.map(([{ name, kind }, control]) => [name, kind === "number" ? Number(control.value) : control.value]));
      dialog.close();
    });
    cancel.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(given);
    });
    dialog.showModal();
  });
}

const CODE = { name: "code", kind: "number", label: "closeCode", value: 4503, required: true };
const REASON = { name: "reason", kind: "text", label: "reason", most: 120 };

/* Closes a connection, or all of a user, after asking how. */
export async function disconnect(path, whom, title) {
  const close = await askFor(title, whom, [CODE, REASON]);
  return close !== null && act(path, { body: close }, ["doneClose", { whom }]);
}

/* Bans a user, or an address, after asking for how long. */
export async function ban(given) {
  const whom = given?.user ?? given?.address ?? "";
  const asked = given ? [] : [
    { name: "what", kind: "choice", label: "banOf", options: [["user", "aUser"], ["address", "anAddress"]] },
    { name: "whom", kind: "text", label: "banWhom", most: 1024, required: true },
  ];
  const told = await askFor("ban", whom, [...asked, { name: "seconds", kind: "choice", label: "banFor", options: TIMES, value: "86400" }, { ...REASON, label: "banReason" }]);
  if (told === null) return false;
  const subject = given ?? { [told.what]: told.whom };
  return act("bans", { body: { ...subject, seconds: Number(told.seconds), reason: told.reason } }, ["doneBan", { whom: whom || told.whom }]);
}
