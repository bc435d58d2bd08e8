/* The page: the console beside the document, the two switches, and what the keys do. */

import { byId, make, show } from "./basics.js";
import { ConnectionColumn } from "./connection.js";
import { expandAll, followOpened, openLinked, search, tellSunsets } from "./docs.js";
import { parse } from "./exact.js";
import { wireSwitches } from "./switches.js";

const CONTRACT = parse(byId("contract").textContent);
const MOST_CONNECTIONS = 8;
const columns = new Map(); // of each column, its tab

/* ---- the console */

function openConsole(open) {
  byId("console").hidden = !open;
  document.body.classList.toggle("with-console", open);
  byId("console-toggle").setAttribute("aria-expanded", String(open));
  if (open && columns.size === 0) addColumn();
}

function addColumn(channel) {
  if (CONTRACT.channels.length === 0 || columns.size >= MOST_CONNECTIONS) return null;
  const column = new ConnectionColumn(CONTRACT);
  const tab = make("button", { type: "button", className: "quiet small tab" }, make("span", { className: "dot", attributes: { "aria-hidden": "true" } }), make("span", { className: "tab-text" }));
  tab.addEventListener("click", () => reveal(column));
  columns.set(column, tab);
  byId("console-tabs").append(tab);
  byId("connections").append(column.element);
  column.addEventListener("change", () => {
    drawTabs();
    showWanted();
  });
  column.addEventListener("end", () => removeColumn(column));
  column.form.choose(channel ?? CONTRACT.channels[0].id);
  drawTabs();
  return column;
}

function removeColumn(column) {
  columns.get(column).remove();
  columns.delete(column);
  column.element.remove();
  drawTabs();
  if (columns.size === 0) {
    openConsole(false);
    byId("console-toggle").focus();
  } else byId("console-new").focus();
}

function drawTabs() {
  for (const [column, tab] of columns) {
    tab.dataset.state = column.state;
    tab.querySelector(".tab-text").textContent = column.title;
  }
  const live = [...columns.keys()].filter((column) => column.state === "open").length;
  byId("console-count").hidden = live === 0;
  byId("console-count").textContent = live;
  byId("console-tabs").hidden = columns.size < 2;
  byId("console").dataset.columns = Math.min(columns.size, 3);
}

function reveal(column) {
  column.element.scrollIntoView({ block: "nearest", inline: "start" });
  column.element.focus({ preventScroll: true });
}

/* Asks for a connection to a channel; a column that asks already is taken for it, unless another one refused it. */
function connect(channel) {
  openConsole(true);
  const asks = ({ state, isAsking, channel: { id } }) => state === "new" || (state === "closed" && isAsking && id === channel);
  const column = [...columns.keys()].find(asks) ?? addColumn(channel);
  if (!column) return;
  reveal(column);
  column.ask(channel);
}

/* Shows the form of an operation in the last connection to its channel, or asks for a connection. */
function tryOut(operation) {
  const channel = CONTRACT.channels.find((each) => each.operations.some(({ id }) => id === operation));
  const column = [...columns.keys()].reverse().find((each) => each.state === "open" && each.channel === channel);
  if (!column) {
    connect(channel.id);
    wanted = operation;
    return;
  }
  openConsole(true);
  reveal(column);
  column.choose(operation);
}

let wanted = null; // the operation to show when the connection that was asked for is there

function showWanted() {
  if (!wanted) return;
  const column = [...columns.keys()].find((each) => each.state === "open" && each.channel.operations.some(({ id }) => id === wanted));
  if (!column) return;
  column.choose(wanted);
  wanted = null;
}

/* ---- contents */

function openContents(open) {
  byId("nav").classList.toggle("open", open);
  byId("menu").setAttribute("aria-expanded", String(open));
}

/* ---- wiring */

byId("console-toggle").addEventListener("click", () => openConsole(byId("console").hidden));
byId("console-close").addEventListener("click", () => {
  openConsole(false);
  byId("console-toggle").focus();
});
byId("console-new").addEventListener("click", () => {
  const column = addColumn([...columns.keys()].at(-1)?.channel.id);
  if (column) reveal(column);
  column?.form.focus();
});
byId("console-wide").addEventListener("click", ({ currentTarget }) => {
  const wide = document.body.classList.toggle("console-wide");
  currentTarget.setAttribute("aria-pressed", String(wide));
});
byId("docs").addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  if (button?.dataset.connect) connect(button.dataset.connect);
  if (button?.dataset.try) tryOut(button.dataset.try);
  followOpened(target);
});
byId("expand").addEventListener("click", ({ currentTarget }) => {
  const open = currentTarget.dataset.open === undefined;
  expandAll(open);
  if (open) currentTarget.dataset.open = "";
  else delete currentTarget.dataset.open;
  show(currentTarget, open ? "collapseAll" : "expandAll");
});
byId("search").addEventListener("input", ({ currentTarget }) => search(currentTarget.value));
byId("menu").addEventListener("click", () => openContents(!byId("nav").classList.contains("open")));
byId("nav").addEventListener("click", ({ target }) => {
  if (!target.closest("a")) return;
  openContents(false);
  if (target.closest("a").hash === location.hash) openLinked();
});
document.addEventListener("keydown", (event) => {
  const isWriting = event.target.closest("input, textarea, select");
  if (event.key === "/" && !isWriting && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    byId("search").focus();
  }
  if (event.key === "Escape" && byId("nav").classList.contains("open")) {
    openContents(false);
    byId("menu").focus();
  } else if (event.key === "Escape" && event.target === byId("search")) {
    byId("search").value = "";
    search("");
  }
});
addEventListener("hashchange", openLinked);

wireSwitches(drawTabs);
for (const button of document.querySelectorAll(".needs-script")) button.hidden = CONTRACT.channels.length === 0;
tellSunsets();
openLinked();
document.documentElement.dataset.ready = "";
