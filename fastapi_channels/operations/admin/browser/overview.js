/* How it goes: all processes together, and each of them. */

import { make, say, show } from "./basics.js";
import { ask, pathOf } from "./api.js";
import { act, askFor, disconnect } from "./dialog.js";
import { Table, button, card } from "./table.js";
import { count, hrefOfUser, lasting, moment, rate } from "./words.js";

const KEPT = 60; // looks that a line shows
const COUNT = 5; // looks for one at the rooms, and at the slow
const [WIDTH, HEIGHT] = [120, 32]; // of a line, in its own units
const SVG = "http://www.w3.org/2000/svg";

export class Overview {
  every = 2000;
  #before = new Map(); // of each process, what it had counted
  #rooms = null;
  #slow = [];
  #looks = 0;
  #tiles = new Map();

  constructor({ readOnly }) {
    const tiles = ["connections", "rooms", "inRate", "outRate", "errorRate", "processes"].map((key) => this.#tile(key));
    this.nodes = new Table(nodeColumns(readOnly), ({ id }) => id, { empty: "nobodyAnswers", label: "processes" });
    this.errors = new Table([
      { key: "errorCode", make: ({ code }) => make("code", { textContent: code }) },
      { key: "howOften", class: "figure", text: ({ number }) => count(number) },
    ], ({ code }) => code, { empty: "noErrors", label: "errors" });
    this.slow = new Table(slowColumns(readOnly), ({ id }) => id, { empty: "noConnections", label: "slow" });
    this.slowCard = card("slow", this.slow.element);
    this.slowCard.hidden = true;
    this.jobs = new Table(JOBS, ({ node, name }) => `${node} ${name}`, { empty: "noJobs", label: "jobs" });
    this.jobCard = card("jobs", this.jobs.element);
    this.jobCard.hidden = true;
    this.element = make(
      "div", { className: "parts" }, say("h1", "overview", {}, { className: "unseen" }), make("div", { className: "tiles" }, ...tiles),
      card("processes", this.nodes.element), this.slowCard, make("div", { className: "two" }, card("errors", this.errors.element), this.jobCard),
    );
  }

  async refresh() {
    // To count rooms, or to look who is slow, costs each process with their number.
    const isTurn = this.#looks % COUNT === 0;
    const counted = isTurn ? ask("rooms", { query: { limit: 1 } }).catch(() => this.#rooms) : this.#rooms;
    const slowest = isTurn ? ask("slow").catch(() => []) : this.#slow;
    // While the broker is away, the process that is asked says how it is, and nothing of the others.
    const [nodes, rooms, slow, jobs] = await Promise.all([ask("nodes"), counted, slowest, ask("jobs").catch(() => ({}))]);
    this.#looks += 1;
    this.#rooms = rooms;
    this.#slow = slow;
    this.slowCard.hidden = slow.length === 0;
    this.slow.show(slow);
    const all = Object.entries(nodes).map(([id, report]) => ({ id, ...report, ...this.#rates(id, report) }));
    this.nodes.show(all.sort((a, b) => (a.host + a.id < b.host + b.id ? -1 : 1)));
    this.#figures(all, rooms);
    const codes = new Map();
    for (const { errors = {} } of all) for (const [code, number] of Object.entries(errors)) codes.set(code, (codes.get(code) ?? 0) + number);
    this.errors.show([...codes].map(([code, number]) => ({ code, number })).sort((a, b) => b.number - a.number));
    const runs = Object.entries(jobs).flatMap(([node, found]) => Object.entries(found).map(([name, state]) => ({ node, name, ...state })));
    this.jobCard.hidden = runs.length === 0;
    this.jobs.show(runs);
  }

  #tile(key) {
    const value = make("p", { className: "value", textContent: "—" });
    const line = document.createElementNS(SVG, "svg");
    line.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    line.setAttribute("preserveAspectRatio", "none");
    line.setAttribute("aria-hidden", "true");
    line.append(document.createElementNS(SVG, "polyline"));
    this.#tiles.set(key, { value, line, past: [], note: make("p", { className: "muted" }) });
    return make("div", { className: "tile", dataset: { tile: key } }, say("p", key, {}, { className: "tile-name" }), value, this.#tiles.get(key).note, line);
  }

  #figures(all, rooms) {
    const sum = (name) => all.reduce((total, each) => total + (each[name] ?? 0), 0);
    const away = all.filter(({ ready }) => !ready).length;
    this.#draw("connections", sum("connections"), count(sum("connections")));
    if (rooms) this.#draw("rooms", rooms.total, `${rooms.complete ? "" : "≥ "}${count(rooms.total)}`);
    for (const [key, name] of [["inRate", "in"], ["outRate", "out"], ["errorRate", "failed"]]) {
      const known = all.some((each) => each[name] !== null);
      this.#draw(key, known ? sum(name) : null, known ? rate(sum(name)) : "—");
    }
    this.#draw("processes", all.length, count(all.length));
    const { note } = this.#tiles.get("processes");
    const alone = all.some(({ broker_away: broker }) => broker);
    if (alone) show(note, "asksNobody");
    else if (away) show(note, "notReady", { count: away });
    else show(note, "allReady");
    note.className = away || alone ? "bad" : "muted";
  }

  #draw(key, value, text) {
    const tile = this.#tiles.get(key);
    tile.value.textContent = text;
    if (value === null) return;
    tile.past = [...tile.past, value].slice(-KEPT);
    const most = Math.max(...tile.past, 1);
    const step = WIDTH / Math.max(tile.past.length - 1, 1);
    const points = tile.past.map((each, index) => `${(index * step).toFixed(1)},${(HEIGHT - 2 - (each / most) * (HEIGHT - 4)).toFixed(1)}`);
    tile.line.firstElementChild.setAttribute("points", points.join(" "));
  }

  /* How much passes in a second in a process, since it was looked at last; null where that is not known yet. */
  #rates(id, report) {
    const errors = Object.values(report.errors ?? {}).reduce((total, each) => total + each, 0);
    const now = { uptime: report.uptime, received: report.received, sent: report.sent, errors };
    const before = this.#before.get(id);
    this.#before.set(id, now);
    const seconds = now.uptime - (before?.uptime ?? NaN);
    if (!(seconds > 0)) return { in: null, out: null, failed: null, total: errors };
    const per = (name) => Math.max(0, now[name] - before[name]) / seconds;
    return { in: per("received"), out: per("sent"), failed: per("errors"), total: errors };
  }
}

function nodeColumns(readOnly) {
  const figure = (key, text) => ({ key, class: "figure", text });
  const drain = ({ id, host, pid }) => button("drain", async () => {
    if (await askFor("drain", `${host} · ${pid}`, [])) await act(`${pathOf("nodes", id)}/drain`, {}, ["doneDrain"]);
  });
  return [
    { key: "process", make: ({ host, pid, id }) => [make("span", { className: "name", textContent: `${host} · ${pid}` }), " ", make("code", { className: "muted", textContent: id })] },
    { key: "state", text: stateOf, mark: (row, report) => { row.dataset.state = markOf(report); }, class: "state-cell" },
    figure("connections", ({ connections }) => count(connections)),
    figure("rooms", ({ rooms }) => count(rooms)),
    figure("inRate", (each) => (each.in === null ? "—" : rate(each.in))),
    figure("outRate", ({ out }) => (out === null ? "—" : rate(out))),
    figure("errors", ({ total }) => count(total)),
    figure("dropped", ({ dropped, cut_off: cut }) => (dropped === undefined ? "—" : count(dropped + cut))),
    figure("uptime", ({ uptime }) => (uptime === undefined ? "—" : lasting(uptime))),
    ...(readOnly ? [] : [{ key: "", class: "acts", make: drain }]),
  ];
}

function slowColumns(readOnly) {
  const close = ({ id }) => button("disconnect", () => disconnect(`${pathOf("connections", id)}/disconnect`, id, "disconnect"));
  return [
    { key: "user", make: ({ user }) => (user === null ? make("span", { className: "muted", textContent: "—" }) : make("a", { href: hrefOfUser(user), className: "name", textContent: user })) },
    { key: "connection", make: ({ id }) => make("code", { className: "muted", textContent: id }) },
    { key: "rooms", class: "data", text: ({ rooms }) => rooms.join(", ") },
    { key: "waiting", class: "figure", text: ({ waiting }) => count(waiting) },
    ...(readOnly ? [] : [{ key: "", class: "acts", make: close }]),
  ];
}

function markOf({ ready, draining, broker_away: broker, store_away: store }) {
  if (ready) return broker || store ? "warn" : "good";
  return draining ? "warn" : "bad";
}

function stateOf({ ready, draining, broker_away: broker, store_away: store }) {
  if (draining) return ["stateDraining", {}];
  if (broker) return ["brokerAway", { seconds: broker }];
  if (store) return ["storeAway", { seconds: store }];
  return [ready ? "stateReady" : "stateNotReady", {}];
}

const JOBS = [
  { key: "job", make: ({ name }) => make("code", { textContent: name }) },
  { key: "process", make: ({ node }) => make("code", { className: "muted", textContent: node }) },
  { key: "nextRun", text: ({ next }) => moment(next) },
  { key: "lastRun", text: ({ last }) => (last ? ["ranAs", { time: moment(last.due), outcome: last.outcome }] : "—") },
];

