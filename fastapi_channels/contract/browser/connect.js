/* The form that opens a connection: where to, and what the handshake brings. */

import { make, newId, say, store } from "./basics.js";
import { editorFor, readWhole } from "./composites.js";
import { bake, end, isThere } from "./cookies.js";
import { parse, written } from "./exact.js";
import { kindOf, masked, resolve } from "./schema.js";
import { SignIn } from "./signin.js";
import { OURS } from "./socket.js";

/* The application's own address, behind whatever prefix it has: the document's addresses begin there. */
function here() {
  const root = new URL(document.documentElement.dataset.root, location.href);
  root.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  return `${root.protocol}//${root.host}${root.pathname.replace(/\/$/, "")}`;
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/; // RFC 9110 section 5.6.2

export class ConnectForm {
  /* `form` is empty; `opened` gets the channel and the target. */
  constructor(form, contract, opened) {
    this.form = form;
    this.contract = contract;
    this.channelSelect = select(contract.channels.map((channel) => [channel.id, `${channel.title}  ${channel.address}`]));
    this.serverSelect = select([[here(), here()], ...Object.values(contract.servers).map((server) => {
      const url = `${server.protocol}://${server.host}${server.pathname ?? ""}`;
      return [url, url];
    })]);
    this.rest = make("div", { className: "parts" });
    const server = labelled("server", this.serverSelect);
    server.hidden = this.serverSelect.options.length === 1;
    form.append(labelled("channel", this.channelSelect), server, this.rest,
      say("button", "connect", {}, { type: "submit", className: "primary" }));
    this.channelSelect.addEventListener("change", () => this.choose(this.channelSelect.value));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const target = this.#read();
      if (target) opened(this.channel, target);
    });
  }

  /* Asks for what the channel `id` needs. */
  choose(id) {
    this.channel = this.contract.channels.find((channel) => channel.id === id) ?? this.contract.channels[0];
    this.channelSelect.value = this.channel.id;
    const { handshake, parameters } = this.channel;
    this.parameters = parameters.map((name) => this.#place(name));
    this.query = this.#object(handshake.query);
    this.cookies = this.#object(withoutDefaults(handshake.cookies));
    this.signIn = new SignIn(this.channel, this.contract.security);
    this.protocols = this.#text("Sec-WebSocket-Protocol", { required: false });
    this.kept = make("div", { className: "parts" });
    this.ours = make("input", { type: "checkbox", id: newId(), checked: this.channel.json });
    this.rest.replaceChildren(
      ...this.parameters.map((editor) => editor.element),
      ...part("in_query", this.query),
      ...part("in_cookies", this.cookies),
      ...this.signIn.elements,
      this.kept,
      ...(this.#welcomes() ? [this.#oursField()] : []),
      this.#subprotocols(),
      ...this.#headers(),
    );
    this.#showKept();
    const last = this.#lastRooms();
    parameters.forEach((name, index) => {
      const value = last[name] ?? this.#example(name);
      if (value !== undefined) this.parameters[index].write(value);
    });
  }

  focus() {
    (this.rest.querySelector("input, select, textarea") ?? this.channelSelect).focus();
  }

  /* A button for each cookie that goes with every connection. */
  #showKept() {
    const asked = [...Object.keys(this.channel.handshake.cookies?.properties ?? {}), ...this.signIn.cookies];
    this.kept.replaceChildren(...[...new Set(asked)].filter(isThere).map((name) => {
      const button = say("button", "endCookie", { name }, { type: "button", className: "quiet small" });
      button.addEventListener("click", () => {
        end(name);
        this.cookies?.fields.get(name)?.write(undefined);
        this.signIn.forget(name);
        this.#showKept();
      });
      return button;
    }));
  }

  #lastRooms() {
    try {
      return Object(parse(store.get(placeOf(this.channel))));
    } catch {
      return {};
    }
  }

  #example(name) {
    return this.channel.places[name].examples?.[0] ?? (name === "channel" ? "lobby" : undefined);
  }

  /* What stands in the path; a text has one line there. */
  #place(name) {
    const { schemas } = this.contract;
    const place = resolve(this.channel.places[name], schemas);
    if (kindOf(place) === "string" && !place.format) return this.#text(name, { hint: place.description, required: true });
    return editorFor(place, { name, required: true, schemas, level: 1 });
  }

  #text(name, { hint = "", required }) {
    return editorFor({ type: "string", format: "name", description: hint }, { name, required, schemas: {}, level: 1 });
  }

  #object(schema) {
    return schema && editorFor(schema, { name: "", required: true, schemas: this.contract.schemas, level: 0 });
  }

  /* A channel that only relays knows no protocol. */
  #welcomes() {
    return this.channel.operations.some(({ kind, sent, name }) => kind === "control" && !sent && name === "welcome");
  }

  #oursField() {
    const label = make("label", { htmlFor: this.ours.id }, say("span", "offerOurs"), " ", make("code", { textContent: OURS }));
    const about = say("p", "offerOursHint", {}, { id: newId(), className: "row-about" });
    this.ours.setAttribute("aria-describedby", about.id);
    return make("div", { className: "field" }, make("div", { className: "check" }, this.ours, label), about);
  }

  #subprotocols() {
    const { headers } = this.channel.handshake;
    const details = make("details", { open: /"sec-websocket-protocol"/i.test(JSON.stringify(headers ?? "")) });
    details.append(say("summary", "subprotocols"), say("p", "subprotocolsHint", {}, { className: "muted" }), this.protocols.element);
    return details;
  }

  /* A browser sends no header of a page's choice with a handshake: say so where one is asked for. */
  #headers() {
    const names = Object.keys(this.channel.handshake.headers?.properties ?? {}).filter((name) => name.toLowerCase() !== "sec-websocket-protocol");
    return names.length ? [say("p", "headersHint", { names: names.join(", ") }, { className: "note" })] : [];
  }

  /* The target, or null after telling what is wrong. */
  #read() {
    let isWrong = false;
    const fault = (editor, key) => { isWrong = true; editor.refuse(key); };
    const values = this.parameters.map((editor) => readWhole(editor, fault));
    // Only a path of several parts is written with what parts them.
    values.forEach((value, index) => {
      if (written(value).includes("/") && !this.#mayHaveParts(index)) fault(this.parameters[index], "noSlash");
    });
    const brought = this.signIn.read();
    const query = { ...this.query?.read(fault), ...brought.query };
    const cookies = { ...typedIn(this.cookies?.read(fault)), ...brought.cookies };
    const typed = (this.protocols.read() ?? "").split(",").map((each) => each.trim()).filter(Boolean);
    if (!typed.every(isToken)) fault(this.protocols, "notProtocol");
    if (!brought.protocols.every(isToken)) fault(this.signIn, "notProtocol");
    if (isWrong) return null;
    const cookie = bake(cookies);
    this.#showKept();
    const { parameters, address, places } = this.channel;
    const filled = (parts) => parameters.reduce((made, name, index) => made.replace(`{${name}}`, () => parts[index]), address);
    const shown = values.map((value, index) => masked(value, places[parameters[index]], this.contract.schemas));
    const search = parametersOf(query).toString();
    return {
      url: `${this.serverSelect.value}${filled(values.map((value) => encodeURIComponent(written(value))))}${search && `?${search}`}`,
      path: filled(shown.map(written)),
      kept: Object.fromEntries(parameters.map((name, index) => [name, values[index]]).filter(([, value], index) => value === shown[index])),
      protocols: this.#offered(typed, brought.protocols),
      cookie,
      headers: brought.headers,
      token: brought.token,
      names: this.channel.envelope,
    };
  }

  #mayHaveParts(index) {
    return this.channel.places[this.channel.parameters[index]].format === "path";
  }

  /* A token is never what a server chooses: something is offered beside it. */
  #offered(typed, tokens) {
    const names = [...(this.#welcomes() && this.ours.checked ? [OURS] : []), ...typed];
    return [...new Set([...(tokens.length && !names.length ? ["app"] : names), ...tokens])];
  }
}

/* Keeps what stood in the path, but for secrets, for the next time: it was one that the server takes. */
export function remember(channel, { kept }) {
  if (Object.keys(kept).length) store.set(placeOf(channel), JSON.stringify(kept));
}

const placeOf = ({ id }) => `room ${id}`;

/* Cookies are asked for without what the server has in their place: the visitor's own are not to be overwritten. */
function withoutDefaults(schema) {
  const bare = ([name, { default: _, ...said }]) => [name, said];
  return schema && { ...schema, properties: Object.fromEntries(Object.entries(schema.properties ?? {}).map(bare)) };
}

/* What is not left open. */
const typedIn = (fields = {}) => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== ""));

const isToken = (text) => TOKEN.test(text);

function select(options) {
  return make("select", { id: newId() }, ...options.map(([value, text]) => new Option(text, value)));
}

function labelled(key, control) {
  return make("div", { className: "field" }, say("label", key, {}, { htmlFor: control.id }), control);
}

function part(key, editor) {
  return editor ? [make("fieldset", {}, say("legend", key), editor.element)] : [];
}

/* A list is a parameter that comes several times. */
function parametersOf(values) {
  const made = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const each of [value].flat()) made.append(name, written(each));
  }
  return made;
}
