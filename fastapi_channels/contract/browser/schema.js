/* Reading JSON schemas. */

import { isExact, near, written } from "./exact.js";

const FOLDER = "#/components/schemas/";
const MOST_LINKS = 20; // references to references: more is a circle

/* `schema` itself, where it is a reference or one schema with words beside it. */
export function resolve(schema, schemas) {
  let found = schema === true || schema == null ? {} : schema;
  for (let links = 0; links < MOST_LINKS; links += 1) {
    if (found.$ref !== undefined) found = schemas[found.$ref.slice(FOLDER.length)] ?? {};
    else if (found.allOf?.length === 1) {
      const { allOf, ...beside } = found;
      found = { ...resolve(allOf[0], schemas), ...beside };
    } else return found;
  }
  return {};
}

/* The forms that a value may have: more than one where it is a union. */
export function variantsOf(schema) {
  if (Array.isArray(schema.type)) return schema.type.map((type) => ({ ...schema, type }));
  return schema.anyOf ?? schema.oneOf ?? [schema];
}

export const isNull = (schema) => schema?.type === "null" || schema?.const === null;

const MASK = "•••";

/* `value`, but for the texts in it that `schema` calls secret. */
export function masked(value, schema, schemas) {
  const found = resolve(schema, schemas);
  const inner = (each, its) => masked(each, its, schemas);
  if (found.format === "password") return typeof value === "string" ? MASK : value;
  const forms = [found.anyOf, found.oneOf, found.allOf].flatMap((each) => each ?? []);
  const made = forms.reduce(inner, value);
  if (Array.isArray(made)) return made.map((each, index) => inner(each, Array.isArray(found.items) ? found.items[index] : found.items));
  if (!isObject(made)) return made;
  const fieldOf = (name) => (Object.hasOwn(found.properties ?? {}, name) ? found.properties[name] : found.additionalProperties);
  return Object.fromEntries(Object.entries(made).map(([name, each]) => [name, inner(each, fieldOf(name))]));
}

/* What kind of editor a schema asks for. */
export function kindOf(schema) {
  if (schema.const !== undefined) return "const";
  if (schema.enum) return "enum";
  if (variantsOf(schema).length > 1) return "union";
  if (schema.type) return schema.type;
  if (schema.properties) return "object";
  return "anything";
}

const FORMATS = {
  "date": "date", "date-time": "dateTime", "date-time-local": "dateTimeLocal", "time": "time", "duration": "duration", "uuid": "uuid",
  "email": "email", "uri": "url", "binary": "binary", "password": "secret",
};
const KINDS = { string: "text", integer: "whole", number: "number", boolean: "yesNo", null: "null", array: "list", object: "object" };
const MOST_WORDS = 6; // of a type: it may be of a hundred forms

/* The type of `schema`, as words with "or" between them: each the `key` of a text, or a `name`. */
export function wordsFor(schema, schemas) {
  if (schema.enum && !schema.type) return [...new Set(schema.enum.map(typeOf))].map((type) => ({ key: KINDS[type] }));
  const variants = schema.const === undefined && !schema.enum ? variantsOf(schema) : [schema];
  if (variants.length === 1) return [wordFor(schema)];
  const found = variants.map((each) => (titled(each) ? { name: titleOf(each, schemas) } : wordFor(resolve(each, schemas))));
  const words = [...new Map(found.map((word) => [word.key ?? word.name, word])).values()];
  return words.length > MOST_WORDS ? [...words.slice(0, MOST_WORDS), { name: "…" }] : words;
}

const titled = (schema) => schema.$ref !== undefined || schema.const !== undefined;

function wordFor(schema) {
  const type = schema.type ?? (schema.properties ? "object" : typeOf(schema.const));
  return { key: (type === "string" && FORMATS[schema.format]) || KINDS[type] || "anything" };
}

function typeOf(value) {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return isExact(value) ? "number" : typeof value;
}

const BOUNDS = ["minimum", "maximum", "minLength", "maxLength", "pattern", "minItems", "maxItems"];
const COUNTS = ["minItems", "maxItems"];

/* The bounds of `schema` in words: each the `key` of a text, and its `value`. */
export function boundsOf(schema) {
  const { minItems, maxItems } = schema;
  const isFixed = minItems !== undefined && minItems === maxItems;
  const found = BOUNDS.filter((word) => schema[word] !== undefined && !(isFixed && COUNTS.includes(word)));
  const told = found.map((key) => ({ key, value: written(schema[key]) }));
  return isFixed ? [...told, { key: "exactItems", value: written(minItems) }] : told;
}

/* Whether a text or a number keeps to the bounds of `schema`, as far as a browser can tell. */
export function isWithin(value, { minimum, maximum, exclusiveMinimum: above, exclusiveMaximum: below, minLength = 0, maxLength = Infinity, pattern }) {
  if (typeof value === "string") {
    const { length } = [...value]; // characters, not halves of them
    return length >= near(minLength) && length <= near(maxLength) && isLike(value, pattern);
  }
  const number = near(value);
  const keeps = (bound, does) => bound === undefined || does(near(bound));
  return keeps(minimum, (least) => number >= least) && keeps(maximum, (most) => number <= most) &&
    keeps(above, (least) => number > least) && keeps(below, (most) => number < most);
}

function isLike(text, pattern) {
  try {
    return pattern === undefined || new RegExp(pattern, "u").test(text);
  } catch {
    return true; // an expression of Python's alone
  }
}

/* What a person calls one of several forms: the name of its schema, its constant, or its type. */
export function titleOf(schema, schemas) {
  if (schema.$ref) return schema.$ref.slice(FOLDER.length);
  const found = resolve(schema, schemas);
  if (found.const !== undefined) return JSON.stringify(found.const);
  return found.title ?? null;
}

/* Whether `value` could be of `schema`, as far as one sees from its type: it chooses between forms. */
export function fits(value, schema, schemas) {
  const found = resolve(schema, schemas);
  if (found.const !== undefined) return same(found.const, value);
  if (found.enum) return found.enum.some((each) => same(each, value));
  const variants = variantsOf(found);
  if (variants.length > 1) return variants.some((each) => fits(value, each, schemas));
  const type = found.type ?? (found.properties ? "object" : undefined);
  if (type === undefined) return true;
  if (type === "object") return isObject(value) && fitsFields(value, found, schemas);
  const is = { array: Array.isArray(value), string: typeof value === "string", boolean: typeof value === "boolean",
    null: value === null, number: typeof value === "number" || isExact(value),
    integer: Number.isInteger(value) || (isExact(value) && !/[.e]/i.test(value.rawJSON)) };
  return is[type] ?? true;
}

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

export const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value) && !isExact(value);

function fitsFields(value, schema, schemas) {
  const fields = schema.properties ?? {};
  return (schema.required ?? []).every((name) => Object.hasOwn(value, name)) &&
    Object.keys(value).every((name) => !fields[name] || resolve(fields[name], schemas).const === undefined || fits(value[name], fields[name], schemas));
}
