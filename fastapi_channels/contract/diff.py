"""Two AsyncAPI documents of one application: what a client of the old one meets with the new."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from .compared import Change, Compared, Kind, Way
from .parsed import Parsed, role
from .schemas import Schema

_HANDSHAKE: Final = {"query": "the query", "headers": "the headers", "x-cookies": "the cookies"}
_ORDER: Final = ("breaking", "compatible", "cosmetic")
_ABOUT: Final = ("summary", "description", "tags", "title")
_INFO: Final = ("info", "servers")


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

    def changes(self) -> Iterator[Change]:
        for word in _INFO:
            if self._old.whole.get(word) != self._new.whole.get(word):
                yield Change("cosmetic", word, "is said otherwise")
        before, after = _addresses(self._old), _addresses(self._new)
        for address in sorted(before.keys() - after.keys()):
            yield Change("breaking", address, "is gone")
        for address in sorted(after.keys() - before.keys()):
            yield Change("compatible", address, "is new")
        for address in before:
            if address in after:
                yield from self._channel(address, before[address], after[address])

    def _channel(self, where: str, old: str, new: str) -> Iterator[Change]:
        before, after = self._old.channels[old], self._new.channels[new]
        if old != new or before.get("description") != after.get("description"):
            yield Change("cosmetic", where, "is said otherwise")
        yield from _rules(before, after, where)
        yield from self._handshake(before, after, where)
        calls, later = _operations(self._old, old), _operations(self._new, new)
        for key, one in calls.items():
            place = f"{where} {one['title']}"
            if key not in later:
                yield Change("compatible" if _is_call(one) else "breaking", place, "is gone")
            else:
                yield from self._operation(place, one, later[key])
        for key in (key for key in later if key not in calls):
            # Who does not know the call leaves the server without an answer.
            kind: Kind = "breaking" if _is_call(later[key]) else "compatible"
            yield Change(kind, f"{where} {later[key]['title']}", "is new")

    def _handshake(self, old: Schema, new: Schema, where: str) -> Iterator[Change]:
        for key, about in _HANDSHAKE.items():
            before = {**old.get("bindings", {}), **old.get("bindings", {}).get("ws", {})}.get(key, _NOTHING)
            after = {**new.get("bindings", {}), **new.get("bindings", {}).get("ws", {})}.get(key, _NOTHING)
            yield from self._schemas.changes(before, after, "sent", f"{where} {about} of the handshake")

    def _operation(self, where: str, old: Schema, new: Schema) -> Iterator[Change]:
        if any(old.get(word) != new.get(word) for word in _ABOUT):
            yield Change("cosmetic", where, "is said otherwise")
        yield from _rules(old, new, where)
        yield from self._messages(old["messages"], new["messages"], _way(old), where)
        answers, later = old.get("reply", {}).get("messages", ()), new.get("reply", {}).get("messages", ())
        yield from self._messages(answers, later, "sent" if _way(old) == "received" else "received", where)

    def _messages(self, old: Any, new: Any, way: Way, where: str) -> Iterator[Change]:
        before = {role(each): self._old.payload(each) for each in old}
        after = {role(each): self._new.payload(each) for each in new}
        for each, payload in before.items():
            if each in after:
                yield from self._schemas.changes(payload, after[each], way, f"{where}, {each}")
            else:
                yield Change("breaking", f"{where}, {each}", "is gone")
        for each in sorted(after.keys() - before.keys()):
            # Who did not wait for a reply takes one; who waited for one does not know of several.
            kind: Kind = "breaking" if before and each in ("item", "end") else "compatible"
            yield Change(kind, f"{where}, {each}", "is new")


_NOTHING: Final[Schema] = {"type": "object", "properties": {}}


def _addresses(document: Parsed) -> dict[str, str]:
    """The names of the channels, by address: a class may be renamed. Of two at one, each has its name too."""
    found: dict[str, str] = {}
    for name, channel in document.channels.items():
        address = channel["address"]
        found[address if address not in found else f"{address} {name}"] = name
    return found


def _operations(document: Parsed, channel: str) -> dict[tuple[Any, ...], Schema]:
    """Those of one channel, by what a client knows of them."""
    mine = document.operations(channel)
    return {(role(each["messages"][0]), each.get("x-channel"), each["title"]): each for each in mine}


def _is_call(operation: Schema) -> bool:
    return role(operation["messages"][0]) in ("call", "asked")


def _way(operation: Schema) -> Way:
    return "sent" if operation["action"] == "receive" else "received"


def _rules(old: Schema, new: Schema, where: str) -> Iterator[Change]:
    if not old.get("x-deprecated") and new.get("x-deprecated"):
        yield Change("breaking", where, "is refused now: deprecated")
    elif old.get("x-deprecated") and not new.get("x-deprecated"):
        yield Change("compatible", where, "is served again")
    if old.get("x-sunset") != new.get("x-sunset"):
        yield Change("compatible", where, f"its sunset: {new.get('x-sunset', 'none')}")
    for word, about in (("x-permissions", "asks for"), ("security", "wants"), ("x-room-patterns", "rooms")):
        before, after = old.get(word, []), new.get(word, [])
        for each in (each for each in after if each not in before):
            # Without a pattern before there was any room; one more pattern allows more of them.
            narrower = word != "x-room-patterns" or not before
            yield Change("breaking" if narrower else "compatible", where, f"{about} {_text(each)} now")
        for each in (each for each in before if each not in after):
            narrower = word == "x-room-patterns" and bool(after)
            yield Change("breaking" if narrower else "compatible", where, f"{about} {_text(each)} no more")
    yield from _rates(old.get("x-rate-limits", []), new.get("x-rate-limits", []), where)


def _rates(old: list[Any], new: list[Any], where: str) -> Iterator[Change]:
    for rate in new:
        if rate not in old:
            allowed = any(_at_most(each, rate) for each in old)
            yield Change("compatible" if allowed else "breaking", where, f"the rate {_text(rate)} is new")
    for rate in old:
        if rate not in new:
            yield Change("compatible", where, f"the rate {_text(rate)} is gone")


def _at_most(rate: Any, other: Any) -> bool:
    """Whether who keeps to `rate` keeps to `other`."""
    if "times" not in rate or "times" not in other:
        return False
    return bool(rate["times"] <= other["times"] and rate["seconds"] >= other["seconds"])


def _text(value: Any) -> str:
    if isinstance(value, dict) and "times" in value:
        return f"{value['times']} in {value['seconds']:g} s"
    if isinstance(value, dict):
        return str(next(iter(value.values()), "")).rpartition("/")[2]
    return str(value)
