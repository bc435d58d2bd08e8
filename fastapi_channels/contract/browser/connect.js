/* The form that opens a connection: where to, and what the handshake brings. */

import { make, newId, say, store } from "./basics.js";
import { editorFor } from "./composites.js";

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
    const { handshake, parameters, patterns } = this.channel;
    this.parameters = parameters.map((name) => this.#text(name, { hint: patterns.join(" "), required: true }));
    this.query = this.#object(handshake.query);
    this.cookies = this.#object(handshake.cookies);
    this.secrets = this.channel.security.map((name) => ({ name, scheme: this.contract.security[name] })).filter(({ scheme }) => ["query", "cookie"].includes(scheme.in));
    this.secretEditors = this.secrets.map(({ scheme }) => this.#text(scheme.name, { required: false, secret: true }));
    this.protocols = this.#text("Sec-WebSocket-Protocol", { required: false });
    this.rest.replaceChildren(
      ...this.parameters.map((editor) => editor.element),
      ...part("in_query", this.query),
      ...part("in_cookies", this.cookies),
      ...this.secretEditors.map((editor) => editor.element),
      this.#subprotocols(),
      ...this.#headers(),
    );
    for (const editor of this.parameters) editor.write(store.get(`room ${this.channel.id}`) ?? "lobby");
  }

  focus() {
    (this.rest.querySelector("input, select, textarea") ?? this.channelSelect).focus();
  }

  #text(name, { hint = "", required, secret = false }) {
    const schema = { type: "string", maxLength: 100, description: hint, ...(secret && { format: "password", maxLength: undefined }) };
    return editorFor(schema, { name, required, schemas: {}, level: 1 });
  }

  #object(schema) {
    return schema && editorFor(schema, { name: "", required: true, schemas: this.contract.schemas, level: 0 });
  }

  #subprotocols() {
    const { headers } = this.channel.handshake;
    const details = make("details", { open: /"sec-websocket-protocol"/i.test(JSON.stringify(headers ?? "")) || this.#needsBearer() });
    details.append(say("summary", "subprotocols"), say("p", "subprotocolsHint", {}, { className: "muted" }), this.protocols.element);
    return details;
  }

  #needsBearer() {
    return this.channel.security.some((name) => this.contract.security[name].type !== "httpApiKey");
  }

  /* A browser sends no header of a page's choice with a handshake: say so where one is asked for. */
  #headers() {
    const names = Object.keys(this.channel.handshake.headers?.properties ?? {}).filter((name) => name.toLowerCase() !== "sec-websocket-protocol");
    const secret = this.channel.security.filter((name) => !["query", "cookie"].includes(this.contract.security[name].in));
    const all = [...names, ...secret];
    return all.length ? [say("p", "headersHint", { names: all.join(", ") }, { className: "note" })] : [];
  }

  /* The target, or null after telling what is wrong. */
  #read() {
    let isWrong = false;
    const fault = (editor, key) => { isWrong = true; editor.refuse(key); };
    const values = this.parameters.map((editor) => editor.read() ?? "");
    values.forEach((value, index) => value || fault(this.parameters[index], "needed"));
    const query = { ...this.query?.read(fault), ...this.#secret("query") };
    const cookies = { ...this.cookies?.read(fault), ...this.#secret("cookie") };
    const protocols = (this.protocols.read() ?? "").split(",").map((each) => each.trim()).filter(Boolean);
    if (!protocols.every((each) => TOKEN.test(each))) fault(this.protocols, "notProtocol");
    if (isWrong) return null;
    if (values.length) store.set(`room ${this.channel.id}`, values[0]);
    const path = this.channel.parameters.reduce((address, name, index) => address.replace(`{${name}}`, encodeURIComponent(values[index])), this.channel.address);
    const search = parametersOf(query).toString();
    return {
      url: `${this.serverSelect.value}${path}${search && `?${search}`}`,
      path,
      protocols: [...new Set(protocols)],
      cookie: bake(cookies),
    };
  }

  #secret(where) {
    const given = this.secrets.map(({ scheme }, index) => [scheme, this.secretEditors[index].read()]);
    return Object.fromEntries(given.filter(([scheme, value]) => scheme.in === where && value).map(([scheme, value]) => [scheme.name, value]));
  }
}

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
    for (const each of [value].flat()) made.append(name, typeof each === "object" ? JSON.stringify(each) : String(each));
  }
  return made;
}

/* Sets cookies, of this site and until the browser is closed; what they are together. */
function bake(cookies) {
  const pairs = Object.entries(cookies).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  for (const pair of pairs) document.cookie = `${pair}; path=/; SameSite=Strict`;
  return pairs.join("; ");
}
