"""The schemas of the frames: the protocol, with the names that one envelope gives to its fields."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, get_args

from fastapi_channels.auth.authenticator import MAX_TOKEN
from fastapi_channels.cluster.recovery import Reason
from fastapi_channels.sessions.plan import CATCH_ALL
from fastapi_channels.sessions.socket_session import CHANNELS
from fastapi_channels.topics.pattern import TopicPattern
from fastapi_channels.wire.messages import MAX_REQUEST_ID, MAX_WINDOW, WINDOW, Envelope
from fastapi_channels.wire.positions import POSITION
from fastapi_channels.wire.rooms import MAX_ROOM, RoomPattern

from .schemas import Schema, Schemas

REQUEST_ID: Final[Schema] = {"type": ["string", "number", "null"], "maxLength": MAX_REQUEST_ID}
ANYTHING: Final[Schema] = {}
_TEXT: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "integer"}
_SOMETHING: Final[Schema] = {"not": {"type": "null"}}
_POSITION: Final[Schema] = {"type": "string", "pattern": POSITION}
SINCE: Final[Schema] = {"since": _POSITION, "connection": _TEXT}
"""Where a client has been that comes back to a room with history."""
_SECONDS: Final[Schema] = {"type": "number", "minimum": 0}
_POSITIVE: Final[Schema] = {"type": "integer", "minimum": 1}
_ITEMS: Final[Schema] = {**_POSITIVE, "description": f"Items; above {MAX_WINDOW} is as many."}


def const(value: Any) -> Schema:
    return {"const": value}


def room_name(pattern: RoomPattern | None) -> Schema:
    """A room's name, as far as a regular expression says it."""
    schema: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_ROOM}
    if pattern is None:
        return schema
    expression = _filters(pattern) if isinstance(pattern, TopicPattern) else _expression(pattern)
    return {**schema, "pattern": f"^{expression}$"}


def room_example(pattern: RoomPattern | None) -> str:
    """The name of some room."""
    if pattern is None:
        return "lobby"
    return _PARAMETER.sub(lambda found: _EXAMPLES.get(found[2], found[1]), pattern.pattern)


def action_name(name: str) -> Schema:
    """The action's name in a frame; that of an action which catches others is how theirs begin."""
    if name[-1] != CATCH_ALL:
        return const(name)
    return {"type": "string", "pattern": "^" + _escaped(name[:-1])}


class Frames:
    """The frames of one WebSocket.

    Args:
        envelope: that of its channels.
        schemas: where payloads are looked up.
        max_joins: how many rooms a join may name; None where there is one, which no frame names.
        keeps: whether a room has a history.
        data: what is said of those who are shown in a room; None where nobody is.
    """

    def __init__(
        self,
        envelope: Envelope,
        schemas: Schemas,
        *,
        max_joins: int | None,
        keeps: bool = False,
        data: Schema | None = None,
    ) -> None:
        self._names = envelope
        self._schemas = schemas
        self._many_rooms = max_joins is not None
        self._max_joins = max_joins
        self._keeps = keeps
        self._data = data

    def request(
        self,
        name: str,
        payload: Schema | None,
        room: Schema,
        *,
        may_be_empty: bool = False,
        is_open: bool = False,
        streams: bool = False,
    ) -> Schema:
        """What a client sends to call an action.

        Args:
            payload: of its fields; None where it names none.
            may_be_empty: whether they may be left out together.
            is_open: whether it takes further fields, of any name.
            streams: whether it streams its replies, and takes a window.
        """
        names = self._names
        fields = {names.action: action_name(name), names.request_id: REQUEST_ID}
        if streams:
            fields[WINDOW] = _ITEMS
        required = [names.action]
        if self._many_rooms:
            fields[names.channel] = room
            required.append(names.channel)
        further: Schema = {"additionalProperties": True} if is_open else {}
        bare = {**_object(fields, required), **further}
        if payload is None:
            inner = {"type": "object", **further}
            return bare if names.payload is None else _object({**fields, names.payload: inner}, required)
        if names.payload is not None:
            needed = not may_be_empty and self._needs_fields(payload)
            required += [names.payload] if needed else []
            return _object({**fields, names.payload: payload}, required)
        full = {**further, **self._schemas.beside(payload, fields, required)}
        return {"anyOf": [full, _object(fields, required, closed=True)]} if may_be_empty else full

    def example(self, name: str, room: str, fields: dict[str, Any]) -> dict[str, Any]:
        """A frame that calls an action with these fields."""
        names = self._names
        inner = fields if names.payload is None else {names.payload: fields}
        named = {names.channel: room} if self._many_rooms else {}
        return {names.action: name, **named, **inner}

    def reply(
        self, name: str, data: Schema, *, more: bool | None = None, sunset: str | None = None
    ) -> Schema:
        """What answers a request: once, or as one of several (`more`)."""
        names = self._names
        fields = {
            names.type: const("response"),
            names.action: action_name(name),
            names.status: const("ok"),
            names.request_id: REQUEST_ID,
            names.data: data,
        }
        if self._many_rooms:
            fields[names.channel] = _TEXT
        if more is not None:
            fields["more"] = const(more)
        if sunset is not None:
            fields |= {"deprecated": const(True), "sunset": const(sunset)}
        # Only where the request had a window.
        index = {} if more is None else {"index": {"type": "integer", "minimum": 0}}
        return _object({**fields, **index}, list(fields))

    def error(self, name: str | None, codes: Sequence[str]) -> Schema:
        """What says that something went wrong, with a code of these or of the application's own."""
        names = self._names
        fields = {
            names.type: const("response"),
            names.status: {"type": ["string", "integer"]},
            names.request_id: REQUEST_ID,
            names.data: ANYTHING,
            names.errors: ANYTHING,
            names.code: {"anyOf": [{"enum": list(codes)}, _TEXT]},
        }
        required = list(fields)
        fields[names.action] = _TEXT if name is None else action_name(name)
        if name is not None:
            required.append(names.action)
        if "rate_limited" in codes:
            fields["retry_after"] = {"type": "number", "minimum": 0}
        if self._many_rooms:
            fields[names.channel] = _TEXT
        return _object(fields, required)

    def event(self, name: str | None, data: Schema) -> Schema:
        """An event, or any where it has no name."""
        names = self._names
        said = _TEXT if name is None else const(name)
        fields = {names.type: const("event"), names.event: said, names.channel: _TEXT, names.data: data}
        return _object({**fields, **self._position()}, list(fields))

    def call(self, name: str | None, data: Schema) -> Schema:
        """What the server asks, or any of it where it has no name."""
        names = self._names
        within = {"anyOf": [_SECONDS, {"type": "null"}]}
        fields = {names.type: const("call"), "call": _TEXT if name is None else const(name)}
        return _object(
            {**fields, "call_id": _NUMBER, names.data: data, names.channel: _TEXT, "within": within}
        )

    def answer(self, data: Schema) -> Schema:
        """What a client answers to that."""
        return _object({self._names.type: const("answer"), "call_id": _NUMBER, self._names.data: data})

    def failure(self) -> Schema:
        """What it answers where it cannot."""
        return _object(
            {self._names.type: const("answer"), "call_id": _NUMBER, self._names.errors: _SOMETHING}
        )

    def of_client(self, room: Schema, *, pings: bool, streams: bool) -> dict[str, Schema]:
        """The control frames that a client sends, by name.

        Args:
            pings: whether it may be asked for a sign of life.
            streams: whether any action does.
        """
        names = self._names
        known = {"type": ["string", "number"]}
        found = {
            "cancel": _object({names.type: const("cancel"), names.request_id: known}),
            "ping": _object({names.type: const("ping")}),
        }
        if streams:
            found["credit"] = _object({names.type: const("credit"), names.request_id: known, "count": _ITEMS})
        if pings:
            found["alive"] = _object({names.type: const("pong")})
        if self._data is not None:
            where = {names.channel: room} if self._many_rooms else {}
            found["presence.ask"] = _object({names.type: const("presence"), **where})
        if self._many_rooms:
            asked: Schema = {names.channel: room, names.request_id: REQUEST_ID}
            joined = {**asked, **(SINCE if self._keeps else {})}
            items = _object(joined, [names.channel])
            some: Schema = {"type": "array", "items": items, "minItems": 1, "maxItems": self._max_joins}
            together: Schema = {names.type: const("join"), CHANNELS: some, names.request_id: REQUEST_ID}
            found["join"] = _object({names.type: const("join"), **joined}, [names.type, names.channel])
            alone: Schema = {"not": {"required": [names.channel]}}
            found["join.many"] = _object(together, [names.type, CHANNELS]) | alone
            found["leave"] = _object({names.type: const("leave"), **asked}, [names.type, names.channel])
        elif self._keeps:
            again: Schema = {names.type: const("join"), names.request_id: REQUEST_ID, "since": _POSITION}
            found["join"] = _object(again, [names.type, "since"])
        return found

    def of_server(self, *, lags: bool, resyncs: bool, pings: bool) -> dict[str, Schema]:
        """The control frames that the server sends, by name.

        Args:
            lags: whether frames may be left out for a slow client.
            resyncs: whether it is told where messages may be missing.
            pings: whether it may ask for a sign of life.
        """
        names = self._names
        ending = {"within": _SECONDS, "retry_after": _SECONDS}
        limits: Schema = {"max_message_size": _POSITIVE, "max_window": _POSITIVE}
        if self._many_rooms:
            limits["max_joins"] = _POSITIVE
        found = {
            "welcome": _object({names.type: const("welcome"), "connection": _TEXT, **limits}),
            "drain": _object({names.type: const("drain"), **ending}),
            "pong": _object({names.type: const("pong")}),
        }
        if pings:
            found["heartbeat"] = _object({names.type: const("ping")})
        if lags:
            told = {names.type: const("lagged"), names.channel: _TEXT, "dropped": _POSITIVE}
            since = {"since": _POSITION} if self._keeps else {}
            found["lagged"] = _object({**told, **since}, list(told))
        if resyncs:
            fields = {names.type: const("resync"), names.channel: _TEXT}
            found["resync"] = _object({**fields, **self._position()}, list(fields))
        found |= self._presence()
        fields = {names.type: const("joined"), names.channel: _TEXT}
        if self._keeps:
            recovery = {
                **self._position(),
                "connection": _TEXT,
                "recovered": {"type": "boolean"},
                "reason": {"enum": list(get_args(Reason))},
            }
            asked = {names.request_id: REQUEST_ID}
            required = [*fields, *asked] if self._many_rooms else fields
            found["joined"] = _object({**fields, **asked, **recovery}, list(required))
        if self._many_rooms:
            about = {names.channel: _TEXT, names.request_id: REQUEST_ID}
            why = {"close_code": {"type": "integer"}, "reason": _TEXT}
            found.setdefault("joined", _object({**fields, **about}))
            found["left"] = _object({names.type: const("left"), **about, **why}, [names.type, names.channel])
        return found

    def of_signing_in(self, *, asks: bool) -> dict[str, Schema]:
        """The frames in which a client brings a token: on its open WebSocket, and as its first.

        Args:
            asks: whether that is asked of those that brought none in the handshake.
        """
        names = self._names
        token = {"token": {"type": "string", "maxLength": MAX_TOKEN}, names.request_id: REQUEST_ID}
        kinds = ("auth", "refresh") if asks else ("refresh",)
        return {kind: _object({names.type: const(kind), **token}, [names.type, "token"]) for kind in kinds}

    def of_signed_in(self) -> dict[str, Schema]:
        """What the server says of that."""
        names = self._names
        known = {names.type: const("authenticated"), "expires_in": {"anyOf": [_SECONDS, {"type": "null"}]}}
        return {
            "authenticated": _object({**known, names.request_id: REQUEST_ID}, list(known)),
            "expiring": _object({names.type: const("expiring"), "expires_in": _SECONDS}),
        }

    def _presence(self) -> dict[str, Schema]:
        if self._data is None:
            return {}
        names = self._names
        about = {names.channel: _TEXT, "version": {"type": "integer", "minimum": 0}}
        device = _object({"id": _TEXT, "user": {"type": ["string", "null"]}, "data": self._data})
        some = {"type": "array", "items": device}
        different = {"joined": some, "changed": some, "left": {"type": "array", "items": _TEXT}}
        return {
            "presence": _object({names.type: const("presence"), **about, "present": some}),
            "presence_diff": _object({names.type: const("presence_diff"), **about, **different}),
        }

    def _position(self) -> dict[str, Schema]:
        return {self._names.position: _POSITION} if self._keeps else {}

    def _needs_fields(self, payload: Schema) -> bool:
        schema = self._schemas.resolved(payload)
        members = schema.get("anyOf") or schema.get("oneOf")
        if members:
            return all(map(self._needs_fields, members))
        return bool(schema.get("required"))


def _object(fields: Schema, required: Sequence[str] | None = None, *, closed: bool = False) -> Schema:
    made = {
        "type": "object",
        "properties": fields,
        "required": list(fields if required is None else required),
    }
    return {**made, "additionalProperties": False} if closed else made


_PARAMETER: Final = re.compile(r"{(\w+)(?::(\w+))?}")
_EXAMPLES: Final = {"int": "1", "float": "1.5", "uuid": "00000000-0000-4000-8000-000000000000"}
_SPECIAL: Final = re.compile(r"[\\^$.*+?()\[\]{}|/]")


def _escaped(text: str) -> str:
    """`text` in a regular expression of JavaScript."""
    return _SPECIAL.sub(lambda found: "\\" + found[0], text)


def _filters(pattern: TopicPattern) -> str:
    """Of the filters that a topic of the pattern may fit."""
    found = r"(\/#)?"
    for number, level in enumerate(reversed(pattern.levels)):
        one = "" if level is None else _expression(level)
        between = r"\/" if number else ""
        found = rf"(#|(\+|{one}){between}{found})"
    return found


def _expression(pattern: RoomPattern) -> str:
    parts = _PARAMETER.split(pattern.pattern)
    # Of three parts one is a text, the next the name of a parameter, the last its type.
    parts[::3] = map(_escaped, parts[::3])
    parts[1::3] = [f"({pattern.expression(name)})" for name in parts[1::3]]
    parts[2::3] = [""] * len(parts[2::3])
    return "".join(parts)
