/* A connection and a frame as a program: TypeScript, Python, or a line for wscat. */

const js = (value) => JSON.stringify(value).replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029");
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const indented = (text, by) => text.replaceAll("\n", `\n${by}`);

/* `value`, read from JSON, as an expression of Python. */
function python(value, by = "") {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return js(value);
  const inner = `${by}    `;
  const isList = Array.isArray(value);
  const parts = isList ? value.map((each) => python(each, inner)) : Object.entries(value).map(([name, each]) => `${js(name)}: ${python(each, inner)}`);
  if (parts.length === 0) return isList ? "[]" : "{}";
  const [open, close] = isList ? "[]" : "{}";
  return `${open}\n${parts.map((part) => `${inner}${part},\n`).join("")}${by}${close}`;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

const LANGUAGES = {
  typescript({ url, protocols }, frame) {
    const offered = protocols.length ? `, ${js(protocols)}` : "";
    const value = parsed(frame);
    const sent = typeof value === "string" ? js(value) : `JSON.stringify(${indented(js5(value), "  ")})`;
    return `const socket = new WebSocket(${js(url)}${offered});

socket.addEventListener("open", () => {
  socket.send(${sent});
});
socket.addEventListener("message", ({ data }: MessageEvent<string>) => {
  console.log(JSON.parse(data));
});
`;
  },

  python({ url, protocols, cookie }, frame) {
    const more = (protocols.length ? `, subprotocols=${python(protocols)}` : "") +
      (cookie ? `, additional_headers={"Cookie": ${js(cookie)}}` : "");
    const value = parsed(frame);
    const sent = typeof value === "string" ? js(value) : `json.dumps(${python(value, "        ")})`;
    return `import asyncio
import json

from websockets.asyncio.client import connect


async def main() -> None:
    async with connect(${js(url)}${more}) as socket:
        await socket.send(${sent})
        async for frame in socket:
            print(json.loads(frame))


asyncio.run(main())
`;
  },

  wscat({ url, protocols, cookie }, frame) {
    const value = parsed(frame);
    const sent = typeof value === "string" ? value : JSON.stringify(value);
    const offered = protocols.map((each) => ` -s ${shell(each)}`).join("");
    return `wscat -c ${shell(url)}${offered}${cookie ? ` -H ${shell(`Cookie: ${cookie}`)}` : ""} -w 10 -x ${shell(sent)}\n`;
  },
};

/* JSON is JavaScript, but for two separators of lines. */
const js5 = (value) => JSON.stringify(value, null, 2).replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029");

/* A program in `language` that connects to `target` and sends `frame`, a text. */
export const snippet = (language, target, frame) => LANGUAGES[language](target, frame);
