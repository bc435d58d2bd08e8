/* What goes over the wire: how to speak to each kind of channel, and what its frames mean. */

/* A channel with the upstream frames: the name travels with each message, also through a relay. */
const upstream = {
  chatAction: "message",
  say: (user, message) => ({ user, message }),
  example: (action, user) => ({ user, message: translate("example") }),
};

/* A channel with typed payloads, which knows the name from the address. */
const modern = {
  chatAction: "say",
  say: (name, text) => ({ text }),
  example: (action) => (action === "who" ? {} : { text: translate("example") }),
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
  if (frame.type === "resync") return { kind: "resync" };
  if (frame.type === "response") return interpretResponse(frame);
  if (frame.action === "message") return interpretMessage(frame);
  return { kind: "reply", id: frame.request_id, data: frame.message ?? frame };
}

/* The same for what came through a relay: anybody can send anything, so nothing in it is the server's word. */
function interpretRelayed(text) {
  const frame = parseObject(text);
  return frame?.action === "message" ? interpretMessage(frame) : { kind: "message", by: "", text };
}

function parseObject(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

const interpretMessage = ({ user, message, request_id: id }) =>
  ({ kind: "message", by: String(user ?? ""), text: String(message ?? ""), id });

function interpretEvent({ event, data }) {
  if (typeof data?.text === "string") return { kind: "message", by: String(data.by ?? ""), text: data.text };
  if (event !== "joined" && event !== "left") return { kind: "other" };
  const name = data?.name ?? data?.member?.user;
  const members = data?.members?.map((member) => member?.user ?? member).filter((member) => typeof member === "string");
  return { kind: event, name, members };
}

function interpretResponse({ status, request_id: id, action, data, errors, code, retry_after: retryAfter }) {
  if (status === "ok") return { kind: "reply", id, data };
  return {
    kind: "error",
    id,
    action,
    data,
    code: Object.hasOwn(TEXTS.en, `error_${code}`) ? code : "other",
    detail: typeof errors === "string" ? errors : JSON.stringify(errors),
    retryAfter: Number.isFinite(retryAfter) ? retryAfter : 0,
  };
}
