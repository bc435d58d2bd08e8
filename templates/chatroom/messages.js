/* The list of messages: grouped, bounded, and scrolled only for readers who are at its end. */

const MOST_MESSAGES = 500;
const GROUP_WITHIN = 5 * 60_000; // ms

const NEAR = 80; // px from the beginning at which earlier messages are asked for

const HUES = 8;

/* A circle with initials whose colour depends on nothing but the name. */
function paintAvatar(element, name) {
  const letters = [...name.trim()];
  const second = name.trim().split(/\s+/)[1];
  element.textContent = (letters[0] ?? "?").toUpperCase() + (second ? [...second][0].toUpperCase() : "");
  const hash = letters.reduce((sum, letter) => Math.imul(sum ^ letter.codePointAt(0), 16777619), 2166136261);
  element.dataset.hue = (hash >>> 8) % HUES;
}

class MessageList {
  #root;
  #jump;
  #template = byId("message-template");
  #last = { by: null, at: 0 }; // of the latest message, if no notice followed
  #unread = 0;
  #end;
  #tell;
  #ask;

  /* `tell` gets how many messages are unread: below the end of what is seen, or in a tab that is not. `ask` is
     called when the reader comes to the beginning. */
  constructor(root, jump, tell, ask) {
    this.#ask = ask;
    this.#root = root;
    this.#jump = jump;
    this.#tell = tell;
    this.#end = new End(root, () => this.#seen());
    document.addEventListener("visibilitychange", () => this.#seen());
    jump.addEventListener("click", () => {
      this.#end.follow();
      root.focus();
    });
  }

  clear() {
    this.#root.replaceChildren();
    this.#last = { by: null, at: 0 };
    this.#end.follow();
    this.#read();
  }

  /* Appends a message and returns its element. */
  add(by, text, { own = false } = {}) {
    const message = { by, text, own, at: new Date() };
    const element = this.#made(message, this.#last);
    this.#last = message;
    if (own) this.#end.follow();
    this.#append(element);
    if (!this.#end.following || document.hidden) this.#countUnread();
    return element;
  }

  /* Shows earlier messages, the oldest first, behind an element; without one at the beginning. What is read stays
     where it is. */
  insert(earlier, behind = null) {
    const before = this.#root.scrollHeight;
    const elements = earlier.map((message, index) => this.#made(message, earlier[index - 1] ?? { by: null }));
    if (behind) behind.after(...elements);
    else this.#root.prepend(...elements);
    if (this.#end.following) this.#end.keep();
    else if (!behind) this.#root.scrollTop += this.#root.scrollHeight - before;
  }

  /* Whether earlier messages may be shown. */
  get hasRoom() {
    return this.#root.childElementCount < MOST_MESSAGES;
  }

  #made({ by, text, own, at }, last) {
    const element = this.#template.content.firstElementChild.cloneNode(true);
    // Somebody else may have the same name.
    const continued = last.by === by && last.own === own && at - last.at < GROUP_WITHIN;
    element.classList.toggle("own", own);
    element.classList.toggle("continued", continued);
    paintAvatar(element.querySelector(".avatar"), by);
    if (by) element.querySelector(".author").textContent = by;
    else show(element.querySelector(".author"), "anonymous");
    element.querySelector(".text").textContent = text;
    element.querySelector("time").dateTime = at.toISOString();
    retranslate(element);
    return element;
  }

  /* Appends a line that nobody said, and returns it. */
  note(key, values) {
    const element = document.createElement("p");
    element.className = "note";
    if (key) show(element, key, values);
    else element.textContent = values;
    this.#last = { by: null, at: 0 };
    this.#append(element);
    return element;
  }

  /* Says what became of an own message: "sending", "failed", "unconfirmed", or "sent". */
  mark(element, fate, sendAgain) {
    const delivery = element.querySelector(".delivery");
    element.dataset.fate = fate;
    delivery.hidden = fate === "sent";
    if (fate !== "sent") show(delivery.querySelector(".delivery-text"), fate);
    const button = delivery.querySelector("button");
    button.hidden = !sendAgain;
    button.onclick = sendAgain;
    this.#end.keep();
  }

  #append(element) {
    this.#root.append(element);
    if (this.#root.childElementCount > MOST_MESSAGES) {
      this.#root.firstElementChild.remove();
      this.#root.firstElementChild.classList.remove("continued");
    }
    this.#end.keep();
  }

  #seen() {
    const { scrollTop, scrollHeight, clientHeight } = this.#root;
    if (this.#end.following && !document.hidden) this.#read();
    if (scrollTop < NEAR && scrollHeight > clientHeight) this.#ask();
  }

  tellUnread() {
    this.#tell(this.#unread);
  }

  #countUnread() {
    this.#unread += 1;
    this.#jump.hidden = this.#end.following;
    show(this.#jump, "newMessages", { count: this.#unread });
    this.tellUnread();
  }

  #read() {
    this.#unread = 0;
    this.#jump.hidden = true;
    this.tellUnread();
  }
}
