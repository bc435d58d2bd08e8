/** Server-Sent Events, as a response brings them (HTML Living Standard, section 9.2.6). */

export interface ServerEvent {
  /** `message`, where it has no name. */
  name: string;
  data: string;
  /** What a client would come back with: the newest that came, with this event or before. */
  id: string;
}

/**
 * Read a stream of events until it ends.
 *
 * @param take may say by a promise when it takes the next
 * @param heard called for whatever comes, comments too
 * @throws what ends the stream before its end
 */
export async function readEvents(
  body: ReadableStream<Uint8Array>, take: (event: ServerEvent) => void | Promise<void>, heard: () => void = () => {},
): Promise<void> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let [name, id, data] = ["", "", [] as string[]];
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    heard();
    rest += decoder.decode(part.value, { stream: true });
    // An LF may still belong to a CR at the very end.
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop()!;
    for (const line of lines) {
      const [field, value] = fieldOf(line);
      if (field === "data") data.push(value);
      else if (field === "event") name = value;
      else if (field === "id" && !value.includes("\0")) id = value;
      else if (line === "") {
        const waits = data.length > 0 ? take({ name: name || "message", data: data.join("\n"), id }) : undefined;
        [name, data] = ["", []];
        if (waits !== undefined) await waits;
      }
    }
  }
}

/** What an event carries: a text, or the bytes that are named `binary`. */
export function contentOf({ name, data }: ServerEvent): string | ArrayBuffer {
  return name === "binary" ? Uint8Array.from(atob(data), (char) => char.charCodeAt(0)).buffer : data;
}

function fieldOf(line: string): [string, string] {
  const at = line.indexOf(":");
  return at < 0 ? [line, ""] : [line.slice(0, at), line.slice(line[at + 1] === " " ? at + 2 : at + 1)];
}
