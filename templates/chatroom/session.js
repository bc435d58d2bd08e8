/* One stay in one room: from joining to leaving, over any number of connections. The client brings it back. */

const ANSWER_WITHIN = 10_000; // ms
const RETURNING = 30_000; // ms after coming back within which others may come back too: by then they are all there
const TYPING = 3_000; // ms without a key after which one is not typing any more
const EARLIER = 30; // messages that are shown at once of what was said before

const LIFE = ["ping", "pong"]; // signs of life are not shown

/* What the upstream example says in plain text. */
const KNOWN_LINES = { "Join successfully": "youJoined", "leave successfully": "somebodyLeft" };

/* A relay speaks no protocol: a browser that offers one ends a connection where none is chosen. */
class PlainWebSocket extends WebSocket {
  constructor(address) {
    super(address);
  }
}

class Session {
  room;
  full = false; // whether the room had no place at the last attempt
  away = false; // whether an attempt has failed, or the connection was lost, since it was there
  reached = false; // whether any attempt has ever succeeded
  #channel;
  #name;
  #dialect;
  #view;
  #language; // of the server's texts
  #lastId; // of the request that was sent last
  #outgoing = new Map(); // request id -> own message that waits for its answer or its echo
  #call = null; // the last call of the panel
  #entered = false; // whether it has been said that one is in the room
  #met = false; // whether the room has told who is here
  #back = -Infinity; // performance.now() of the last return
  #missing = new Map(); // who was here before the return -> the timer after which they count as gone
  #typing = { on: false, timer: 0 };
  #shown = new Set(); // positions of messages
  #older = null; // where earlier messages are, if there are any
  #loading = false;
  #ended = false;

  /* `view` has `messages`, `people`, `panel`, `wire`, `toasts` and `limits`. */
  constructor(channel, name, view) {
    this.#channel = channel;
    this.#name = name;
    this.#dialect = dialectOf(channel);
    this.#view = view;
  }

  get chatAction() {
    return this.#dialect.chatAction;
  }

  /* Joins `room`. `changed` is called when the state of the connection is another one. */
  start(room, changed) {
    const { messages, panel, wire } = this.#view;
    messages.clear();
    wire.clear();
    panel.offer(this.#channel.actions, (action) => this.#dialect.example(action, this.#name));
    this.#meet();
    const client = createClient(location.origin, {
      away: "fail",
      query: () => {
        this.#language = locale.language;
        return queryOf(this.#channel, this.#name);
      },
      codec: { encode: (frame) => this.#encode(frame), decode: (data) => this.#decode(data) },
      ...(this.#relays && { times: { silence: Infinity }, webSocket: PlainWebSocket }),
    });
    this.room = client.room(pathOf(this.#channel), { channel: room });
    const hear = (react) => (told) => this.#ended || react(told);
    this.room.onState(hear((state) => {
      this.#stateChanged(state);
      changed();
    }));
    this.room.onGap(hear((gap) => this.#missed(gap)));
    this.room.onPresence(hear((change) => this.#changed(change)));
    this.room.onFrame(hear((frame) => this.#receive(interpret(frame))));
    this.room.on("said", (data, about) => this.#ended || this.#said(data, about));
    changed();
  }

  end() {
    this.#ended = true;
    this.room.leave();
    this.#outgoing.forEach((message) => clearTimeout(message.timer));
    this.#missing.forEach(clearTimeout);
    clearTimeout(this.#call?.timer);
    clearTimeout(this.#typing.timer);
    this.#view.limits.clear();
    this.#view.toasts.clear();
    this.#nobodyTypes();
  }

  mayCall(action) {
    return this.room.state === "joined" && this.#view.limits.wait(action) === 0;
  }

  /* Sends a chat message; false if that is not possible now. */
  say(text) {
    if (!this.mayCall(this.chatAction)) return false;
    this.#enter();
    this.typing(false);
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

  /* Shows the others that one is typing, until nothing was typed for a while. */
  typing(on = true) {
    clearTimeout(this.#typing.timer);
    if (on) this.#typing.timer = setTimeout(() => this.typing(false), TYPING);
    if (on === this.#typing.on || this.room.state !== "joined" || this.room.presence.version === null) return;
    this.#typing.on = on;
    this.room.call("status", { status: on ? "typing" : "here" }).catch(() => {}); // the next key tries again
  }

  /* Shows what was said before that which is shown. */
  async earlier() {
    if (this.#older === null || this.#loading || this.#ended || !this.#view.messages.hasRoom) return;
    const { next } = await this.#load(this.#older);
    if (next !== undefined) this.#older = next;
  }

  get #relays() {
    return this.#channel.kind === "base_channel";
  }

  /* ---- what goes over the wire */

  #encode(frame) {
    const text = JSON.stringify(frame);
    this.#lastId = frame.request_id;
    if (!LIFE.includes(frame.type)) this.#view.wire.note("→", text);
    return text;
  }

  #decode(data) {
    const text = typeof data === "string" ? data : new TextDecoder().decode(data);
    const frame = parseObject(text);
    const isLife = LIFE.includes(frame?.type);
    // A relay gives back the page's own sign of life.
    if (this.#relays) return isLife ? { type: "pong" } : this.#noted(text, { relayed: text });
    return isLife ? frame : this.#noted(text, frame ?? { text });
  }

  #noted(text, frame) {
    if (!this.#ended) this.#view.wire.note("←", text);
    return frame;
  }

  /* Calls an action without a deadline, since only the modern channels answer each call. */
  #send(action, fields) {
    const called = this.room.call(action, fields, { timeout: undefined });
    const id = this.#lastId;
    called.then(
      (data) => this.#ended || this.#receive({ kind: "reply", id, data }),
      (error) => this.#ended || this.#failed(id, error),
    );
    return id;
  }

  #failed(id, error) {
    if (error instanceof ActionError) this.#refused(id, error);
    else this.#decide(id, error instanceof ConnectionLost ? "unconfirmed" : "failed");
  }

  /* ---- the connection */

  #stateChanged(state) {
    const { messages, toasts } = this.#view;
    // The page counts down to one thing at a time.
    if (this.room.line === "waiting") toasts.drop("rate_limited");
    if (state !== "joined") {
      this.away ||= this.room.line === "waiting";
      this.#typing.on = false;
      if (state === "joining" && this.room.refusal?.code === "channel_full") this.#isFull();
      return;
    }
    if (this.reached) {
      messages.note("again");
      this.#back = performance.now();
    } else this.#begin();
    this.reached = true;
    this.away = this.full = false;
    this.#meet();
  }

  /* Shows what was said before one came. */
  async #begin() {
    if (!saysMore(this.room.position)) return;
    const { next } = await this.#load();
    this.#older = next ?? null;
  }

  /* Something was missed: what the room still has of it is shown behind the note. */
  #missed({ reason, dropped }) {
    const { messages } = this.#view;
    if (reason === "away") return void messages.note("away");
    const note = reason === "lagged" ? messages.note("lagged", { count: dropped }) : messages.note("resync");
    if (reason === "epoch") this.#older = null; // what was before is nowhere any more
    if (saysMore(this.room.position)) this.#load(undefined, note);
  }

  /* Shows a page of the room's history that ends before `since`, behind an element or at the beginning. */
  async #load(since, behind) {
    this.#loading = true;
    try {
      const page = await this.room.call("history", { limit: EARLIER, ...(since && { since }) });
      const fresh = page.items.filter(({ event, position }) => event === "said" && !this.#shown.has(position));
      fresh.forEach(({ position }) => this.#shown.add(position));
      const said = fresh.reverse().map(({ data: { by, text, at } }) => ({ by, text, own: by === this.#name, at: new Date(at) }));
      if (!this.#ended) this.#view.messages.insert(said, behind);
      return page;
    } catch {
      return {}; // it was away: whoever scrolls on asks again
    } finally {
      this.#loading = false;
    }
  }

  /* Tries again, because the user wants to. */
  retry() {
    this.full = false;
    this.room.retry();
  }

  /* ---- what is told */

  #said({ by, text }, { position }) {
    this.#shown.add(position);
    this.#receive({ kind: "message", by: String(by ?? ""), text: String(text ?? "") });
  }

  #receive(meaning) {
    this.#reactions[meaning.kind](meaning);
  }

  #reactions = {
    text: ({ text }) => this.#view.messages.note(KNOWN_LINES[text] ?? null, text),
    message: (meaning) => this.#heard(meaning),
    reply: ({ id, data }) => {
      this.#decide(id, "sent");
      this.#answerCall(id, data);
    },
    error: ({ id, error }) => this.#refused(id, error),
  };

  #heard({ by, text, id }) {
    this.#enter();
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

  #refused(id, { code, message, data, retryAfter, action }) {
    if (code === "channel_full" && id == null) return this.#isFull();
    const { toasts, limits } = this.#view;
    const asked = action ?? (this.#outgoing.has(id) ? this.chatAction : this.#call?.action);
    // How long, the toast itself counts down.
    const waits = retryAfter > 0;
    const detail = this.#language === locale.language && !waits ? message : "";
    const known = Object.hasOwn(TEXTS.en, `error_${code}`) ? code : "other";
    const toast = toasts.show(known, detail, { lasts: waits ? 0 : undefined });
    if (waits) limits.add(asked, retryAfter, toast);
    this.#decide(id, "failed");
    this.#answerCall(id, { errors: message, code, data });
  }

  /* Nobody asks again by himself. */
  #isFull() {
    this.full = true;
    this.#view.people.clear();
    this.room.leave();
  }

  /* A reply of null says that the action returned nothing: in the upstream style it may have said it otherwise. */
  #answerCall(id, data) {
    if (id === undefined || id !== this.#call?.id) return;
    clearTimeout(this.#call.timer);
    if (data === null) return void (this.#call.answered || this.#view.panel.explain("resultNone"));
    this.#call.answered = true;
    this.#view.panel.answer(data);
  }

  /* ---- who is here */

  /* What is said before the room has told who is here shows as well that one is in it. */
  #enter() {
    if (!this.#entered && this.#channel.kind === "room") this.#view.messages.note("youJoined");
    this.#entered = true;
  }

  /* Lists who is known to be here; only a room of the modern style tells it. */
  #meet() {
    const { people } = this.room?.presence ?? { people: [] };
    this.#view.people.meet(this.#name, people.map(({ user, devices }) => [user ?? "", devices.length]), this.#channel.kind === "room");
    const typing = people.filter(({ user, devices }) => user !== this.#name && devices.some(({ data }) => data === "typing"));
    const names = typing.map(({ user }) => user || translate("anonymous")).join(", ");
    if (names) show(byId("typing"), typing.length > 1 ? "typingMany" : "typing", { names });
    else this.#nobodyTypes();
  }

  #nobodyTypes() {
    delete byId("typing").dataset.text;
    byId("typing").textContent = "";
  }

  #changed({ joined, left }) {
    if (this.room.state !== "joined") return;
    this.#enter();
    if (this.#met) {
      left.forEach(({ user }) => this.#hasGone(user));
      joined.forEach(({ user }) => this.#cameIn(user));
    }
    this.#met = true;
    this.#meet();
  }

  /* After one's own return, who is missing may be on the way back too. */
  #hasGone(user) {
    const wait = this.#back + RETURNING - performance.now();
    const tell = () => {
      this.#missing.delete(user);
      this.#view.messages.note(user ? "left" : "somebodyLeft", { name: user });
    };
    if (wait <= 0) tell();
    else if (user) this.#missing.set(user, setTimeout(tell, wait));
  }

  #cameIn(user) {
    clearTimeout(this.#missing.get(user));
    if (!this.#missing.delete(user)) this.#view.messages.note(user ? "joined" : "somebodyJoined", { name: user });
  }
}

/* Whether anything was said in a room's history up to a position. */
const saysMore = (position) => position !== "" && !position.endsWith(":0");
