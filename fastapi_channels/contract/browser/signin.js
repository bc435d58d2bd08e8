/* How one signs in: a field for each way that the document names. What is typed is not stored. */

import { make, say } from "./basics.js";
import { editorFor } from "./composites.js";

const PROTOCOL = "sec-websocket-protocol";
const WORDS = { basic: "Basic ", bearer: "Bearer " };

export class SignIn {
  #ways;

  /* `security` has the schemes of the document by name. */
  constructor(channel, security) {
    const named = channel.security.map((name) => wayOf(name, security[name]));
    this.#ways = [...named, ...(channel.authentication?.firstFrame ? [{ where: "first", name: "token" }] : [])];
    for (const way of this.#ways) {
      const schema = { type: "string", format: "password" };
      way.editor = editorFor(schema, { name: way.name, required: false, schemas: {}, level: 1, hint: `signIn_${way.where}` });
    }
    this.elements = this.#ways.length
      ? [make("fieldset", {}, say("legend", "signIn"), make("div", { className: "parts" }, ...this.#ways.map(({ editor }) => editor.element)))]
      : [];
  }

  /* The names of those that are cookies. */
  get cookies() { return this.#ways.filter(({ where }) => where === "cookie").map(({ name }) => name); }

  /* Takes away what was typed for a cookie. */
  forget(cookie) {
    for (const { where, name, editor } of this.#ways) if (where === "cookie" && name === cookie) editor.write("");
  }

  /* What was typed: `query`, `cookies` and `headers` by their names, `protocols`, and the `token` of the first frame. */
  read() {
    const found = { query: {}, cookies: {}, headers: {}, protocols: [], token: "" };
    for (const { where, name, word = "", editor } of this.#ways) {
      const value = editor.read()?.trim();
      if (!value) continue;
      if (where === "subprotocol") found.protocols.push(`bearer.${value}`);
      else if (where === "first") found.token = value;
      else found[{ query: "query", cookie: "cookies", header: "headers" }[where]][name] = word + value;
    }
    return found;
  }

  /* Says that a token cannot be a subprotocol. */
  refuse(key) {
    for (const { where, editor } of this.#ways) if (where === "subprotocol") editor.refuse(key);
  }
}

/* What of the handshake a scheme reads. */
function wayOf(scheme, { type, in: where, name, scheme: kind = "bearer" }) {
  if (type !== "httpApiKey") return { where: "header", name: "Authorization", word: WORDS[kind.toLowerCase()] ?? "" };
  if (name.toLowerCase() === PROTOCOL) return { where: "subprotocol", name: scheme };
  return { where, name };
}
