/* The routes beside this page, and what they answer. */

export class Refused extends Error {
  /* `status` is that of HTTP; 0 where nothing answered. `detail` is a text of the server's. */
  constructor(status, detail) {
    super(detail);
    this.status = status;
    this.detail = detail;
  }

  /* Whether the one who looks may not look any more. */
  get isOut() { return this.status === 401 || this.status === 403; }
}

/* The path of a route, its parts as they are. A part that is "." or ".." would lead elsewhere: browsers take even
   its escaped form for a step. */
export function pathOf(...parts) {
  if (parts.some((part) => part === "." || part === "..")) throw new Refused(0, `${parts.join("/")}`);
  return parts.map(encodeURIComponent).join("/");
}

/* Of the page without a name and a password, which its own address may have: browsers fetch nothing by such a one. */
const withQuery = (path, query) => {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const url = new URL(path, location.origin + location.pathname);
  url.search = new URLSearchParams(given);
  return url;
};

/* Where a stream of events is. */
export const streamOf = (path, query) => new EventSource(withQuery(path, query));

/* What a route answers; null for nothing. */
export async function ask(path, { query = {}, method = "GET", body } = {}) {
  const sent = body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(withQuery(path, query), { method, ...sent });
  } catch {
    throw new Refused(0, "");
  }
  const text = await answer.text();
  if (!answer.ok) throw new Refused(answer.status, detailOf(text));
  return text && answer.headers.get("content-type")?.includes("json") ? JSON.parse(text) : null;
}

function detailOf(text) {
  try {
    const { detail } = JSON.parse(text);
    if (!Array.isArray(detail)) return String(detail ?? text);
    return detail.map(({ loc = [], msg = "" }) => `${loc.join(".")}: ${msg}`).join("; ");
  } catch {
    return text.slice(0, 300);
  }
}
