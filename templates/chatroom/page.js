/* The page: the lobby, the room, and the two switches. */

/* Titles of the channels that the example has; another channel is titled by its class. */
const KINDS = { chatroom_ws_group: "Group", chatroom_ws_person: "Person", chatroom_ws_base: "Base" };
const STATES = { connecting: "stateConnecting", open: "stateOpen", waiting: "stateWaiting", closed: "stateClosed" };
const CLOSINGS = { 1000: "closedNormal", 1008: "closedPolicy", 1009: "closedTooBig" };

class People {
  #list = byId("people");
  #own = "";
  #complete = false;
  #windows = new Map(); // by name

  /* Lists `own` and others, each with the windows that it is in; `complete` says whether the room told them. */
  meet(own, windows, complete) {
    this.#own = own;
    this.#complete = complete;
    this.#windows = new Map([[own, 1], ...windows]);
    byId("people-hint").hidden = complete;
    this.#render();
  }

  /* Lists nobody: the room was not entered. */
  clear() {
    this.#windows = new Map();
    byId("people-hint").hidden = true;
    this.#render();
  }

  /* Adds who has said something. */
  heard(name) {
    if (!name || this.#complete || this.#windows.has(name)) return;
    this.#windows.set(name, 1);
    this.#render();
  }

  #render() {
    byId("people-count").textContent = this.#windows.size;
    byId("room").dataset.alone = this.#windows.size === 1 && this.#windows.get(this.#own) === 1;
    this.#list.replaceChildren(...[...this.#windows.keys()].map((name) => this.#item(name)));
  }

  #item(name) {
    const item = document.createElement("li");
    const [avatar, label] = [document.createElement("span"), document.createElement("span")];
    avatar.className = "avatar";
    avatar.setAttribute("aria-hidden", "true");
    paintAvatar(avatar, name);
    const count = this.#windows.get(name);
    if (name === this.#own) show(label, count > 1 ? "youInSeveral" : "you", { name, count });
    else label.textContent = name;
    item.append(avatar, label);
    return item;
  }
}

const limits = new Limits();
const toasts = new Toasts(byId("toasts"));
const messages = new MessageList(byId("log"), byId("jump"), showTitle, () => session?.earlier());
const wire = new Wire();
const panel = new ActionPanel((action, fields) => session?.call(action, fields));
const people = new People();
let session = null;

/* ---- the lobby */

function describe(channel) {
  if (channel.kind === "room") return "Room";
  return KINDS[channel.name] ?? null;
}

function titleOf(element, channel) {
  const kind = describe(channel);
  if (kind) show(element, `kind${kind}`);
  else element.textContent = channel.title;
}

function choiceFor(channel, index) {
  const choice = byId("choice-template").content.firstElementChild.cloneNode(true);
  choice.querySelector("input").value = index;
  titleOf(choice.querySelector("b"), channel);
  show(choice.querySelector(".muted"), `about${describe(channel) ?? "Channel"}`);
  choice.querySelector("code").textContent = pathOf(channel);
  return choice;
}

const chosen = () => CHANNELS[Number(new FormData(byId("lobby")).get("choice"))];

function showRoomField() {
  complain(byId("room-name"), "");
  byId("room-field").hidden = chosen()?.kind !== "room";
}

function openLobby() {
  byId("lobby").hidden = false;
  byId("room").hidden = true;
  showTitle(0);
  byId("name").focus();
}

/* Chooses in the lobby what the address names. */
function choose({ channel, room }) {
  byId("choices").querySelector(`[value="${CHANNELS.indexOf(channel)}"]`).checked = true;
  if (room) byId("room-name").value = room;
  showRoomField();
}

/* Goes where the address says: straight on whoever was in a room in this tab. */
function follow() {
  const [place, name] = [currentPlace(), tab.get("name")];
  if (session) endSession();
  if (place) choose(place);
  if (place && name) join({ ...place, name });
  else openLobby();
}

/* The chosen channel, name and room; null after telling what is wrong with them. */
function readLobby() {
  const [name, room] = [byId("name").value.trim(), byId("room-name").value.trim()];
  const channel = chosen();
  const wrongRoom = channel.kind === "room" && !ROOM_NAME.test(room);
  complain(byId("room-name"), wrongRoom ? "roomNameWrong" : "");
  complain(byId("name"), name ? "" : "nameMissing");
  return name && !wrongRoom ? { channel, name, room } : null;
}

function join({ channel, name, room }) {
  store.set("name", name);
  store.set("choice", channel.name);
  if (channel.kind === "room") store.set("room", room);
  tab.set("name", name);
  goTo({ channel, room });
  byId("lobby").hidden = true;
  byId("room").hidden = false;
  nameRoom(channel, room);
  session = new Session(channel, name, { messages, people, panel, wire, toasts, limits });
  session.start(room, showConnection);
  byId("draft").focus();
}

function nameRoom(channel, room) {
  const title = byId("room-title");
  delete title.dataset.text;
  if (channel.kind === "room") title.textContent = room;
  else titleOf(title, channel);
  byId("room-path").textContent = pathOf(channel).replace("{channel}", room);
  byId("link").textContent = location.href;
  show(byId("copy"), "copyLink");
}

/* Says in the tab where one is, and how much is unread. */
function showTitle(unread) {
  const room = byId("room").hidden ? translate("title") : byId("room-title").textContent;
  document.title = `${unread ? `(${unread}) ` : ""}${room} · FastAPI Channels`;
}

function leave() {
  endSession();
  tab.set("name", "");
  goTo(null);
  openLobby();
}

function endSession() {
  session.end();
  session = null;
  toggleSide(false);
}

/* Copies the address; without a clipboard (a page without TLS) it is selected, to be copied by hand. */
async function copyLink() {
  try {
    await navigator.clipboard.writeText(location.href);
    show(byId("copy"), "copied");
  } catch {
    getSelection().selectAllChildren(byId("link"));
  }
}

/* ---- the connection */

/* Attempts to come back count as being away, or the state would flicker with each. */
function stateToShow({ room, away }) {
  if (room.state === "joined") return "open";
  if (room.state !== "joining") return "closed";
  return away ? "waiting" : "connecting";
}

function showConnection() {
  const state = stateToShow(session);
  byId("state").dataset.state = state;
  byId("room").dataset.state = state;
  show(byId("state-text"), STATES[state]);
  byId("banner").hidden = state === "open" || state === "connecting";
  byId("banner").dataset.state = state;
  if (state === "waiting") show(byId("banner-text"), session.reached ? "lost" : "unreachable");
  if (state === "closed" && session.full) show(byId("banner-text"), "full");
  else if (state === "closed") show(byId("banner-text"), "closedBecause", closing(session.room.refusal));
  showWaits();
}

function closing({ closeCode, reason }) {
  return { text: translate(CLOSINGS[closeCode] ?? "closedOther"), detail: `${closeCode} ${reason}`.trim() };
}

/* When the next attempt is, and what may not be done until when. */
function showWaits() {
  if (!session) return;
  const { line, until } = session.room;
  const left = (until - Date.now()) / 1000;
  byId("banner-wait").textContent = line === "waiting" && left > 0 ? translate("inWait", { wait: formatWait(left) }) : "";
  enable(byId("send"), session.mayCall(session.chatAction));
  enable(byId("call-button"), session.mayCall(panel.action));
}

/* ---- the composer and the side */

function sendDraft() {
  const draft = byId("draft");
  if (draft.value.trim() && session.say(draft.value.trim())) draft.value = "";
  draft.focus();
}

/* Enter that ends the composition of a Chinese word must not send. */
const sends = (event) => event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;

function toggleSide(open) {
  byId("side").classList.toggle("open", open);
  byId("chat").inert = open; // it is covered
  if (open) byId("side").append(byId("toasts"));
  else byId("banner").before(byId("toasts"));
  byId("side-toggle").setAttribute("aria-expanded", String(open));
}

/* ---- language and theme */

function setLanguage(language) {
  locale.language = language;
  document.documentElement.lang = locale.tag;
  byId("language").lang = language === "zh" ? "en" : "zh-CN";
  retranslate();
  messages.tellUnread();
  if (session) showConnection();
}

function switchTheme() {
  const root = document.documentElement;
  const current = root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  root.dataset.theme = current === "dark" ? "light" : "dark";
  store.set("theme", root.dataset.theme);
}

/* ---- wiring */

byId("choices").append(...CHANNELS.map(choiceFor));
const remembered = CHANNELS.findIndex((channel) => channel.name === store.get("choice"));
byId("choices").querySelector(`[value="${Math.max(0, remembered)}"]`).checked = true;
byId("name").value = store.get("name") ?? "";
byId("room-name").value = store.get("room") ?? "lobby";
byId("choices").addEventListener("change", showRoomField);
byId("lobby").addEventListener("submit", (event) => {
  event.preventDefault();
  const answers = readLobby();
  if (answers) join(answers);
});

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  sendDraft();
});
byId("draft").addEventListener("keydown", (event) => {
  if (!sends(event)) return;
  event.preventDefault();
  sendDraft();
});
byId("draft").addEventListener("input", () => session?.typing());
byId("leave").addEventListener("click", leave);
byId("copy").addEventListener("click", copyLink);
byId("retry").addEventListener("click", () => session.retry());
byId("action").addEventListener("change", showWaits);
byId("other").addEventListener("input", showWaits);
byId("side-toggle").addEventListener("click", () => {
  toggleSide(true);
  byId("side-close").focus();
});
byId("side-close").addEventListener("click", () => {
  toggleSide(false);
  byId("side-toggle").focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && byId("chat").inert) byId("side-close").click();
});
matchMedia("(max-width: 900px)").addEventListener("change", () => toggleSide(false));
limits.addEventListener("change", showWaits);
setInterval(showWaits, 500);

byId("language").addEventListener("click", () => {
  setLanguage(locale.language === "zh" ? "en" : "zh");
  store.set("language", locale.language);
});
byId("theme").addEventListener("click", switchTheme);

addEventListener("hashchange", follow);

setLanguage(locale.language);
showRoomField();
follow();
