/* Where one is, as the page's address says it: "#tea" is a room whose name one chose, "#/group" another channel.
   So a reload stays, the browser's back button leaves, and a link invites. */

/* Channels whose room one chooses come first. */
const CHANNELS = JSON.parse(byId("channels").textContent).sort((a, b) => (b.kind === "room") - (a.kind === "room"));
const ROOM_NAME = /^[\p{L}\p{N}][\p{L}\p{N} ._-]{0,63}$/u;

/* The path of `channel` without scheme and host. */
const pathOf = (channel) => channel.path.replace(/^\w+:\/\/[^/]+/, "");

const hashOf = ({ channel, room }) => `#${channel.kind === "room" ? encodeURIComponent(room) : pathOf(channel)}`;

/* The channel and the room in the address of now; null if it names none. */
function currentPlace() {
  const text = decodeHash(location.hash.slice(1));
  const channel = CHANNELS.find((one) => (one.kind === "room" ? ROOM_NAME.test(text) : pathOf(one) === text));
  return channel ? { channel, room: channel.kind === "room" ? text : "" } : null;
}

function decodeHash(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return ""; // an address that somebody has cut
  }
}

/* Puts `place` into the address, or takes what is there out of it. */
function goTo(place) {
  const hash = place ? hashOf(place) : "";
  if (location.hash !== hash) history.pushState(null, "", hash || location.pathname + location.search);
}
