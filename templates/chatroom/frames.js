/* What goes over the wire: how to speak to each kind of channel, and what its frames mean. */

/* A channel with the upstream frames: the name travels with each message, also through a relay. */
const upstream = {
  chatAction: "message",
  say: (user, message) => ({ user, message }),
  example: (action, user) => ({ user, message: "Hello" }),
};

/* A channel with typed payloads, which knows the name from the address. */
const modern = {
  chatAction: "say",
  say: (name, text) => ({ text }),
  example: (action) => (action === "who" ? {} : { text: "Hello" }),
};

const dialectOf = (channel) => (channel.kind === "room" ? modern : upstream);

/* The WebSocket address of `channel` on the host that served this page. */
function addressOf(channel, name, room) {
  const { pathname } = new URL(channel.path.replace("{channel}", encodeURIComponent(room)), location.href);
  const url = new URL(pathname, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.search = new URLSearchParams({ lang: locale.language, ...(channel.kind === "room" && { name }) });
  return url.href;
}

/* Whole numbers that other clients of the same room hardly use too. */
const nextRequestId = ((last) => () => ++last)(Math.floor(Math.random() * 1e12));

/* The meaning of a frame: an object with a `kind`, and what belongs to that kind. */
function interpret(text) {
  const frame = parseObject(text);
  if (!frame) return { kind: "text", text };
  if (frame.type === "event") return interpretEvent(frame);
  if (frame.type === "lagged") return { kind: "lagged", count: frame.dropped };
  if (isError(frame)) return interpretError(frame);
  if (frame.type === "response") return { kind: "reply", id: frame.request_id, data: frame.data };
  if (frame.action === "message") {
    return { kind: "message", by: String(frame.user ?? ""), text: String(frame.message ?? ""), id: frame.request_id };
  }
  return { kind: "reply", id: frame.request_id, data: frame.message ?? frame };
}

function parseObject(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

function interpretEvent({ event, data }) {
  if (typeof data?.text === "string") return { kind: "message", by: String(data.by ?? ""), text: data.text };
  if (event === "joined" || event === "left") {
    return { kind: "presence", change: event, name: String(data?.name ?? ""), members: data?.members };
  }
  return { kind: "other" };
}

const isError = (frame) => frame.status !== undefined && frame.status !== "ok" && frame.errors !== undefined;

function interpretError(frame) {
  const code = frame.code in TEXTS.en ? frame.code : "error";
  const detail = typeof frame.errors === "string" ? frame.errors : JSON.stringify(frame.errors);
  return { kind: "error", id: frame.request_id, action: frame.action, code, detail, retryAfter: frame.retry_after, data: frame.data };
}
