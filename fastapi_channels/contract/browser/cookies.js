/* Cookies that a connection brings: a page cannot say them with a WebSocket, it can only set them. */

import { written } from "./exact.js";

/* Those set here, and not ended. */
const baked = new Set();

/* Sets cookies, of this site and until the browser is closed, in the place of those of before; what they are together. */
export function bake(cookies) {
  for (const name of baked) if (!Object.hasOwn(cookies, name)) end(name);
  const pairs = Object.entries(cookies).map(([name, value]) => `${name}=${encodeURIComponent(written(value))}`);
  const secure = location.protocol === "https:" ? "; Secure" : "";
  for (const pair of pairs) document.cookie = `${pair}; path=/; SameSite=Strict${secure}`;
  for (const name of Object.keys(cookies)) baked.add(name);
  return pairs.join("; ");
}

/* Whether the page can see one of this name: then it is sent with every connection. */
export const isThere = (name) => document.cookie.split("; ").some((pair) => pair.startsWith(`${name}=`));

export function end(name) {
  document.cookie = `${name}=; path=/; SameSite=Strict; max-age=0`;
  baked.delete(name);
}
