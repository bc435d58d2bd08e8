/* The panel that calls any action with any fields, and shows the answer. */

const OTHER = ""; // the value of the option for a name of one's own

/* The fields in `text`. Throws an Error that says what is wrong with it. */
function parseFields(text) {
  const value = JSON.parse(text.trim() || "{}");
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new TypeError(translate("fieldsNotObject"));
  }
  return value;
}

class ActionPanel {
  #select = byId("action");
  #other = byId("other");
  #fields = byId("fields");
  #result = byId("result");
  #example = () => ({});
  #suggested = "";

  /* `call` gets the name of an action and its fields. */
  constructor(call) {
    this.#select.addEventListener("change", () => this.#chosen());
    byId("call").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit(call);
    });
  }

  get action() {
    return this.#select.value === OTHER ? this.#other.value.trim() : this.#select.value;
  }

  /* Lists `actions`; `example` gives the fields to begin with for each. */
  offer(actions, example) {
    this.#example = example;
    byId("call").hidden = actions.length === 0;
    byId("no-actions").hidden = actions.length > 0;
    const other = new Option("", OTHER);
    show(other, "otherAction");
    this.#select.replaceChildren(...actions.map((name) => new Option(name, name)), other);
    this.#suggest();
    this.#chosen();
    this.explain("resultEmpty");
  }

  /* Shows `value`, the answer to the last call. */
  answer(value) {
    delete this.#result.dataset.text;
    this.#result.textContent = JSON.stringify(value, null, 2);
  }

  /* Shows the text of `key` for an answer that is not there. */
  explain(key) {
    show(this.#result, key);
  }

  #chosen() {
    byId("other-field").hidden = this.#select.value !== OTHER;
    if (this.#fields.value === this.#suggested) this.#suggest();
  }

  /* Fields that fit the chosen action; what the user has written is never replaced. */
  #suggest() {
    this.#suggested = JSON.stringify(this.#example(this.action), null, 2);
    this.#fields.value = this.#suggested;
  }

  #submit(call) {
    try {
      const fields = parseFields(this.#fields.value);
      complain(this.#fields, "");
      if (this.action) call(this.action, fields);
      else this.#other.focus();
    } catch (error) {
      complain(this.#fields, "fieldsWrong", { problem: error.message });
    }
  }
}
