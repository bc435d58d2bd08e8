/* What every other file uses: elements, storage, the language and the texts in it.

   An element that shows a text carries its key in data-text (its content), data-text-label (aria-label),
   data-text-title or data-text-placeholder, and the values of placeholders as JSON in data-values: so a
   change of language translates the page in place. */

const byId = (id) => document.getElementById(id);

/* The browser's storage may be switched off: then nothing is remembered. */
const remembering = (storage) => ({
  get(key) {
    try { return storage().getItem(key); } catch { return null; }
  },
  set(key, value) {
    try { storage().setItem(key, value); } catch { /* not remembered */ }
  },
});
const store = remembering(() => localStorage);
const tab = remembering(() => sessionStorage); // over a reload, and in this tab alone

const locale = {
  language: store.get("language") ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en"),
  get tag() { return this.language === "zh" ? "zh-CN" : "en"; },
};

/* The text of `key`, its {placeholders} filled from `values`. */
function translate(key, values = {}) {
  const text = TEXTS[locale.language]?.[key] ?? TEXTS.en[key];
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/* Lets `element` show the text of `key`, also after a change of language. */
function show(element, key, values = {}) {
  element.dataset.text = key;
  element.dataset.values = JSON.stringify(values);
  const text = translate(key, values);
  if (element.textContent !== text) element.textContent = text; // or a live region would say it twice
}

function showTime(element) {
  const second = element.hasAttribute("data-exact") ? "2-digit" : undefined;
  const format = new Intl.DateTimeFormat(locale.tag, { hour: "2-digit", minute: "2-digit", second, hour12: second && false });
  element.textContent = format.format(new Date(element.dateTime));
}

/* Shows all texts below `root` in the language of now. */
function retranslate(root = document) {
  for (const element of root.querySelectorAll("[data-text]")) {
    show(element, element.dataset.text, JSON.parse(element.dataset.values ?? "{}"));
  }
  for (const [name, attribute] of [["label", "aria-label"], ["title", "title"], ["placeholder", "placeholder"]]) {
    for (const element of root.querySelectorAll(`[data-text-${name}]`)) {
      element.setAttribute(attribute, translate(element.getAttribute(`data-text-${name}`)));
    }
  }
  root.querySelectorAll("time").forEach(showTime);
}

/* "7 s", "4:05" or "1:02:03". */
function formatWait(seconds) {
  const whole = Math.max(1, Math.ceil(seconds));
  if (whole < 60) return translate("seconds", { count: whole });
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (parts[0] === 0) parts.shift();
  return parts.map((part, index) => (index ? String(part).padStart(2, "0") : part)).join(":");
}

/* Marks `input` as wrong for the reason of `key`, or as right again for none. */
function complain(input, key, values) {
  const reason = byId(`${input.id}-error`);
  input.setAttribute("aria-invalid", String(Boolean(key)));
  if (key) {
    show(reason, key, values);
    input.focus();
  } else {
    delete reason.dataset.text;
    reason.textContent = "";
  }
}

/* What is being changed is not called wrong any more. */
for (const id of ["name", "room-name"]) byId(id).addEventListener("input", (event) => complain(event.target, ""));

/* Unlike `disabled`, this keeps the focus where it is; whoever handles the button asks first. */
function enable(button, enabled) {
  button.setAttribute("aria-disabled", String(!enabled));
}
