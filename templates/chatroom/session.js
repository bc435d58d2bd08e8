/* One stay in one room: from joining to leaving, over any number of connections. */

const ANSWER_WITHIN = 10_000; // ms

/* What the upstream example says in plain text. */
const KNOWN_LINES = { "Join successfully": "youJoined", "leave successfully": "somebodyLeft" };

class Session {
  connection;
  full = false; // whether the room had no place at the last attempt
  #channel;
  #name;
  #dialect;
  #view;
  #language; // of the server's texts
  #outgoing = new Map(); // request id -> own message that waits for its answer or its echo
  #call = null; // the last call of the panel

  /* `view` has `messages`, `people`, `panel`, `wire`, `toasts` and `limits`. */
  constructor(channel, name, room, view) {
    this.#channel = channel;
    this.#name = name;
    this.#dialect = dialectOf(channel);
    this.#view = view;
    this.connection = new Connection(() => {
      this.#language = locale.language;
      return addressOf(channel, name, room);
    });
  }

  get chatAction() {
    return this.#dialect.chatAction;
  }

  start() {
    const { messages, panel, wire } = this.#view;
    messages.clear();
    wire.clear();
    panel.offer(this.#channel.actions, (action) => this.#dialect.example(action, this.#name));
    this.#meet();
    this.connection.addEventListener("state", () => this.#connectionChanged());
    this.connection.addEventListener("frame", (event) => this.#receive(event.detail));
    this.connection.open();
  }

  end() {
    this.connection.close();
    this.#outgoing.forEach((message) => clearTimeout(message.timer));
    clearTimeout(this.#call?.timer);
    this.#view.limits.clear();
    this.#view.toasts.clear();
  }

  mayCall(action) {
    return this.connection.state === "open" && this.#view.limits.wait(action) === 0;
  }

  /* Sends a chat message; false if that is not possible now. */
  say(text) {
    if (!this.mayCall(this.chatAction)) return false;
    const id = this.#send(this.chatAction, this.#dialect.say(this.#name, text));
    const element = this.#view.messages.add(this.#name, text, { own: true });
    const timer = setTimeout(() => this.#decide(id, "unconfirmed"), ANSWER_WITHIN);
    this.#outgoing.set(id, { text, element, timer, fate: "sending" });
    this.#view.messages.mark(element, "sending");
    return true;
  }

  /* Calls an action for the panel. */
  call(action, fields) {
    if (!this.mayCall(action)) return;
    clearTimeout(this.#call?.timer);
    const id = this.#send(action, fields);
    this.#view.panel.explain("resultWaiting");
    this.#call = { id, action, timer: setTimeout(() => this.#view.panel.explain("resultNone"), ANSWER_WITHIN) };
  }

  #send(action, fields) {
    const frame = { ...fields, action, request_id: nextRequestId() };
    this.connection.send(frame);
    this.#view.wire.note("→", JSON.stringify(frame));
    return frame.request_id;
  }

  #connectionChanged() {
    const { state, reached } = this.connection;
    if (state === "connecting") this.full = false;
    if (state === "open" && reached) this.#view.messages.note("again");
    if (state === "open") this.#meet();
    else for (const id of this.#outgoing.keys()) this.#decide(id, "unconfirmed");
  }

  #receive(text) {
    this.#view.wire.note("←", text);
    const meaning = this.#channel.kind === "base_channel" ? interpretRelayed(text) : interpret(text);
    this.#reactions[meaning.kind](meaning);
  }

  #reactions = {
    text: ({ text }) => this.#view.messages.note(KNOWN_LINES[text] ?? null, text),
    message: (meaning) => this.#heard(meaning),
    joined: ({ name, members }) => {
      const joined = name ? "joined" : "somebodyJoined";
      this.#view.messages.note(name === this.#name ? "youJoined" : joined, { name });
      this.#meet(members);
    },
    left: ({ name, members }) => {
      this.#view.messages.note(name ? "left" : "somebodyLeft", { name });
      this.#meet(members);
    },
    lagged: ({ count }) => this.#view.messages.note("lagged", { count }),
    resync: () => this.#view.messages.note("resync"),
    reply: ({ id, data }) => {
      this.#decide(id, "sent");
      this.#answerCall(id, data);
    },
    error: (meaning) => this.#refused(meaning),
    other: () => {},
  };

  #heard({ by, text, id }) {
    const echo = this.#echoOf(by, text, id);
    if (echo !== undefined) {
      this.#decide(echo, "sent");
      this.#outgoing.delete(echo);
    } else {
      this.#view.messages.add(by, text);
      this.#view.people.heard(by);
    }
    this.#answerCall(id, text);
  }

  /* The request id of the own message that came back; events carry no id, so their text must do. */
  #echoOf(by, text, id) {
    if (by !== this.#name) return undefined;
    if (id !== undefined) return this.#outgoing.has(id) ? id : undefined;
    for (const [sent, message] of this.#outgoing) if (message.text === text && message.fate !== "failed") return sent;
    return undefined;
  }

  /* "sent" and "failed" come from the server and are final, "unconfirmed" may still become one of them. */
  #decide(id, fate) {
    const message = this.#outgoing.get(id);
    if (!message || message.fate === "sent" || message.fate === "failed") return;
    clearTimeout(message.timer);
    message.fate = fate;
    this.#view.messages.mark(message.element, fate, fate === "sent" ? null : () => this.#sayAgain(id));
  }

  #sayAgain(id) {
    const { text, element } = this.#outgoing.get(id);
    if (!this.say(text)) return;
    element.remove();
    this.#outgoing.delete(id);
    byId("draft").focus();
  }

  #refused(error) {
    if (error.code === "channel_full" && error.id == null) {
      this.full = true;
      this.connection.refuse();
      this.#view.people.clear();
      return;
    }
    const { toasts, limits } = this.#view;
    const action = error.action ?? (this.#outgoing.has(error.id) ? this.chatAction : this.#call?.action);
    // How long, the toast itself counts down.
    const detail = this.#language === locale.language && !error.retryAfter ? error.detail : "";
    const toast = toasts.show(error.code, detail, { lasts: error.retryAfter ? 0 : undefined });
    if (error.retryAfter) limits.add(action, error.retryAfter, toast);
    this.#decide(error.id, "failed");
    this.#answerCall(error.id, { errors: error.detail, code: error.code, data: error.data });
  }

  #answerCall(id, data) {
    if (id === undefined || id !== this.#call?.id) return;
    clearTimeout(this.#call.timer);
    this.#view.panel.answer(data);
    if (this.#call.action === "who" && Array.isArray(data)) this.#meet(data);
  }

  /* Lists the members that the room told, if it did. */
  #meet(names) {
    this.#view.people.meet(this.#name, names ?? [], Boolean(names) || this.#channel.kind === "room");
  }
}
