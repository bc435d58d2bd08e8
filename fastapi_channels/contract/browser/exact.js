/* JSON in which no number is rounded: one that JavaScript cannot hold stays as it was written. */

const MAYBE = /\d{16}|[\d.]{18}|\d[eE]/; // what may be rounded has so many digits, or a large exponent
const MOST_DIGITS = 17; // of a fraction: so many tell each number of JavaScript from all others

/* `text` as a value. What would be rounded is an object that JSON.stringify writes as it was (JSON.rawJSON). */
export function parse(text) {
  return JSON.rawJSON && MAYBE.test(text) ? JSON.parse(text, keep) : JSON.parse(text);
}

/* Whether `value` is a number that was kept as it was written. */
export const isExact = (value) => JSON.isRawJSON?.(value) ?? false;

/* `value` as a text: a number as it was written, a text as it is, anything else as JSON. */
export const written = (value) => (typeof value === "string" ? value : JSON.stringify(value) ?? "");

/* `value`, or the number of JavaScript that comes nearest to it: to compare with. */
export const near = (value) => (isExact(value) ? Number(value.rawJSON) : value);

function keep(key, value, { source }) {
  return typeof value === "number" && isRounded(value, source) ? JSON.rawJSON(source) : value;
}

function isRounded(value, source) {
  if (!Number.isFinite(value)) return true;
  if (!/[.eE]/.test(source)) return !Number.isSafeInteger(value);
  return source.replace(/[eE].*/, "").replace(".", "").replace(/^-?0*/, "").length > MOST_DIGITS;
}
