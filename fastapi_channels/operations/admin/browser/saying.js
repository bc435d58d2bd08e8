/* Publishing an event in a room: by a form that its schema makes, or as JSON. */

import { make, newId, retranslate, say } from "./basics.js";
import { editorFor, readWhole } from "./composites.js";
import { act } from "./dialog.js";

const ANY = {}; // the schema of whatever there may be

export class Saying {
  #editor;

  constructor(path, isOwn, channels, schemas) {
    this.path = path;
    this.schemas = schemas;
    // As the whole application speaks, where rooms are anybody's; else as one of the channels that have them.
    this.voices = [...channels, ...(isOwn ? [] : [{ name: "", events: null, forms: {} }])];
    this.voice = this.#select("as", this.voices.map(({ name }, index) => [String(index), name]), () => this.#chooseVoice());
    this.event = this.#select("event", [], () => this.#chooseEvent());
    this.name = make("input", { id: newId(), maxLength: 255, autocomplete: "off", spellcheck: false, className: "event-name" });
    this.nameField = make("div", { className: "field" }, say("label", "eventName", {}, { htmlFor: this.name.id }), this.name);
    this.fields = make("div", { className: "fields" });
    this.element = make(
      "form", { className: "parts saying", noValidate: true }, make("div", { className: "pair" }, this.voice.field, this.event.field), this.nameField, this.fields,
      make("div", { className: "bar" }, say("button", "publish", {}, { type: "submit", className: "primary" })),
    );
    this.voice.field.hidden = this.voices.length < 2;
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#publish();
    });
    this.#chooseVoice();
  }

  get #chosen() { return this.voices[Number(this.voice.select.value)]; }

  #select(key, options, changed) {
    const select = make("select", { id: newId() });
    select.addEventListener("change", changed);
    fill(select, options);
    return { select, field: make("div", { className: "field" }, say("label", key, {}, { htmlFor: select.id }), select) };
  }

  #chooseVoice() {
    const { forms, events } = this.#chosen;
    const named = Object.keys(forms).map((name) => [name, name]);
    // A channel that declares its events sends no others.
    fill(this.event.select, events === null ? [...named, ["", null]] : named);
    this.event.field.hidden = this.event.select.options.length < 2;
    this.#chooseEvent();
  }

  #chooseEvent() {
    const form = this.#chosen.forms[this.event.select.value];
    this.nameField.hidden = form !== undefined;
    this.name.required = form === undefined;
    this.#editor = editorFor(form?.payload ?? ANY, { name: "data", required: form !== undefined, schemas: this.schemas, level: 0, complete: true });
    this.fields.replaceChildren(...(form?.about ? [make("p", { className: "muted", textContent: form.about })] : []), this.#editor.element);
    retranslate(this.element);
  }

  async #publish() {
    const event = this.event.select.value || this.name.value.trim();
    if (!event) return this.name.focus();
    let isWrong = false;
    const data = readWhole(this.#editor, (field, key) => { isWrong = true; field.refuse(key); });
    if (isWrong) return undefined;
    return act(`${this.path}/publish`, { query: { channel: this.#chosen.name }, body: { event, data: data ?? null } }, ["donePublish", { event }]);
  }
}

function fill(select, options) {
  select.replaceChildren(...options.map(([value, name]) => (
    name ? make("option", { value, textContent: name }) : say("option", value === "" ? "anotherEvent" : "wholeApplication", {}, { value })
  )));
}
