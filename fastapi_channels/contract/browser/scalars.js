/* Editors of values without parts: texts, numbers, dates, one of several, constants, anything.

   An editor has an `element`; `read` gives its value, or undefined where it is left out, and tells faults
   to the function it gets; `write` shows a value; `complain` shows what is wrong with it; `find` gives the
   editor at a path. What the schema asks beyond the type is the server's to judge: so that one can try. But it judges
   no answer to its own call: there, in a form that is `complete`, bounds are looked at here. */

import { make, newId, say, show, showPlain } from "./basics.js";
import { near, parse, written } from "./exact.js";
import { boundsOf, isWithin, wordsFor } from "./schema.js";

const LONG = 120; // characters: a text that may be longer gets more than a line

class Scalar {
  isSaid = false; // whether anything was written here: if it is empty now, that is meant

  /* `about` has `name`, `required`, and `text`: what there is to say of it. */
  constructor(schema, about) {
    this.schema = schema;
    this.required = about.required;
    this.isComplete = Boolean(about.complete);
    this.id = newId();
    this.input = this.control();
    this.input.id = this.id;
    this.fault = make("p", { className: "field-error", id: `${this.id}-fault`, attributes: { role: "alert" } });
    this.input.setAttribute("aria-describedby", `${this.id}-about ${this.id}-fault`);
    this.input.addEventListener("input", () => {
      this.isSaid = true;
      this.complain("");
    });
    this.element = make("div", { className: "field" }, labelFor(this.id, schema, about), this.input, this.fault);
    if (schema.default !== undefined) this.write(schema.default);
  }

  complain(text) {
    this.input.setAttribute("aria-invalid", String(Boolean(text)));
    showPlain(this.fault, text);
  }

  /* The same with a text that has translations. */
  refuse(key) {
    this.input.setAttribute("aria-invalid", "true");
    show(this.fault, key);
  }

  /* `value`, where it is as the schema asks, or that is not looked at. */
  judged(value, fault) {
    return this.isComplete && !isWithin(value, this.schema) ? fault(this, "notWithin") : value;
  }

  write(value) {
    this.isSaid = value != null;
    this.input.value = written(value ?? "");
  }

  find(path) {
    return path.length === 0 ? this : null;
  }
}

/* The label of a field: its name, whether it is needed, its type, and what is said of it: `text`, or in each
   language what `hint` is the key of. */
export function labelFor(id, schema, { name, required, text, hint, schemas }) {
  const label = make("label", { htmlFor: id, id: `${id}-label` }, make("code", { textContent: name }));
  if (required) label.append(" ", say("span", "required", {}, { className: "required" }));
  label.append(" ", typeIn(schema, schemas), ...bounds(schema));
  const about = make("p", { id: `${id}-about`, className: "row-about", textContent: text ?? "" });
  if (hint) show(about, hint);
  return make("div", { className: "label" }, label, about);
}

/* The type in words. */
export function typeIn(schema, schemas) {
  const words = wordsFor(schema, schemas).flatMap(({ key, name }, index) => [
    ...(index ? [" ", say("span", "or"), " "] : []),
    key ? say("span", key) : name,
  ]);
  return make("span", { className: "type" }, ...words);
}

function bounds(schema) {
  return boundsOf(schema).map(({ key, value }) => make("span", { className: "type" }, " · ", say("span", key, { value })));
}

export class Text extends Scalar {
  static inputs = { "date": "date", "date-time": "datetime-local", "date-time-local": "datetime-local", "time": "time", "email": "email", "uri": "url", "password": "password" };

  control() {
    const type = Text.inputs[this.schema.format];
    if (type) return make("input", { type, step: 1, autocomplete: "off" });
    const isLong = near(this.schema.maxLength ?? Infinity) > LONG && !this.schema.format && !this.schema.pattern;
    return isLong ? make("textarea", { rows: 1, spellcheck: false }) : make("input", { type: "text", autocomplete: "off", spellcheck: false });
  }

  get #mayBeEmpty() {
    const { format, pattern, minLength = 0 } = this.schema;
    return !format && !pattern && minLength === 0;
  }

  /* The text that asks for it. */
  get needed() { return this.#mayBeEmpty ? "neededText" : "needed"; }

  read(fault) {
    const { value } = this.input;
    if (value === "" && !(this.required && this.isSaid && this.#mayBeEmpty)) return undefined;
    return this.schema.format === "date-time" ? new Date(value).toISOString() : this.judged(value, fault);
  }

  write(value) {
    // A secret is written down as asterisks: that is not what it is.
    if (this.schema.format === "password" && /^\*+$/.test(value)) return;
    super.write(this.schema.format === "date-time" ? local(written(value ?? "")) : value);
  }
}

/* A moment as an input of type datetime-local takes it. */
function local(value) {
  const date = new Date(value);
  if (Number.isNaN(date.getTime())) return "";
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

const JSON_NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;

export class Numeric extends Scalar {
  control() {
    return make("input", { type: "text", inputMode: "decimal", autocomplete: "off" });
  }

  read(fault) {
    const text = this.input.value.trim();
    if (text === "") return undefined;
    const value = Number(text);
    if (!Number.isFinite(value)) return fault(this, "notNumber");
    if (this.schema.type === "integer" && !Number.isInteger(value)) return fault(this, "notWhole");
    const exact = JSON_NUMBER.test(text) ? parse(text) : value;
    if (Number.isInteger(exact) && !Number.isSafeInteger(exact)) return fault(this, "notExact"); // an old browser
    return this.judged(exact, fault);
  }
}

/* One of several values. */
export class Choice extends Scalar {
  control() {
    this.values = this.schema.enum ?? [false, true];
    const options = this.values.map((value, index) => new Option(typeof value === "string" ? value : JSON.stringify(value), index));
    if (!this.required || this.schema.default === undefined) options.unshift(new Option("—", ""));
    return make("select", {}, ...options);
  }

  read() {
    return this.input.value === "" ? undefined : this.values[this.input.value];
  }

  write(value) {
    const index = this.values.findIndex((each) => JSON.stringify(each) === JSON.stringify(value));
    this.input.value = index < 0 ? "" : String(index);
  }
}

/* What has one value only. */
export class Constant {
  element = make("div", { className: "field" });

  constructor(schema, about) {
    this.value = schema.const ?? null;
    this.required = about.required;
    const value = make("code", { textContent: JSON.stringify(this.value) });
    this.element.append(make("p", { className: "label" }, make("code", { textContent: about.name }), " = ", value));
  }

  read() { return this.value; }
  write() {}
  complain() {}
  find(path) { return path.length === 0 ? this : null; }
}

/* Whatever can be written as JSON; a text without quotes counts as that text. */
export class Anything extends Scalar {
  control() {
    return make("textarea", { className: "code", rows: 1, spellcheck: false });
  }

  read(fault) {
    const text = this.input.value.trim();
    if (text === "") return undefined;
    try {
      return parse(text);
    } catch {
      return /^["[{]/.test(text) ? fault(this, "notJsonValue") : text;
    }
  }

  write(value) {
    this.input.value = value === undefined ? "" : JSON.stringify(value, null, 2);
  }
}
