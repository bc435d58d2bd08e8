/* Reading JSON schemas. */

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

/* What kind of editor a schema asks for. */
export function kindOf(schema) {
  if (schema.const !== undefined) return "const";
  if (schema.enum) return "enum";
  if (variantsOf(schema).length > 1) return "union";
  if (schema.type) return schema.type;
  if (schema.properties) return "object";
  return "anything";
}

/* The key of the text that names the type of `schema`. */
export function wordFor(schema) {
  const formats = { "date": "date", "date-time": "dateTime", "time": "time", "uuid": "uuid", "email": "email", "uri": "url" };
  const kinds = { string: "text", integer: "whole", number: "number", boolean: "yesNo", null: "null", array: "list", object: "object" };
  return (schema.type === "string" && formats[schema.format]) || kinds[schema.type] || "anything";
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
  if (found.const !== undefined) return found.const === value;
  if (found.enum) return found.enum.includes(value);
  const variants = variantsOf(found);
  if (variants.length > 1) return variants.some((each) => fits(value, each, schemas));
  const type = found.type ?? (found.properties ? "object" : undefined);
  if (type === undefined) return true;
  if (type === "object") return isObject(value) && fitsFields(value, found, schemas);
  const is = { array: Array.isArray(value), string: typeof value === "string", boolean: typeof value === "boolean",
    null: value === null, number: typeof value === "number", integer: Number.isInteger(value) };
  return is[type] ?? true;
}

export const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

function fitsFields(value, schema, schemas) {
  const fields = schema.properties ?? {};
  return (schema.required ?? []).every((name) => Object.hasOwn(value, name)) &&
    Object.keys(value).every((name) => !fields[name] || resolve(fields[name], schemas).const === undefined || fits(value[name], fields[name], schemas));
}
