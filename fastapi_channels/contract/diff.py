"""Two AsyncAPI documents of one application: what a client of the old one meets with the new."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from .compared import Change, Compared, Kind, Way
from .handshake import TEXTS
from .parsed import PLACES, Parsed, role, without
from .schemas import Schema
from .terms import Terms

_ORDER: Final = ("breaking", "compatible", "cosmetic")
_ABOUT: Final = ("summary", "description", "tags")


def diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """What has changed, the breaking first.

    Breaking is what a client that is right by the old document may fail at: something that it sends is
    refused, or it receives what it does not know, or no more what it counts on.

    Args:
        old, new: AsyncAPI documents of `fastapi-channels asyncapi`.
    """
    found = dict.fromkeys(_Diff(old, new).changes())
    return sorted(found, key=lambda change: _ORDER.index(change.kind))


class _Diff:
    def __init__(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        self._old = Parsed(old)
        self._new = Parsed(new)
        self._schemas = Compared(self._old.schemas, self._new.schemas)
        self._terms = Terms(self._old, self._new)

    def changes(self) -> Iterator[Change]:
        before, after = self._old.whole, self._new.whole
        yield from _told(before.get("info", {}), after.get("info", {}), "info")
        yield from _told(before, after, "servers", ("servers",))
        channels, later = _addresses(self._old), _addresses(self._new)
        for address in sorted(channels.keys() - later.keys()):
            yield Change("breaking", address, "is gone")
        for address in sorted(later.keys() - channels.keys()):
            yield Change("compatible", address, "is new")
        for address in channels:
            if address in later:
                yield from self._channel(address, channels[address], later[address])

    def _channel(self, where: str, old: str, new: str) -> Iterator[Change]:
        before, after = self._old.channels[old], self._new.channels[new]
        yield from _told({**before, "name": old}, {**after, "name": new}, where, ("name", "description"))
        yield from self._terms.of_channel(before, after, where)
        yield from self._parameters(before, after, where)
        yield from self._handshake(old, new, where)
        calls, later = _operations(self._old, old), _operations(self._new, new)
        for key, one in calls.items():
            place = f"{where} {one['title']}"
            if key in later:
                yield from self._terms.of_operation(one, later[key], place)
                yield from self._operation(place, one, later[key])
            elif key[0] == "any" and any(each[:2] == ("event", key[1]) for each in later):
                yield Change("compatible", place, "is one of those that are declared now")
            else:
                yield Change("compatible" if _is_call(one) else "breaking", place, "is gone")
        for key in (key for key in later if key not in calls):
            # Who does not know the call leaves the server without an answer.
            # Where none was declared, it could be any.
            is_unknown = _is_call(later[key]) and ("asked", key[1], "call") not in calls
            yield Change(
                "breaking" if is_unknown else "compatible", f"{where} {later[key]['title']}", "is new"
            )

    def _parameters(self, old: Schema, new: Schema, where: str) -> Iterator[Change]:
        same_rooms = old.get("x-room-patterns") == new.get("x-room-patterns")
        later = new.get("parameters", {})
        for name, parameter in old.get("parameters", {}).items():
            if name in later and (same_rooms or name != "channel"):
                before, after = parameter.get("x-schema", _NOTHING), later[name].get("x-schema", _NOTHING)
                place = f"{where} the parameter {name}"
                if _is_widened(before, after):
                    yield Change("compatible", place, _WIDENED)
                else:
                    yield from self._schemas.changes(before, after, "sent", place)

    def _handshake(self, old: str, new: str, where: str) -> Iterator[Change]:
        before, after = self._old.handshake(old), self._new.handshake(new)
        for place in PLACES:
            about = f"{where} the {place} of the handshake"
            one, other = before.get(place, _NOTHING), after.get(place, _NOTHING)
            fields, later = one["properties"], other["properties"]
            needed = {*other.get("required", ())} - {*one.get("required", ())}
            wider = [each for each in fields.keys() & later.keys() if _is_widened(fields[each], later[each])]
            wider = sorted(each for each in wider if each not in needed)
            for name in wider:
                yield Change("compatible", f"{about}.{name}", _WIDENED)
            yield from self._schemas.changes(without(one, wider), without(other, wider), "sent", about)

    def _operation(self, where: str, old: Schema, new: Schema) -> Iterator[Change]:
        yield from _told(old, new, where, _ABOUT)
        yield from self._messages(old["messages"], new["messages"], _way(old), where)
        answers, later = old.get("reply", {}).get("messages", ()), new.get("reply", {}).get("messages", ())
        yield from self._messages(answers, later, "sent" if _way(old) == "received" else "received", where)
        yield from self._codes([*old["messages"], *answers], [*new["messages"], *later], where)

    def _codes(self, old: Iterable[Schema], new: Iterable[Schema], where: str) -> Iterator[Change]:
        """Of errors on both sides: who reads a code takes another one as well."""
        before = {code for each in old if role(each) == "error" for code in self._old.codes(each)}
        after = {code for each in new if role(each) == "error" for code in self._new.codes(each)}
        for code in sorted(before ^ after) if before and after else ():
            said = "is new" if code in after else "is gone"
            yield Change("compatible", f"{where}, error", f"the code {code} {said}")

    def _messages(self, old: Any, new: Any, way: Way, where: str) -> Iterator[Change]:
        before = {role(each): self._old.message(each) for each in old}
        after = {role(each): self._new.message(each) for each in new}
        for each, one in before.items():
            other, place = after.get(each), f"{where}, {each}"
            if other is None:
                yield Change("breaking", place, "is gone")
                continue
            yield from self._schemas.changes(one["payload"], other["payload"], way, place)
            if one.get("contentType") != other.get("contentType"):
                yield Change("breaking", place, f"is {_form(other)} now, not {_form(one)}")
            if _is_for_some(one) and not _is_for_some(other):
                yield Change("compatible", place, "comes to everybody now")
            elif _is_for_some(other) and not _is_for_some(one):
                name = other["x-subprotocol"]
                yield Change("breaking", place, f"comes only to who has offered {name} now")
        for each, other in sorted(after.items()):
            if each not in before and not _is_for_some(other):
                # Who did not wait for a reply takes one; who waited for one does not know of several.
                kind: Kind = "breaking" if before and each in ("item", "end") else "compatible"
                yield Change(kind, f"{where}, {each}", "is new")


_NOTHING: Final[Schema] = {"type": "object", "properties": {}}
_WORDS: Final = frozenset({"title", "description", "examples", "default"})
"""What a schema says and does not ask."""


def _told(
    old: Mapping[str, Any], new: Mapping[str, Any], where: str, words: Iterable[str] | None = None
) -> Iterator[Change]:
    """What is otherwise in words alone: in these of them, or in all."""
    found = [each for each in words or dict.fromkeys((*old, *new)) if old.get(each) != new.get(each)]
    if found:
        yield Change("cosmetic", where, f"another {', '.join(found)}")


_WIDENED: Final = "may be any text now"


def _is_widened(old: Schema, new: Schema) -> bool:
    """Whether what stands in a URL or a header may be whatever can stand there: it is a text in any case."""
    return _is_any_text(new) and not _is_any_text(old)


def _is_any_text(schema: Schema) -> bool:
    forms = [each for each in schema.get("anyOf", [schema]) if each != {"type": "null"}]
    asked = [{word: each for word, each in form.items() if word not in _WORDS} for form in forms]
    return len(asked) == 1 and asked[0] in TEXTS


def _addresses(document: Parsed) -> dict[str, str]:
    """The names of the channels, by address: a class may be renamed. Of two at one, each has its name too."""
    found: dict[str, str] = {}
    for name, channel in document.channels.items():
        address = channel["address"]
        found[address if address not in found else f"{address} {name}"] = name
    return found


def _operations(document: Parsed, channel: str) -> dict[tuple[Any, ...], Schema]:
    """Those of one channel, by what a client knows of them."""
    mine = document.operations(channel).values()
    return {(role(each["messages"][0]), each.get("x-channel"), each["title"]): each for each in mine}


def _is_for_some(message: Schema) -> bool:
    """Whether it comes to those alone that have offered a subprotocol: others do not know of it."""
    return "x-subprotocol" in message


def _form(message: Schema) -> str:
    return str(message.get("contentType", "JSON"))


def _is_call(operation: Schema) -> bool:
    return role(operation["messages"][0]) in ("call", "asked")


def _way(operation: Schema) -> Way:
    return "sent" if operation["action"] == "receive" else "received"
