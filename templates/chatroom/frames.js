/* What goes over the wire: how to speak to each kind of channel, and what its frames mean. */

/* A channel with the upstream frames: the name travels with each message, also through a relay. */
const upstream = {
  chatAction: "message",
  say: (user, message) => ({ user, message }),
  example: (action, user) => ({ user, message: translate("example") }),
};

const EXAMPLES = { who: {}, history: { limit: 10 }, status: { status: "typing" } };

/* A channel with typed payloads, which knows the name from the address. */
const modern = {
  chatAction: "say",
  say: (name, text) => ({ text }),
  example: (action) => EXAMPLES[action] ?? { text: translate("example") },
};

const dialectOf = (channel) => (channel.kind === "room" ? modern : upstream);

/* What the address of `channel` says beside its path. */
const queryOf = (channel, name) => ({ lang: locale.language, ...(channel.kind === "room" && { name }) });

/* The meaning of a frame that is not of the protocol: an object with a `kind`, and what belongs to that kind. */
function interpret(frame) {
  if (frame.relayed !== undefined) return interpretRelayed(frame.relayed);
  if (frame.text !== undefined) return { kind: "text", text: frame.text };
  if (frame.type === "response") return { kind: "error", id: frame.request_id, error: new ActionError(frame) };
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
