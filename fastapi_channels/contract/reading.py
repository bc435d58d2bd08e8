"""Schemas as somebody reads them: rows of fields, with the type and its bounds in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from pydantic_core import to_json

from .schemas import FOLDER, Schema

MAX_DEPTH: Final = 4
"""Of fields within fields: a reader follows the link to the schema from there on."""
MAX_VALUE: Final = 200
"""Characters of a default, or of a constant, that are shown."""


class Word(NamedTuple):
    """A part of a sentence.

    Attributes:
        key: of its text in each language; empty for a name, which has none.
        values: for the placeholders of that text.
        name: what is shown as it is.
        schema: the schema of that name, where there is one to read.
    """

    key: str = ""
    values: Mapping[str, Any] = {}
    name: str = ""
    schema: bool = False


class Row(NamedTuple):
    """One field. `rows` are the fields within it; `form` is the one of several objects that it is of."""

    form: str
    name: str
    required: bool
    type: list[Word]
    bounds: list[Word]
    about: str
    deprecated: bool
    rows: list[Row]


class Reader:
    """Reads the schemas of one document.

    Args:
        components: the schemas that others refer to, by name.
    """

    def __init__(self, components: Mapping[str, Schema]) -> None:
        self._components = components

    def rows(self, schema: Schema, without: Iterable[str] = ()) -> list[Row]:
        """The fields of an object, or of whatever one is inside: a list of objects, or one of several.

        Args:
            without: fields of the outermost object to leave out.
        """
        return list(self._rows(schema, frozenset(without), (), 0))

    def words(self, schema: Any) -> list[Word]:
        """The type, in words."""
        if not isinstance(schema, dict):
            return [Word("anything" if schema is not False else "nothing")]
        if "$ref" in schema:
            return [Word(name=name_of(schema), schema=True)]
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return list(_joined(self._members(schema[word])))
        if len(schema.get("allOf", ())) == 1:
            return self.words(schema["allOf"][0])
        if "const" in schema:
            return [Word(name=_value(schema["const"]))]
        if "enum" in schema:
            return list(_joined([Word(name=_value(value))] for value in schema["enum"]))
        return list(self._typed(schema))

    def resolved(self, schema: Any) -> Schema:
        """What `schema` refers to, if it is nothing but a reference."""
        seen: set[str] = set()
        while isinstance(schema, dict):
            if len(schema.get("allOf", ())) == 1:
                schema = schema["allOf"][0]
            elif "$ref" in schema and schema["$ref"] not in seen:
                seen.add(schema["$ref"])
                schema = self._components.get(name_of(schema), {})
            else:
                return schema
        return {}

    def _members(self, schemas: Iterable[Any]) -> Iterator[list[Word]]:
        return (self.words(each) for each in schemas)

    def _typed(self, schema: Schema) -> Iterator[Word]:
        kind = schema.get("type")
        if isinstance(kind, list):
            yield from _joined(self.words({**schema, "type": each}) for each in kind)
        elif kind == "array":
            items = schema.get("items")
            yield Word("listOf")
            yield from (
                _joined((self.words(each) for each in items), "comma")
                if isinstance(items, list)
                else self.words(items)
            )
        elif kind == "object":
            values = schema.get("additionalProperties")
            is_map = isinstance(values, dict) and not schema.get("properties")
            yield Word("mapOf" if is_map else "object")
            yield from self.words(values) if is_map else ()
        elif kind == "string" and schema.get("format") in FORMATS:
            yield Word(FORMATS[schema["format"]])
        else:
            yield Word(_KINDS.get(str(kind), "anything"))

    def _rows(self, schema: Any, without: frozenset[str], seen: tuple[str, ...], depth: int) -> Iterator[Row]:
        for found in self._objects(schema, seen, ""):
            required = found.schema.get("required", ())
            for name, field in found.schema.get("properties", {}).items():
                if name not in without:
                    yield self._row(found, name, name in required, field, depth)

    def _row(self, of: _Object, name: str, required: bool, field: Any, depth: int) -> Row:
        within = self._rows(field, frozenset(), of.seen, depth + 1) if depth + 1 < MAX_DEPTH else ()
        schema = field if isinstance(field, dict) else {}
        told = {**self.resolved(schema), **schema}
        return Row(
            of.form,
            name,
            required,
            self.words(field),
            [*self._values(schema), *_bounds(told)],
            str(schema.get("description") or ""),
            bool(told.get("deprecated")),
            list(within),
        )

    def _values(self, schema: Schema) -> Iterator[Word]:
        """The values of an enumeration that the type names only."""
        found = self.resolved(next(iter(_some(schema)), schema))
        if "enum" in found and found is not schema:
            yield Word("oneOf", {"value": ", ".join(map(_value, found["enum"]))[:MAX_VALUE]})

    def _objects(self, schema: Any, seen: tuple[str, ...], form: str) -> Iterator[_Object]:
        """The objects with fields that `schema` is, or holds."""
        if not isinstance(schema, dict):
            return
        if "$ref" in schema:
            name = name_of(schema)
            if name not in seen:
                yield from self._objects(self._components.get(name), (*seen, name), form)
            return
        if schema.get("properties"):
            yield _Object(schema, seen, form)
        several = len([each for each in _some(schema) if self.resolved(each).get("properties")]) > 1
        for number, inner in enumerate(_inside(schema), 1):
            yield from self._objects(inner, seen, self._title(inner, number) if several else form)

    def _title(self, schema: Any, number: int) -> str:
        if isinstance(schema, dict) and "$ref" in schema:
            return name_of(schema)
        return str(self.resolved(schema).get("title") or number)


class _Object(NamedTuple):
    """An object with fields, the names of schemas on the way there, and which of several it is."""

    schema: Schema
    seen: tuple[str, ...]
    form: str


FORMATS: Final[Mapping[str, str]] = {
    "date": "date",
    "date-time": "dateTime",
    "date-time-local": "dateTimeLocal",
    "time": "time",
    "duration": "duration",
    "email": "email",
    "uri": "url",
    "uuid": "uuid",
    "binary": "binary",
    "password": "secret",
}
_KINDS: Final[Mapping[str, str]] = {
    "string": "text",
    "integer": "whole",
    "number": "number",
    "boolean": "yesNo",
    "null": "null",
}
_BOUNDS: Final = (
    *(("minLength", "minLength"), ("maxLength", "maxLength"), ("pattern", "pattern")),
    *(("minimum", "minimum"), ("maximum", "maximum"), ("exclusiveMinimum", "above")),
    *(("exclusiveMaximum", "below"), ("multipleOf", "multipleOf")),
    *(("minItems", "minItems"), ("maxItems", "maxItems")),
)


def name_of(reference: Schema) -> str:
    """The name of the schema that `reference` refers to."""
    return str(reference["$ref"]).removeprefix(FOLDER)


def _some(schema: Schema) -> list[Any]:
    """What it may be, null apart; empty where it is one thing."""
    found = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    return [each for each in found if each != {"type": "null"}]


def _inside(schema: Schema) -> Iterator[Any]:
    for word in ("anyOf", "oneOf", "allOf"):
        yield from schema.get(word, ())
    items = schema.get("items")
    yield from items if isinstance(items, list) else [items]
    yield schema.get("additionalProperties")


def _bounds(schema: Schema) -> Iterator[Word]:
    members = _some(schema)
    if len(members) == 1 and isinstance(members[0], dict):
        yield from _bounds({"default": schema.get("default"), **members[0]})
        return
    is_fixed = "minItems" in schema and schema["minItems"] == schema.get("maxItems")
    if is_fixed:
        yield Word("exactItems", {"value": str(schema["minItems"])})
    for word, key in _BOUNDS:
        if word in schema and not (is_fixed and word in ("minItems", "maxItems")):
            yield Word(key, {"value": str(schema[word])[:MAX_VALUE]})
    if schema.get("uniqueItems"):
        yield Word("unique")
    # A secret is written down as asterisks: that is no default that one could read.
    if schema.get("default") is not None and schema.get("format") != "password":
        yield Word("default", {"value": _value(schema["default"])})


def _value(value: Any) -> str:
    text = to_json(value, inf_nan_mode="constants").decode()
    return text if len(text) <= MAX_VALUE else text[:MAX_VALUE] + "…"


def _joined(parts: Iterable[list[Word]], by: str = "or") -> Iterator[Word]:
    for number, part in enumerate(parts):
        if number:
            yield Word(by)
        yield from part
