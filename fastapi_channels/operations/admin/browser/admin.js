/* The page for operators: which view is shown, and when it is asked for anew. */

import { byId, make, retranslate, show } from "./basics.js";
import { Refused } from "./api.js";
import { Bans } from "./bans.js";
import { parse } from "./exact.js";
import { Rooms } from "./listing.js";
import { Overview } from "./overview.js";
import { User, Users } from "./people.js";
import { Filter, Room } from "./room.js";
import { wireSwitches } from "./switches.js";

const SETTINGS = parse(byId("admin").textContent);
const PAUSE = 5000; // ms until what did not answer is asked again

const VIEWS = {
  overview: [Overview, "overview"],
  rooms: [Rooms, "rooms"],
  room: [Room, "rooms"],
  filter: [Filter, "rooms"],
  users: [Users, "users"],
  user: [User, "users"],
  bans: [Bans, "bans"],
};

let view = null;
let opened = ""; // the address that led to it
let timer = 0;
let asking = 0; // how often something was asked: of what was asked before, nothing is told

/* What the address leads to; the overview, where that is nothing. */
function parts() {
  try {
    return location.hash.slice(1).split("/").map(decodeURIComponent);
  } catch {
    return [];
  }
}

function open() {
  const [name, ...given] = parts();
  const found = Object.hasOwn(VIEWS, name ?? "") && VIEWS[name][0].length - 1 <= given.length ? name : "overview";
  const [View, tab] = VIEWS[found];
  view?.leave?.();
  opened = location.hash;
  tellState(null);
  view = viewOf(View, given);
  byId("view").replaceChildren(view.element);
  retranslate(view.element);
  for (const link of byId("tabs").children) {
    if (link.hash === `#${tab}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  view.focus?.();
  refreshNow();
}

/* What shows it; why it cannot be shown, where it fails: never what was shown before. */
function viewOf(View, given) {
  try {
    return new View({ ...SETTINGS, refreshNow }, ...given);
  } catch (error) {
    const element = make("p", { className: "note" });
    if (error instanceof Refused) show(element, "noPath", { path: error.detail });
    else {
      show(element, "notShown", { detail: error.message });
      reportError(error);
    }
    return { element, every: 0, refresh: async () => undefined };
  }
}

async function refreshNow() {
  clearTimeout(timer);
  asking += 1;
  const [mine, shown] = [asking, view];
  let pause = shown.every;
  if (!document.hidden) {
    try {
      await shown.refresh();
      if (mine === asking) tellState(null);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (mine !== asking) return;
      tellState(error);
      pause = error.isOut ? 0 : Math.max(pause, PAUSE);
    }
  }
  retranslate(shown.element);
  if (shown === view) document.documentElement.dataset.ready = opened;
  if (mine === asking && pause) timer = setTimeout(refreshNow, pause);
}

function tellState(error) {
  byId("banner").hidden = error === null;
  if (error === null) return;
  if (error.isOut) show(byId("banner"), "notLetIn");
  else show(byId("banner"), error.status ? "failed" : "noAnswer", { status: error.status, detail: error.detail });
}

addEventListener("hashchange", open);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refreshNow(); });
wireSwitches(() => { if (view) refreshNow(); });
open();
