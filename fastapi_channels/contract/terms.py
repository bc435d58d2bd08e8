"""On what terms a channel and its operations are served, in two documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from pydantic_core import to_json

from fastapi_channels.wire.rooms import RoomPattern

from .compared import Change, Kind, holds
from .frames import room_name
from .parsed import Parsed, last_of, numeral
from .schemas import Schema

_NOBODY: Final[Schema] = {"required": False, "sources": []}


class Terms:
    def __init__(self, old: Parsed, new: Parsed) -> None:
        self._old = old
        self._new = new

    def of_channel(self, old: Schema, new: Schema, where: str) -> Iterator[Change]:
        """What has changed for all of its operations."""
        yield from self._authentication(old, new, where)
        yield from _named("asks for", old.get("x-permissions", []), new.get("x-permissions", []), where)
        yield from _patterns(old.get("x-room-patterns", []), new.get("x-room-patterns", []), where)
        yield from _rates(old.get("x-rate-limits", []), new.get("x-rate-limits", []), where)
        if _is_binary(old) != _is_binary(new):
            yield Change("breaking", where, f"frames are {'binary' if _is_binary(new) else 'texts'} now")
        many = new.get("x-many-rooms", False)
        yield from _topics(old.get("x-topics", []), new.get("x-topics", []), where, many)
        for word, said in (("x-history", _history), ("x-presence", _presence)):
            yield from _kept(old.get(word, []), new.get(word, []), said, where, many)

    def of_operation(self, old: Schema, new: Schema, where: str) -> Iterator[Change]:
        """What has changed for one operation alone."""
        if not old.get("x-deprecated") and new.get("x-deprecated"):
            yield Change("breaking", where, "is refused now: deprecated")
        elif old.get("x-deprecated") and not new.get("x-deprecated"):
            yield Change("compatible", where, "is served again")
        if old.get("x-sunset") != new.get("x-sunset"):
            yield Change("compatible", where, f"its sunset: {new.get('x-sunset', 'none')}")
        yield from _named("asks for", old.get("x-permissions", []), new.get("x-permissions", []), where)
        yield from _named("wants", _asked(self._old, old), _asked(self._new, new), where)
        yield from _rates(old.get("x-rate-limits", []), new.get("x-rate-limits", []), where)

    def _authentication(self, old: Schema, new: Schema, where: str) -> Iterator[Change]:
        before, after = (each.get("x-authentication", _NOBODY) for each in (old, new))
        if before["required"] != after["required"]:
            said = "refuses who brings nothing" if after["required"] else "lets in who brings nothing"
            yield Change("breaking" if after["required"] else "compatible", where, f"{said} now")
        if after is _NOBODY:  # then whatever is brought is not looked at
            return
        sources, later = _schemes(self._old, before["sources"]), _schemes(self._new, after["sources"])
        for each in (each for each in sources if each not in later):
            yield Change("breaking", where, f"takes {each} no more")
        for each in (each for each in later if each not in sources):
            yield Change("compatible", where, f"takes {each} now")
        within, since = before.get("firstFrame"), after.get("firstFrame")
        if within is not None and since is not None and within != since:
            said = f"waits {numeral(since)} s for a first frame, not {numeral(within)} s"
            yield Change("breaking" if since < within else "compatible", where, said)


def _is_binary(channel: Schema) -> bool:
    return bool(channel["x-envelope"].get("binary"))


def _asked(document: Parsed, operation: Schema) -> list[str]:
    """How one signs in for it; what its channel's authenticator takes is said of the channel."""
    channel = document.channels[last_of(operation["channel"])]
    sources = channel.get("x-authentication", _NOBODY)["sources"]
    return _schemes(document, (each for each in operation.get("security", []) if each not in sources))


def _schemes(document: Parsed, references: Iterable[Schema]) -> list[str]:
    """Each in words that say all of it, so that these are compared."""
    return [_scheme(document.scheme(each)) for each in references]


def _scheme(scheme: Schema) -> str:
    if scheme["type"] == "httpApiKey":
        return f"{scheme['name']} in the {scheme['in']}"
    if scheme["type"] == "http":
        return f"{scheme['scheme']} in the header"
    return to_json(scheme).decode()


def _named(about: str, old: list[str], new: list[str], where: str) -> Iterator[Change]:
    """What a client has to be, or to bring."""
    for each in (each for each in new if each not in old):
        yield Change("breaking", where, f"{about} {each} now")
    for each in (each for each in old if each not in new):
        yield Change("compatible", where, f"{about} {each} no more")


def _patterns(old: list[str], new: list[str], where: str) -> Iterator[Change]:
    gone, come = [each for each in old if each not in new], [each for each in new if each not in old]
    names = {each: room_name(RoomPattern(each))["pattern"] for each in (*gone, *come)}
    likes = {each: next((one for one in come if holds(names[one], names[each])), None) for each in gone}
    for each in (each for each in come if each not in likes.values()):
        # Without a pattern before there was any room; one more pattern allows more of them.
        yield Change("compatible" if old else "breaking", where, f"rooms {each} now")
    for each, like in likes.items():
        if like is None:
            yield Change("breaking" if new else "compatible", where, f"rooms {each} no more")
        else:
            kind: Kind = "cosmetic" if names[each] == names[like] else "compatible"
            yield Change(kind, where, f"rooms {each} → {like}")


def _topics(old: list[Schema], new: list[Schema], where: str, many: bool) -> Iterator[Change]:
    """Whether rooms are filters of topics. Who joins one by a name without wildcards sees no difference."""
    before, after = ([each["channel"] if many else "" for each in found] for found in (old, new))
    for each in (each for each in before if each not in after):
        yield Change("breaking", f"{where} {each}".strip(), "its rooms are filters of topics no more")
    for each in (each for each in after if each not in before):
        yield Change("compatible", f"{where} {each}".strip(), "its rooms are filters of topics now")


def _kept(
    old: list[Schema], new: list[Schema], said: Callable[[Schema], str], where: str, many: bool
) -> Iterator[Change]:
    """How long a room's history is, or how often it shows who is there; that either is gone, or new, is seen
    in the frames.

    Args:
        many: whether there are several channels; of one alone the class may have another name.
    """
    later = {each["channel"] if many else where: said(each) for each in new}
    for each in old:
        name = each["channel"] if many else where
        if later.get(name, said(each)) != said(each):
            yield Change("compatible", f"{where} {name}" if many else where, f"{said(each)} → {later[name]}")


def _history(each: Schema) -> str:
    return f"keeps {each['publications']} for {numeral(each['seconds'])} s"


def _presence(each: Schema) -> str:
    interval, grace = numeral(each["interval"]), numeral(each["grace"])
    return f"shows who is there every {interval} s, who has left for {grace} s"


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
    # One budget that is new counts what others use up too.
    same = other.get("budget", "") in ("", rate.get("budget", ""))
    return bool(same and _calls(rate) <= _calls(other) and rate["seconds"] >= other["seconds"])


def _calls(rate: Any) -> int:
    """How many calls a rate allows: each may cost more than one."""
    calls: int = rate["times"] // rate.get("cost", 1)
    return calls


def _text(value: Any) -> str:
    if isinstance(value, dict) and "times" in value:
        cost = f", {value['cost']} for a call" if "cost" in value else ""
        budget = f", of the budget {value['budget']}" if "budget" in value else ""
        return f"{value['times']} in {numeral(value['seconds'])} s{cost}{budget}"
    if isinstance(value, dict):
        return str(next(iter(value.values()), "")).rpartition("/")[2]
    return str(value)
