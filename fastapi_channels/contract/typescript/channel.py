"""One channel of the document as interfaces: what is called, what is told, what travels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from fastapi_channels.contract.parsed import Parsed, field, last_of, role, without
from fastapi_channels.contract.schemas import Schema
from fastapi_channels.sessions.plan import CATCH_ALL
from fastapi_channels.wire.messages import WINDOW

from .text import Member, comment, declared, members, quoted, tuple_of, union
from .types import EMPTY, UNKNOWN, Types, member

EVENTS: Final = "{ [name: string]: unknown }"
CALLS: Final = "{ [name: string]: { data: unknown; answer: unknown } }"
"""What the server tells, and asks for, where the channel does not say it."""
_OF_SCHEMES: Final[Sequence[str]] = ("type", "scheme", "in", "name")
"""What a client has to know of a security scheme."""
_STRING: Final[Schema] = {"type": "string"}


class Own(NamedTuple):
    """The names of the types of one channel."""

    channel: str
    sent: str
    received: str
    sent_other: str
    received_other: str
    """Of the frames for actions that catch other names: beside the named ones they would allow everything."""
    rooms: Mapping[str, str]
    """Of the channels that a socket leads to, by their names in the document."""


class Written:
    """The types of one channel of the document.

    Args:
        key: its name there.
    """

    def __init__(self, parsed: Parsed, key: str, own: Own, types: Types) -> None:
        self._parsed = parsed
        self._own = own
        self._types = types
        self._channel = parsed.channels[key]
        self._operations = list(parsed.operations(key).values())
        self._asked = parsed.handshake(key)
        self._names: Mapping[str, Any] = self._channel["x-envelope"]
        self._many: bool = self._channel.get("x-many-rooms", False)

    def text(self) -> Iterator[str]:
        """The interface of the channel, those of its rooms, and the frames."""
        own, ways = self._own, {"receive": self._own.sent, "send": self._own.received}
        found = [
            Member("address", quoted(self._channel["address"])),
            member("parameters", self._parameters, 0),
            *self._handshake(),
            *self._security(),
            *(self._rooms() if self._many else self._talk(self._operations)),
            *(() if self._many else self._presence()),
            Member("sent", ways["receive"]),
            Member("received", ways["send"]),
        ]
        about = comment(self._channel.get("description", ""), 0)
        yield f"{about}export interface {own.channel} {members(found, 0)}\n"
        for name, interface in own.rooms.items():
            yield self._room(name, interface)
        sent, received = self._travelling("receive"), self._travelling("send")
        yield self._frames(own.sent, f"What a client of {own.channel} may send.", sent)
        yield self._frames(own.received, f"What a client of {own.channel} receives.", received)
        others = list(self._travelling("receive", catching=True))
        if others:
            about = f"What a client of {own.channel} may send by a name that no action has alone."
            yield self._frames(own.sent_other, about, others)
            answers = self._travelling("send", catching=True)
            yield self._frames(own.received_other, f"What answers {own.sent_other}.", answers)

    # What is called, and what is told

    def _parameters(self, indent: int, used: int) -> str:
        found = [
            member(name, partial(self._types.type, each.get("x-schema", _STRING)), indent)
            for name, each in self._channel.get("parameters", {}).items()
        ]
        return members(found, indent) if found else EMPTY

    def _handshake(self) -> Iterator[Member]:
        for name, schema in self._asked.items():
            yield self._typed(name, {**schema, "additionalProperties": False}, 0)

    def _security(self) -> Iterator[Member]:
        """How one signs in, as literals: a client library puts the credential where they say."""
        asked = [each for operation in self._operations for each in operation.get("security", ())]
        asked += self._channel.get("x-authentication", {}).get("sources", ())
        names = dict.fromkeys(map(last_of, asked))
        found = {name: _literals(self._parsed.security[name]) for name in names}
        if found:
            yield self._typed("security", _closed(found), 0)

    def _rooms(self) -> Iterator[Member]:
        # In their order: the first that fits a name has the room.
        names = list(self._own.rooms.values())
        yield member("rooms", lambda at, used: tuple_of(names, at, used), 0)

    def _room(self, name: str, interface: str) -> str:
        mine = [each for each in self._operations if each.get("x-channel") == name]
        room = self._channel["x-rooms"][name]
        found = [self._typed("room", room, 0), *self._talk(mine), *self._presence(name)]
        return f"export interface {interface} {members(found, 0)}\n"

    def _talk(self, operations: Iterable[Schema]) -> Iterator[Member]:
        write = {"request": self._action, "event": self._event, "call": self._call}
        found: dict[str, list[Member]] = {role: [] for role in write}
        events = calls = EMPTY
        for each in operations:
            kind = role(each["messages"][0])
            if kind in write:
                found[kind].append(write[kind](each))
            elif kind == "any":
                events = EVENTS
            elif kind == "asked":
                calls = CALLS
        yield Member("actions", members(found["request"], 2) if found["request"] else EMPTY)
        yield Member("events", members(found["event"], 2) if found["event"] else events)
        yield Member("calls", members(found["call"], 2) if found["call"] else calls)

    def _presence(self, name: str | None = None) -> Iterator[Member]:
        """What is said of those who are shown in the rooms; of one channel of several, by its name."""
        shown = {each["channel"] for each in self._channel.get("x-presence", ())}
        if shown and (name is None or name in shown):
            # An action, or an event, may have this name too.
            named = (each["messages"][0] for each in self._operations if each["title"] == "presence")
            state = self._parsed.payload(next(each for each in named if role(each) == "control"))
            devices = state["properties"]["present"]["items"]
            yield self._typed("presence", devices["properties"]["data"], 0)

    def _event(self, operation: Schema) -> Member:
        data = self._data(operation["messages"][0])
        return self._typed(operation["title"], data, 2, operation.get("description", ""))

    def _call(self, operation: Schema) -> Member:
        asked, answer = operation["messages"][0], operation["reply"]["messages"][0]
        found = [self._typed("data", self._data(asked), 4), self._typed("answer", self._data(answer), 4)]
        about = operation.get("description", "")
        return member(operation["title"], lambda at, _: members(found, at), 2, about=about)

    def _action(self, operation: Schema) -> Member:
        request = self._parsed.payload(operation["messages"][0])
        answers = {role(each): each for each in operation["reply"]["messages"]}
        codes = self._parsed.payload(answers["error"])["properties"][self._names["code"]]["anyOf"][0]
        found = [
            self._typed("payload", self._payload(request, streams="x-stream" in operation), 4),
            *(
                self._typed(each, self._data(answers[each]) if each in answers else False, 4)
                for each in ("reply", "item")
            ),
            self._typed("error", codes, 4),
        ]
        said = [operation.get("summary", ""), operation.get("description", "")]
        said += ["@deprecated"] if "x-deprecated" in operation or "x-sunset" in operation else []
        return member(
            operation["title"], lambda at, _: members(found, at), 2, about="\n".join(filter(None, said))
        )

    def _payload(self, request: Schema, *, streams: bool) -> Schema:
        """What an action takes, without what is around it."""
        names = self._names
        if names["payload"] is not None:
            inner: Schema | None = field(request, names["payload"])
            return {"type": "object"} if inner is None else inner
        around = {names["action"], names["request_id"], *([names["channel"]] if self._many else [])}
        around |= {WINDOW} if streams else set()
        found = without(request, around)
        return found if found.get("properties", True) else {"additionalProperties": False, **found}

    def _data(self, reference: Schema) -> Any:
        return self._parsed.payload(reference)["properties"][self._names["data"]]

    def _typed(self, name: str, schema: Any, indent: int, about: str = "") -> Member:
        return member(name, lambda at, used: self._types.type(schema, at, used), indent, about=about)

    # What travels

    def _travelling(self, way: str, *, catching: bool = False) -> Iterator[Schema]:
        """What one side says, and what it answers to the other; of actions that catch other names apart."""
        for each in (each for each in self._operations if _catches(each) is catching):
            answers = each.get("reply", {}).get("messages", ())
            yield from each["messages"] if each["action"] == way else answers

    def _frames(self, name: str, about: str, messages: Iterable[Schema]) -> str:
        schemas = {each["$ref"]: self._parsed.payload(each) for each in messages}
        found = [text for each in schemas.values() for text in self._types.alternatives(each)]
        frames = UNKNOWN if UNKNOWN in found else union(found, 0, len(f"export type {name} = ;"))
        return comment(about, 0) + declared(name, frames)


def _catches(operation: Schema) -> bool:
    return role(operation["messages"][0]) == "request" and operation["title"].endswith(CATCH_ALL)


def _literals(scheme: Schema) -> Schema:
    said = {word: {"const": scheme[word]} for word in _OF_SCHEMES if word in scheme}
    return {**_closed(said), "description": scheme.get("description", "")}


def _closed(fields: Schema) -> Schema:
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }
