/* Short messages between what was said and what is being written, and the rate limits that count down in them. */

const TOAST_LASTS = 8_000; // ms
const MOST_TOASTS = 3;

class Toasts {
  #root;
  #template = byId("toast-template");

  constructor(root) {
    this.#root = root;
  }

  /* Tells an error until `lasts` ms have passed without a pointer or focus on its toast. */
  show(code, detail, { lasts = TOAST_LASTS } = {}) {
    const toast = this.#template.content.firstElementChild.cloneNode(true);
    toast.dataset.kind = code;
    toast.setAttribute("role", "alert");
    show(toast.querySelector("b"), `error_${code}`);
    toast.querySelector(".detail").textContent = detail;
    retranslate(toast);
    toast.querySelector("button").addEventListener("click", () => dismiss(toast));
    this.drop(code);
    this.#root.append(toast);
    while (this.#root.childElementCount > MOST_TOASTS) this.#root.firstElementChild.remove();
    if (lasts) vanish(toast, lasts);
    return toast;
  }

  drop(code) {
    this.#root.querySelector(`[data-kind="${code}"]`)?.remove();
  }

  clear() {
    this.#root.replaceChildren();
  }
}

/* Removes `toast`; a focus in it goes to the messages rather than nowhere. */
function dismiss(toast) {
  const focused = toast.contains(document.activeElement);
  toast.remove();
  if (focused) byId("log").focus();
}

/* Removes `toast` after `lasts` ms in which nobody looked at it closely. */
function vanish(toast, lasts) {
  let timer;
  const start = () => { timer = setTimeout(() => toast.remove(), lasts); };
  const stop = () => clearTimeout(timer);
  for (const name of ["pointerenter", "focusin"]) toast.addEventListener(name, stop);
  for (const name of ["pointerleave", "focusout"]) toast.addEventListener(name, start);
  start();
}

/* Until when each action is limited. Dispatches "change" while a limit counts down and when it ends. */
class Limits extends EventTarget {
  #until = new Map();
  #toasts = new Map();
  #timer = 0;

  /* Seconds until `action` may be called again. */
  wait(action) {
    return Math.max(0, (this.#until.get(action) ?? 0) - performance.now()) / 1000;
  }

  /* Limits `action` for `seconds`; `toast` tells them and goes when they are over. */
  add(action, seconds, toast) {
    this.#until.set(action, performance.now() + seconds * 1000);
    this.#toasts.set(action, toast);
    clearInterval(this.#timer);
    this.#timer = setInterval(() => this.#tick(), 200);
    this.#tick();
  }

  clear() {
    this.#until.clear();
    this.#toasts.clear();
    this.#tick();
  }

  #tick() {
    for (const [action, toast] of this.#toasts) {
      const wait = this.wait(action);
      if (wait > 0) toast.querySelector(".wait").textContent = formatWait(wait);
      else this.#end(action, toast);
    }
    if (this.#until.size === 0) clearInterval(this.#timer);
    this.dispatchEvent(new Event("change"));
  }

  #end(action, toast) {
    dismiss(toast);
    this.#until.delete(action);
    this.#toasts.delete(action);
  }
}
