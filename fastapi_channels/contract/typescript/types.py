"""JSON schemas as types of TypeScript."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from starlette.convertors import FloatConvertor, IntegerConvertor

from fastapi_channels.contract.schemas import FOLDER, Schema

from .text import NULL, STEP, Member, array, comment, declared, key, members, quoted, union

UNKNOWN: Final = "unknown"
EMPTY: Final = "{ [key: string]: never }"

_PLAIN: Final = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "null": NULL,
}
_LITERALS: Final = {True: "true", False: "false", None: NULL}


class Names:
    """Names of types, each given once."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def new(self, wanted: str) -> str:
        """`wanted` as a name of a type, or that with a number where it is taken, as in the document."""
        parts = [part for part in re.split(r"(?:\W|_(?!\d+$))+", wanted) if part]
        name = "".join(part[0].upper() + part[1:] for part in parts) or "Type"
        name = chosen = f"_{name}" if name[0].isdigit() else name
        number = 1
        while chosen in self._taken:
            number += 1
            chosen = f"{name}_{number}"
        self._taken.add(chosen)
        return chosen


class Types:
    """The types of one file.

    Args:
        components: the schemas that others refer to.
        names: those that are taken; the components' are added.
    """

    def __init__(self, components: Mapping[str, Schema], names: Names) -> None:
        self._components = components
        self._names = {name: names.new(name) for name in sorted(components)}

    def declared(self) -> Iterator[str]:
        """The types of the components, each exported, in the order of their names."""
        for name in sorted(self._names, key=lambda name: self._names[name]):
            yield self._declared(self._names[name], self._components[name])

    def _declared(self, name: str, schema: Schema) -> str:
        about = comment(_about(schema), 0)
        if schema.get("properties"):
            return f"{about}export interface {name} {self.type(schema)}\n"
        return about + declared(name, self.type(schema, 0, len(f"export type {name} = ;")))

    def type(self, schema: Any, indent: int = 0, used: int = 0) -> str:
        """The type of what a schema allows. One that goes on below begins with a line's end.

        Args:
            indent: of the line where it stands.
            used: columns of that line that are taken.
        """
        return union(self.alternatives(schema, indent), indent, used)

    def alternatives(self, schema: Any, indent: int = 0) -> list[str]:
        """The members of the union that it is; none of them is a union."""
        if not isinstance(schema, dict):
            return [UNKNOWN if schema else "never"]
        if "$ref" in schema:
            return [self._names[schema["$ref"].removeprefix(FOLDER)]]
        if "const" in schema:
            return [_literal(schema["const"])]
        if "enum" in schema:
            return [_literal(value) for value in schema["enum"]]
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return _joined(found for each in schema[word] for found in self.alternatives(each, indent))
        if "allOf" in schema:
            return self._together(schema["allOf"], indent)
        kinds = schema.get("type", "object" if "properties" in schema else None)
        if kinds is None:
            return [UNKNOWN]
        return [
            self._of_kind(kind, schema, indent) for kind in ([kinds] if isinstance(kinds, str) else kinds)
        ]

    def _together(self, schemas: list[Any], indent: int) -> list[str]:
        parts = [self.alternatives(each, indent) for each in schemas]
        if len(parts) == 1:
            return parts[0]
        return [" & ".join(part[0] if len(part) == 1 else f"({' | '.join(part)})" for part in parts)]

    def _of_kind(self, kind: str, schema: Schema, indent: int) -> str:
        if kind == "object":
            return self._object(schema, indent)
        if kind == "array":
            return self._array(schema, indent)
        if kind == "string" and "pattern" in schema:
            return template(schema["pattern"]) or "string"
        return _PLAIN[kind]

    def _object(self, schema: Schema, indent: int) -> str:
        fields, needed = schema.get("properties", {}), schema.get("required", ())
        rest = schema.get("additionalProperties", not fields)
        if not fields:
            return EMPTY if rest is False else self._map(schema, rest, indent)
        found = [self._member(name, each, indent, name not in needed) for name, each in fields.items()]
        # Of any type: it has to be true of the fields that are named, too.
        return members([*found, *([Member("[key: string]", UNKNOWN)] if rest is not False else [])], indent)

    def _member(self, name: str, schema: Any, indent: int, optional: bool) -> Member:
        return member(name, lambda at, used: self.type(schema, at, used), indent, optional, _about(schema))

    def _map(self, schema: Schema, rest: Any, indent: int) -> str:
        patterns = list(schema.get("patternProperties", {}).values())
        value = union([self.type(each, indent) for each in patterns] or [self.type(rest, indent)], indent)
        return f"{{ [key: string]: {value} }}"

    def _array(self, schema: Schema, indent: int) -> str:
        items = schema.get("items", True)
        if not isinstance(items, list):
            return array(self.type(items, indent), indent)
        parts = [self.type(each, indent) for each in items]
        more = schema.get("additionalItems", True)
        if more is not False and schema.get("maxItems") != len(items):
            parts.append("..." + array(self.type(more, indent), indent))
        return f"[{', '.join(parts)}]"


def member(
    name: str, write: Callable[[int, int], str], indent: int, optional: bool = False, about: str = ""
) -> Member:
    """A property of an object type that stands in a line with that indent.

    Args:
        write: writes its type, given the indent of its line and how many columns of it are taken.
    """
    head = indent + STEP + len(key(name)) + optional + len(": ;")
    return Member(key(name), write(indent + STEP, head), optional, about)


_NUMBERS: Final = (IntegerConvertor.regex, FloatConvertor.regex)


def template(pattern: str) -> str | None:
    """The texts of a regular expression as a template type; None where no template says it."""
    if not pattern.startswith("^"):
        return None
    found, place = "", 1
    while place < len(pattern):
        character = pattern[place]
        if character == "$" and place == len(pattern) - 1:
            return f"`{found}`" if "${" in found else quoted(found)
        piece = _group(pattern, place) if character == "(" else _character(pattern, place)
        if piece is None:
            return None
        text, place = piece
        if place < len(pattern) and pattern[place] in "*+?{|":
            return None
        found += text
    return f"`{found}${{string}}`"


def _character(pattern: str, place: int) -> tuple[str, int] | None:
    character, end = pattern[place], place + 1
    if character == "\\":
        character, end = pattern[place + 1 : place + 2], place + 2
        if not character or character.isalnum():
            return None
    elif character in "[]*+?{}|.^$()":
        return None
    return None if character in '`\\"$' else (character, end)


def _group(pattern: str, place: int) -> tuple[str, int] | None:
    depth = 0
    for end in range(place, len(pattern)):
        depth += {"(": 1, ")": -1}.get(pattern[end], 0)
        if depth == 0:
            inner = pattern[place + 1 : end]
            if inner.startswith("?"):
                return None
            return ("${number}" if inner in _NUMBERS else "${string}"), end + 1
    return None


def _joined(types: Iterable[str]) -> list[str]:
    found = list(types)
    if UNKNOWN in found:
        return [UNKNOWN]
    if "string" in found and any(each.startswith('"') for each in found):
        # Any text, and an editor still knows those that are named.
        return [each if each != "string" else "(string & {})" for each in found]
    return found


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return quoted(value)
    return _LITERALS[value] if value is None or isinstance(value, bool) else str(value)


def _about(schema: Any) -> str:
    if not isinstance(schema, dict):
        return ""
    said = schema.get("description", "")
    return f"{said}\n@deprecated".strip() if schema.get("deprecated") else said
