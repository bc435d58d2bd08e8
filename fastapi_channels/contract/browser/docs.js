/* The document itself: search, links into it, and the list of its contents. */

import { byId, show } from "./basics.js";

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // somebody wrote it by hand
  }
}

/* Opens what the address of the page names, and whatever it is in. */
export function openLinked() {
  const target = byId(decoded(location.hash.slice(1)));
  if (!target || !byId("docs").contains(target)) return;
  for (let element = target; element; element = element.parentElement) {
    if (element.localName === "details") element.open = true;
  }
  target.scrollIntoView();
  for (const link of byId("nav").querySelectorAll("a")) {
    if (link.hash === location.hash) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

/* Keeps the address of the page at what a person has opened last: it can be copied, and leads there. */
export function followOpened(target) {
  const opened = target.closest("summary")?.parentElement;
  if (opened?.matches("details.operation") && !opened.open) history.replaceState(null, "", `#${opened.id}`);
}

/* Shows what has all words of `text`, wherever in it. */
export function search(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  const sift = (element, more = "") => {
    const told = `${more} ${element.textContent}`.toLowerCase();
    element.hidden = !words.every((word) => told.includes(word));
    if (!element.hidden) count += 1;
    return !element.hidden;
  };
  for (const section of byId("docs").querySelectorAll("section.channel")) siftSection(section, sift, words.length > 0);
  for (const link of byId("nav").querySelectorAll("[data-operation]")) {
    link.parentElement.hidden = byId(`operation/${link.dataset.operation}`).hidden;
  }
  for (const item of byId("nav").querySelectorAll("[data-channel]")) {
    item.hidden = byId(`channel/${item.dataset.channel}`).hidden;
  }
  byId("nothing").hidden = words.length === 0 || count > 0;
  if (words.length) show(byId("found"), "found", { count });
  else byId("found").textContent = "";
}

function siftSection(section, sift, isSearching) {
  const head = section.querySelector("h2").textContent + (section.querySelector(".address")?.textContent ?? "");
  const found = [...section.querySelectorAll("details.operation")].map((each) => sift(each, head));
  section.hidden = isSearching && !found.includes(true);
  for (const rest of section.querySelectorAll(":scope > h3, :scope > .controls")) rest.hidden = isSearching && !hasFound(rest);
}

function hasFound(element) {
  if (element.localName === "details") return element.querySelector("details.operation:not([hidden])") !== null;
  for (let next = element.nextElementSibling; next && next.localName !== "h3"; next = next.nextElementSibling) {
    if (next.matches("details.operation:not([hidden])")) return true;
  }
  return false;
}

/* Says of what has a last day that is over that it is not served any more: the page may be older than that. */
export function tellSunsets(today = new Date().toISOString().slice(0, 10)) {
  for (const mark of byId("docs").querySelectorAll("[data-sunset]")) {
    if (mark.dataset.sunset > today) continue;
    mark.className = "mark bad";
    show(mark.firstElementChild, "sunsetPast", { date: mark.dataset.sunset });
  }
}

/* Opens all operations, or closes them; whether they are open now. */
export function expandAll(open) {
  for (const each of byId("docs").querySelectorAll("section > details.operation")) each.open = open;
}
