/* A connection and a frame as a program: TypeScript, Python, or a line for wscat. */

import { isExact, parse } from "./exact.js";

const js = (value) => JSON.stringify(value).replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029");
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const indented = (text, by) => text.replaceAll("\n", `\n${by}`);

/* `value`, read from JSON, as an expression of Python. */
function python(value, by = "") {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object" || isExact(value)) return js(value);
  const inner = `${by}    `;
  const isList = Array.isArray(value);
  const parts = isList ? value.map((each) => python(each, inner)) : Object.entries(value).map(([name, each]) => `${js(name)}: ${python(each, inner)}`);
  if (parts.length === 0) return isList ? "[]" : "{}";
  const [open, close] = isList ? "[]" : "{}";
  return `${open}\n${parts.map((part) => `${inner}${part},\n`).join("")}${by}${close}`;
}

/* A frame as it was written: its `value`, where that `isJSON`. */
function read(text) {
  try {
    return { text, isJSON: true, value: parse(text) };
  } catch {
    return { text, isJSON: false, value: null };
  }
}

/* The text that is sent: JSON without the spaces of a form. */
const sentAs = ({ text, isJSON, value }) => (isJSON ? JSON.stringify(value) : text);

/* JSON is JavaScript, but for two separators of lines, and for numbers that it would round. */
function stringified(frame) {
  const { text: source, isJSON, value } = frame;
  if (!isJSON || JSON.stringify(value) !== JSON.stringify(JSON.parse(source))) return js(sentAs(frame));
  const text = JSON.stringify(value, null, 2).replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029");
  return `JSON.stringify(${indented(text, "  ")})`;
}

/* The headers of a handshake: a program can send what a page cannot. */
function headersOf({ cookie, headers = {} }) {
  return { ...(cookie && { Cookie: cookie }), ...headers };
}

/* The frames that go before `frame`: one that signs in, and one that joins the room which it names. */
function firstOf({ token, names }, { value }) {
  const { [names.action]: action, [names.channel]: room } = Object(value);
  return [
    ...(token ? [{ [names.type]: "auth", token }] : []),
    ...(names.many_rooms && action !== undefined && room !== undefined ? [{ [names.type]: "join", [names.channel]: room }] : []),
  ];
}

const LANGUAGES = {
  typescript(target, frame) {
    const { url, protocols } = target;
    const offered = protocols.length ? `, ${js(protocols)}` : "";
    const first = firstOf(target, frame);
    return `const socket = new WebSocket(${js(url)}${offered});

socket.addEventListener("open", () => {
${first.map((each) => `  socket.send(JSON.stringify(${js(each)}));\n`).join("")}  socket.send(${stringified(frame)});
});
socket.addEventListener("message", ({ data }: MessageEvent<string>) => {
  console.log(JSON.parse(data));
});
`;
  },

  python(target, frame) {
    const { url, protocols } = target;
    const headers = headersOf(target);
    const more = (protocols.length ? `, subprotocols=${indented(python(protocols), "    ")}` : "") +
      (Object.keys(headers).length ? `, additional_headers=${indented(python(headers), "    ")}` : "");
    const sent = frame.isJSON ? `json.dumps(${python(frame.value, "        ")})` : js(frame.text);
    const first = firstOf(target, frame);
    return `import asyncio
import json

from websockets.asyncio.client import connect


async def main() -> None:
    async with connect(${js(url)}${more}) as socket:
${first.map((each) => `        await socket.send(json.dumps(${python(each, "        ")}))\n`).join("")}        await socket.send(${sent})
        async for frame in socket:
            print(json.loads(frame))


asyncio.run(main())
`;
  },

  wscat(target, frame) {
    const { url, protocols } = target;
    const offered = protocols.map((each) => ` -s ${shell(each)}`).join("");
    const headers = Object.entries(headersOf(target)).map(([name, each]) => ` -H ${shell(`${name}: ${each}`)}`).join("");
    const first = firstOf(target, frame);
    const [begin, ...typed] = [...first.map((each) => JSON.stringify(each)), sentAs(frame)];
    // It sends one frame by itself: the others are typed.
    const begun = `wscat -c ${shell(url)}${offered}${headers}`;
    return typed.length
      ? `${begun} -w 60 -x ${shell(begin)}\n${typed.map((each) => `# ${each.replace(/\r\n?|\n/g, "\n# ")}\n`).join("")}`
      : `${begun} -w 10 -x ${shell(begin)}\n`;
  },
};

/* A program in `language` that connects to `target` and sends `text`. */
export const snippet = (language, target, text) => LANGUAGES[language](target, read(text));
