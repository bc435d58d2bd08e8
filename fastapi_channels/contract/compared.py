"""Two JSON schemas of one thing: what became narrower, and what wider."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from pydantic_core import to_json
from starlette.convertors import CONVERTOR_TYPES

from .schemas import FOLDER, Schema

Way: TypeAlias = Literal["sent", "received"]
"""Whether a client sends it, or receives it."""
Kind: TypeAlias = Literal["breaking", "compatible", "cosmetic"]

_AT_MOST: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_AT_LEAST: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_AS_IT_IS: Final = ("pattern", "format", "multipleOf", "uniqueItems", "contentEncoding", "propertyNames")
_NONE: Final[Schema] = {}
_KINDS: Final = ("array", "boolean", "integer", "null", "number", "object", "string")


class Change(NamedTuple):
    kind: Kind
    where: str
    what: str


class Compared:
    """Compares the schemas of two documents. What a client sends must not become narrower, nor what it
    receives wider; but a further field of what it receives does no harm.

    Args:
        old, new: the `components.schemas` that they refer to.
    """

    def __init__(self, old: Mapping[str, Schema], new: Mapping[str, Schema]) -> None:
        self._old = old
        self._new = new
        self._seen: dict[tuple[int, int, Way], tuple[Any, Any]] = {}
        """What was looked at, by identity; kept, so that nothing else gets its identity."""

    def changes(self, old: Any, new: Any, way: Way, where: str) -> Iterator[Change]:
        """What is otherwise in `new`, and what in it; each pair is looked at once."""
        if self._again(old, new, way):
            return
        if _default(old) != _default(new):
            # Who leaves it out is served otherwise; what the server sends has its value in it.
            kind: Kind = "compatible" if way == "sent" else "cosmetic"
            yield Change(kind, where, f"default {_default(old)} → {_default(new)}")
        before, after = _members(old, self._old), _members(new, self._new)
        if before is None or after is None:
            if (before is None) != (after is None):
                narrower = before is None
                yield _changed(way, where, "anything → a type" if narrower else "a type → anything", narrower)
            return
        yield from self._alternatives(before, after, way, where)

    def _again(self, old: Any, new: Any, way: Way) -> bool:
        pair = (id(old), id(new), way)
        if pair in self._seen:
            return True
        self._seen[pair] = old, new
        return False

    def _alternatives(
        self, old: Sequence[Schema], new: Sequence[Schema], way: Way, where: str
    ) -> Iterator[Change]:
        kinds, later = _kinds(old), _kinds(new)
        for gone in sorted(_missing(kinds, later)):
            yield _changed(way, where, f"may be {_a(gone)} no more", narrower=True)
        for come in sorted(_missing(later, kinds)):
            yield _changed(way, where, f"may be {_a(come)} now", narrower=False)
        values, others = _values(old), _values(new)
        for text in sorted(values.keys() - others.keys()):
            if not _covers(later, values[text]):
                yield _changed(way, where, f"{text} is gone", narrower=True)
        for text in sorted(others.keys() - values.keys()):
            if not _covers(kinds, others[text]):
                yield _changed(way, where, f"{text} is new", narrower=False)
        for kind in _KINDS:
            pairs = _pairs(_of_kind(old, kind), _of_kind(new, kind))
            for before, after in pairs:
                yield from self._pair(before, after, way, where)

    def _pair(self, old: Schema | None, new: Schema | None, way: Way, where: str) -> Iterator[Change]:
        if old is None or new is None:
            found = old or new or {}
            about = found.get("title") or ", ".join(found.get("properties", {})) or found.get("type", "")
            gone = new is None
            yield _changed(
                way, where, f"the alternative {about} is {'gone' if gone else 'new'}", narrower=gone
            )
            return
        yield from _bounds(old, new, way, where)
        if old.get("deprecated", False) != new.get("deprecated", False):
            yield Change("cosmetic", where, "deprecated" if new.get("deprecated") else "deprecated no more")
        yield from self._fields(old, new, way, where)
        yield from self._items(old, new, way, where)

    def _fields(self, old: Schema, new: Schema, way: Way, where: str) -> Iterator[Change]:
        fields, later = old.get("properties", _NONE), new.get("properties", _NONE)
        if fields is not later and self._again(fields, later, way):
            return
        needed, needed_later = set(old.get("required", ())), set(new.get("required", ()))
        for name, schema in fields.items():
            place = f"{where}.{name}"
            if name not in later:
                harmless = way == "received" and name not in needed
                yield Change("compatible" if harmless else "breaking", place, "is gone")
                continue
            if (name in needed) != (name in needed_later):
                narrower = name in needed_later
                said = "is required now" if narrower else "may be missing now"
                yield _changed(way, place, said, narrower)
            yield from self.changes(schema, later[name], way, place)
        for name in later:
            if name not in fields:
                breaks = way == "sent" and name in needed_later
                said = "is new, and required" if breaks else "is new"
                yield Change("breaking" if breaks else "compatible", f"{where}.{name}", said)
        before, after = old.get("additionalProperties", True), new.get("additionalProperties", True)
        if before is not False and after is False:
            yield _changed(way, where, "takes no further fields any more", narrower=True)
        elif before is False and after is not False:
            yield Change("compatible", where, "takes further fields now")
        elif isinstance(before, dict) or isinstance(after, dict):
            yield from self.changes(before, after, way, f"{where}.*")

    def _items(self, old: Schema, new: Schema, way: Way, where: str) -> Iterator[Change]:
        before, after = old.get("items", True), new.get("items", True)
        if isinstance(before, list) and isinstance(after, list):
            for number, (one, other) in enumerate(zip(before, after, strict=False)):
                yield from self.changes(one, other, way, f"{where}[{number}]")
        elif isinstance(before, list) != isinstance(after, list):
            yield _changed(way, where, "the form of the list", narrower=isinstance(after, list))
        else:
            yield from self.changes(before, after, way, f"{where}[]")


def holds(wide: str, narrow: str) -> bool:
    """Whether `wide` fits each room's name that `narrow` fits: both are expressions of patterns of rooms."""
    if _PARAMETER.split(wide) != _PARAMETER.split(narrow):
        return False
    pairs = zip(_PARAMETER.findall(wide), _PARAMETER.findall(narrow), strict=True)
    return all(one in (other, _ALL) or (one == _TEXT and other != _ALL) for one, other in pairs)


_EXPRESSIONS: Final = {name: f"({each.regex})" for name, each in CONVERTOR_TYPES.items()}
_PARAMETER: Final = re.compile("|".join(map(re.escape, _EXPRESSIONS.values())))
_TEXT: Final = _EXPRESSIONS["str"]
_ALL: Final = _EXPRESSIONS["path"]


def _divides(one: float, other: float) -> bool:
    return Fraction(str(other)) % Fraction(str(one)) == 0


def _a(kind: str) -> str:
    return kind if kind == "null" else f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _default(schema: Any) -> str:
    return to_json(schema["default"]).decode() if isinstance(schema, dict) and "default" in schema else "none"


def _changed(way: Way, where: str, what: str, narrower: bool) -> Change:
    return Change("breaking" if narrower == (way == "sent") else "compatible", where, what)


def _members(schema: Any, shared: Mapping[str, Schema], depth: int = 0) -> list[Schema] | None:
    """The alternatives that a schema has, each of one kind; None where it may be anything."""
    if depth > 32 or not isinstance(schema, dict):
        return None
    if "$ref" in schema:
        return _members(shared.get(schema["$ref"].removeprefix(FOLDER)), shared, depth + 1)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            found = [_members(each, shared, depth + 1) for each in schema[word]]
            return None if None in found else [each for group in found for each in group or ()]
    if "allOf" in schema:
        return _together(schema, shared, depth)
    if "const" in schema or "enum" in schema:
        return [schema]
    kinds = schema.get("type")
    if kinds is None:
        return None if "properties" not in schema else [{**schema, "type": "object"}]
    return [{**schema, "type": kind} for kind in ([kinds] if isinstance(kinds, str) else kinds)]


def _together(schema: Schema, shared: Mapping[str, Schema], depth: int) -> list[Schema] | None:
    own = {key: value for key, value in schema.items() if key != "allOf"}
    found: list[Schema] = [{}]
    for part in schema["allOf"]:
        members = _members(part, shared, depth + 1)
        if members is not None:
            found = [{**one, **other} for one in found for other in members]
    return None if found == [{}] else [{**each, **own} for each in found]


def _kinds(members: Iterable[Schema]) -> set[str]:
    return {each["type"] for each in members if "const" not in each and "enum" not in each}


def _missing(kinds: set[str], others: set[str]) -> set[str]:
    return {kind for kind in kinds - others if not (kind == "integer" and "number" in others)}


def _values(members: Iterable[Schema]) -> dict[str, Any]:
    """The single values among the alternatives, by their JSON."""
    found: list[Any] = []
    for each in members:
        found += [each["const"]] if "const" in each else each.get("enum", [])
    return {to_json(value).decode(): value for value in found}


def _covers(kinds: set[str], value: Any) -> bool:
    own = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}.get(
        type(value)
    )
    return own in kinds or (own == "integer" and "number" in kinds)


def _of_kind(members: Iterable[Schema], kind: str) -> list[Schema]:
    return [
        each for each in members if each.get("type") == kind and "enum" not in each and "const" not in each
    ]


def _pairs(old: list[Schema], new: list[Schema]) -> Iterator[tuple[Schema | None, Schema | None]]:
    """Each with its like; of objects by what tells them apart, else in their order. Nothing where one side
    has none: that the kind is gone, or new, is said elsewhere."""
    if not old or not new:
        return
    left = list(new)
    for each in old:
        like = next((other for other in left if _mark(other) == _mark(each)), None)
        if like is None and len(old) == len(new) == 1:
            like = left[0]
        if like is not None:
            left = [other for other in left if other is not like]
        yield each, like
    for other in left:
        yield None, other


def _mark(schema: Schema) -> Any:
    fields = schema.get("properties", {})
    fixed = {name: to_json(each["const"]) for name, each in fields.items() if "const" in each}
    return fixed or schema.get("title") or sorted(fields)


def _bounds(old: Schema, new: Schema, way: Way, where: str) -> Iterator[Change]:
    for word in (*_AT_MOST, *_AT_LEAST, *_AS_IT_IS):
        before, after = old.get(word), new.get(word)
        if before == after:
            continue
        said = f"{word} {'none' if before is None else before} → {'none' if after is None else after}"
        if before is None or after is None:
            yield _changed(way, where, said, narrower=before is None)
        else:
            wider, narrower = _is_wider(word, before, after), _is_wider(word, after, before)
            yield (
                Change("breaking", where, said) if wider == narrower else _changed(way, where, said, narrower)
            )


def _is_wider(word: str, old: Any, new: Any) -> bool:
    """Whether a bound allows all that it did; what cannot be compared does not."""
    if word in _AT_MOST:
        return bool(new > old)
    if word in _AT_LEAST:
        return bool(new < old)
    return holds(new, old) if word == "pattern" else word == "multipleOf" and _divides(new, old)
