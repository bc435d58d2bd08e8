/* Editors of values with parts: objects, lists, and what may have several forms. They are editors as in
   scalars.js; what may be left out has no parts before it is added, so a schema within itself ends. */

import { make, newId, retranslate, say } from "./basics.js";
import { near } from "./exact.js";
import { Anything, Choice, Constant, Numeric, Text, labelFor, typeIn } from "./scalars.js";
import { fits, isNull, isObject, kindOf, resolve, titleOf, variantsOf } from "./schema.js";

const MOST_LEVELS = 8; // of what must be there within itself: JSON from there on
const MOST_ITEMS = 100; // of a list, in a form

const SCALARS = { const: Constant, enum: Choice, boolean: Choice, string: Text, integer: Numeric, number: Numeric };

/* The editor for `schema`. `about`: its `name`, whether it is `required`, `schemas`, its `level`, and whether it
   is `complete`: then what is required and left open is told here, and not left to the server. */
export function editorFor(schema, about) {
  const found = resolve(schema, about.schemas);
  const told = { ...about, text: found.description };
  const variants = variantsOf(found);
  const others = variants.filter((each) => !isNull(each));
  // That it may be null too is no second form of what may be left out.
  if (variants.length > 1 && others.length === 1 && !about.required) {
    return editorFor({ ...resolve(others[0], about.schemas), description: found.description }, about);
  }
  if (isNull(found)) return new Constant({ const: null }, told);
  const kind = kindOf(found);
  const Editor = SCALARS[kind];
  if (Editor) return new Editor(found, told);
  if (!["union", "object", "array"].includes(kind) || about.level > MOST_LEVELS) return new Anything(found, told);
  if (about.required || about.level === 0) return composite(kind, found, told);
  const optional = new Optional(kind, found, told);
  // As a field without parts does, one whose forms have none shows what the server has in its place.
  if (kind === "union" && found.default != null && others.every((each) => kindOf(resolve(each, about.schemas)) in SCALARS)) optional.write(found.default);
  return optional;
}

function composite(kind, schema, about) {
  if (kind === "union") return new Union(schema, about);
  return kind === "array" ? new List(schema, about) : new Group(schema, about);
}

/* What may be left out: nothing until it is added. */
class Optional {
  #add = say("button", "addField", {}, { type: "button", className: "quiet small" });
  #remove = say("button", "leaveOut", {}, { type: "button", className: "link" });
  #editor = null;
  #make;

  constructor(kind, schema, about) {
    const id = newId();
    this.#add.id = id;
    this.#add.setAttribute("aria-labelledby", `${id} ${id}-label`);
    this.#make = () => composite(kind, schema, about);
    this.element = make("div", { className: "field optional" }, labelFor(id, schema, about), this.#add);
    this.head = [...this.element.children];
    this.#add.addEventListener("click", () => this.#open());
    this.#remove.addEventListener("click", () => this.#close());
  }

  read(fault) { return this.#editor?.read(fault); }

  write(value) {
    if (value === undefined) this.#close();
    else this.#open().write(value);
  }

  complain(text) { this.#editor?.complain(text); }

  find(path) { return this.#editor ? this.#editor.find(path) : path.length === 0 ? this : null; }

  #open() {
    if (!this.#editor) {
      this.#editor = this.#make();
      this.element.replaceChildren(this.#editor.element, this.#remove);
    }
    return this.#editor;
  }

  #close() {
    if (!this.#editor) return;
    this.#editor = null;
    this.element.replaceChildren(...this.head);
    this.#add.focus();
  }
}

/* A fieldset with a name; the outermost has none, and no border. */
class Composite {
  fault = make("p", { className: "field-error", attributes: { role: "alert" } });

  constructor(schema, about) {
    this.schema = schema;
    this.about = about;
    this.required = about.required;
    this.body = make("div", { className: "parts" });
    const legend = make("legend", {}, make("code", { textContent: about.name }));
    if (about.required) legend.append(" ", say("span", "required", {}, { className: "required" }));
    legend.append(" ", typeIn(schema, about.schemas));
    this.element = about.level === 0 ? make("div", {}, this.body, this.fault) : make("fieldset", {}, legend, this.body, this.fault);
  }

  complain(text) { this.fault.textContent = text; }

  refuse(key) { this.fault.replaceChildren(say("span", key)); }

  part(schema, name, required) {
    return editorFor(schema, { ...this.about, name, required, level: this.about.level + 1 });
  }
}

/* An object: its fields, and further ones where it takes them. */
export class Group extends Composite {
  constructor(schema, about) {
    super(schema, about);
    const required = new Set(schema.required);
    const names = Object.keys(schema.properties ?? {}).sort((a, b) => required.has(b) - required.has(a));
    this.fields = new Map(names.map((name) => [name, this.part(schema.properties[name], name, required.has(name))]));
    this.body.append(...[...this.fields.values()].map((field) => field.element));
    if (this.#takesMore()) this.#addMore();
  }

  /* What says nothing of further fields is asked for them only where it has none of its own, within a payload:
     an action that says nothing takes nothing. */
  #takesMore() {
    const more = this.schema.additionalProperties;
    return isObject(more) || more === true || (more === undefined && this.fields.size === 0 && this.about.level > 0);
  }

  #addMore() {
    this.more = new Anything({ description: "" }, { name: "…", required: false });
    this.more.input.placeholder = '{"…": …}';
    this.more.element.firstElementChild.replaceChildren(say("label", "furtherFields", {}, { htmlFor: this.more.id }));
    this.body.append(this.more.element);
  }

  read(fault) {
    const given = [...this.fields].map(([name, field]) => [name, this.about.complete ? readWhole(field, fault) : field.read(fault)]);
    const made = Object.fromEntries(given.filter(([, value]) => value !== undefined));
    const more = this.more?.read(fault);
    if (more !== undefined && !isObject(more)) return fault(this.more, "notObject");
    return { ...made, ...more };
  }

  write(value) {
    if (!isObject(value)) return;
    const rest = { ...value };
    for (const [name, field] of this.fields) {
      field.write(rest[name]);
      delete rest[name];
    }
    this.more?.write(Object.keys(rest).length ? rest : undefined);
  }

  complain(text) {
    super.complain(text);
    if (!text) for (const field of this.fields.values()) field.complain("");
  }

  find([first, ...rest]) {
    if (first === undefined) return this;
    const field = this.fields.get(String(first));
    // A place may begin with words for what the server has looked at.
    return field ? field.find(rest) ?? field : this.find(rest);
  }
}

/* What `editor` says, where it must say something: that it is left open is a fault. */
export function readWhole(editor, fault = () => undefined) {
  let isTold = false;
  const value = editor.read((...told) => {
    isTold = true;
    return fault(...told);
  });
  if (value !== undefined || !editor.required || isTold) return value;
  return editor instanceof Anything ? null : fault(editor, editor.needed ?? "needed");
}

/* A list; one of a fixed form has its places. */
class List extends Composite {
  items = [];
  #list = make("ol", { className: "items" });
  #add = say("button", "addItem", {}, { type: "button", className: "quiet small" });

  constructor(schema, about) {
    super(schema, about);
    this.places = Array.isArray(schema.items) ? schema.items : null;
    this.body.append(this.#list, this.#add);
    this.#add.hidden = this.places !== null;
    this.#add.addEventListener("click", () => this.#append()?.element.querySelector("input, textarea, select, button")?.focus());
    this.write(schema.default ?? []);
  }

  read(fault) { return this.items.map((item) => readWhole(item, fault)); }

  write(value) {
    this.items = [];
    this.#list.replaceChildren();
    const given = Array.isArray(value) ? value.slice(0, MOST_ITEMS) : [];
    const count = this.places?.length ?? Math.max(given.length, Math.min(near(this.schema.minItems ?? 0), MOST_ITEMS));
    for (let index = 0; index < count; index += 1) {
      const item = this.#append();
      if (index < given.length) item.write(given[index]);
    }
  }

  complain(text) {
    super.complain(text);
    if (!text) for (const item of this.items) item.complain("");
  }

  find([first, ...rest]) {
    if (first === undefined) return this;
    const item = this.items[first];
    return item ? item.find(rest) ?? item : this;
  }

  #append() {
    if (this.items.length >= MOST_ITEMS) return null;
    const index = this.items.length;
    const item = this.part(this.places ? this.places[index] : this.schema.items ?? {}, String(index + 1), true);
    const line = make("li", {}, item.element);
    if (!this.places) line.append(this.#remover(item, line));
    this.items.push(item);
    this.#list.append(line);
    retranslate(line);
    return item;
  }

  #remover(item, line) {
    const button = say("button", "removeItem", {}, { type: "button", className: "link" });
    button.addEventListener("click", () => {
      this.items.splice(this.items.indexOf(item), 1);
      line.remove();
      this.#add.focus();
    });
    return button;
  }
}

/* What may have several forms: one is chosen. */
class Union extends Composite {
  constructor(schema, about) {
    super(schema, about);
    this.forms = variantsOf(schema);
    this.place = make("div");
    this.select = make("select", { id: newId() }, ...this.forms.map((form, index) => this.#option(form, index)));
    const label = say("label", "form", {}, { htmlFor: this.select.id });
    this.body.append(make("div", { className: "field" }, label, this.select), this.place);
    this.select.addEventListener("change", () => this.#choose(Number(this.select.value)));
    this.#choose(0);
    if (schema.default !== undefined) this.write(schema.default);
  }

  #option(form, index) {
    const title = titleOf(form, this.about.schemas);
    const option = new Option(title ?? "", index);
    if (title === null) option.replaceChildren(typeIn(resolve(form, this.about.schemas), this.about.schemas).textContent);
    return option;
  }

  #choose(index) {
    const form = this.forms[index];
    this.select.value = String(index);
    this.editor = isNull(form) ? new Constant({ const: null }, { name: "" }) : this.part(form, titleOf(form, this.about.schemas) ?? "", true);
    this.place.replaceChildren(this.editor.element);
  }

  read(fault) { return this.editor.read(fault); }

  write(value) {
    const index = this.forms.findIndex((form) => fits(value, form, this.about.schemas));
    if (index < 0) return;
    this.#choose(index);
    this.editor.write(value);
  }

  complain(text) {
    super.complain(text);
    if (!text) this.editor.complain("");
  }

  /* A place may name the form that was tried: that is no part of it. */
  find(path) {
    if (path.length === 0) return this;
    return this.editor.find(path) ?? this.editor.find(path.slice(1)) ?? this;
  }
}
