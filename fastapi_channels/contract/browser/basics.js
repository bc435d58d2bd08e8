/* What every other module uses: elements, storage, the language and the texts in it.

   An element that shows a text carries its key in data-text (its content), data-text-label (aria-label) or
   data-text-placeholder, and the values of placeholders as JSON in data-values: so a change of language
   translates the page in place, also what the server has written. */

import { near, written } from "./exact.js";

export const byId = (id) => document.getElementById(id);

/* The first element in the template `id`, a copy. */
export const fromTemplate = (id) => byId(id).content.firstElementChild.cloneNode(true);

/* An id that no other element has. */
export const newId = ((last) => () => `made-${++last}`)(0);

/* An element with properties (`dataset` and `attributes` among them) and children. */
export function make(tag, { dataset = {}, attributes = {}, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  Object.assign(made.dataset, dataset);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/* An element that shows the text of `key`. */
export function say(tag, key, values = {}, properties = {}) {
  const made = make(tag, properties);
  show(made, key, values);
  return made;
}

/* localStorage may be switched off: then nothing is remembered. Never what proves who somebody is. */
export const store = {
  get(key) {
    try { return localStorage.getItem(key); } catch { return null; }
  },
  set(key, value) {
    try { localStorage.setItem(key, value); } catch { /* not remembered */ }
  },
};

const TEXTS = JSON.parse(byId("texts").textContent);

export const locale = {
  language: document.documentElement.dataset.language,
  get tag() { return this.language === "zh" ? "zh-CN" : "en"; },
};

export const hasText = (key) => Object.hasOwn(TEXTS.en, key);

/* The text of `key`, its {placeholders} filled from `values`. */
export function translate(key, values = {}) {
  const text = TEXTS[locale.language]?.[key] ?? TEXTS.en[key];
  return text.replace(/\{(\w+)\}/g, (whole, name) => written(values[name] ?? whole));
}

/* Lets `element` show the text of `key`, also after a change of language. */
export function show(element, key, values = {}) {
  element.dataset.text = key;
  element.dataset.values = JSON.stringify(values);
  const text = translate(key, values);
  if (element.textContent !== text) element.textContent = text; // or a live region would say it twice
}

/* Lets `element` show what is in no language. */
export function showPlain(element, text) {
  delete element.dataset.text;
  element.textContent = text;
}

/* Shows all texts below `root` in the language of now. */
export function retranslate(root = document) {
  for (const element of root.querySelectorAll("[data-text]")) {
    show(element, element.dataset.text, JSON.parse(element.dataset.values ?? "{}"));
  }
  for (const [name, attribute] of [["label", "aria-label"], ["placeholder", "placeholder"]]) {
    for (const element of root.querySelectorAll(`[data-text-${name}]`)) {
      element.setAttribute(attribute, translate(element.getAttribute(`data-text-${name}`)));
    }
  }
}

/* "812 B", "3.4 kB" or "1.2 MB". */
export function formatSize(size) {
  const bytes = near(size);
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1000).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/* "17:03:04.123" of a Date. */
export function formatTime(date) {
  const two = (number) => String(number).padStart(2, "0");
  const milliseconds = String(date.getMilliseconds()).padStart(3, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${milliseconds}`;
}

/* "7.3 ms", "412 ms" or "3.2 s". */
export function formatLasting(ms) {
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

/* `text`, cut where it is longer than `most`. */
export function clip(text, most) {
  return text.length <= most ? text : `${text.slice(0, most)}… (${formatSize(text.length)})`;
}

/* `value` as JSON for people. */
export const pretty = (value) => JSON.stringify(value, null, 2) ?? "";

/* Puts `text` into the clipboard, and tells so on `button` for a moment. */
export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    show(button, "copied");
  } catch {
    show(button, "notCopied"); // the browser asks for https, or the person has refused
  }
  setTimeout(() => show(button, "copy"), 1500);
}
