"""The document as the page shows it: channels with their operations, and what the console needs of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from fastapi_channels.wire.messages import WINDOW

from .parsed import Parsed, last_of, role, without
from .reading import Reader, Row, Word
from .schemas import Schema


class Answer(NamedTuple):
    """What comes back: `role` is reply or item; or what a client answers, which is an answer. With a
    `subprotocol` it comes to those alone that have offered that."""

    role: str
    schema: Schema
    type: list[Word]
    rows: list[Row]
    subprotocol: str


class Operation(NamedTuple):
    """What one side may send.

    Attributes:
        id: its key in the document.
        kind: action, event, call or control; relay for what has no form.
        open: whether it has any name.
        of: the channel it belongs to, where others at its address have the same name.
        sent: whether the client sends it.
        errors: the codes that may answer it.
        extras: what the document says besides, by names that begin with `x-`.
        payload: the schema of its own fields; `raw`, of the whole frame; `examples` are whole frames.
    """

    id: str
    name: str
    kind: str
    open: bool
    of: str
    sent: bool
    summary: str
    about: str
    tags: list[str]
    type: list[Word]
    rows: list[Row]
    answers: list[Answer]
    errors: list[str]
    security: list[str]
    said: Schema
    extras: dict[str, Any]
    payload: Schema
    raw: Schema
    examples: list[Any]


class Address(NamedTuple):
    """One channel of the document: an address, and what passes over a WebSocket to it.

    Attributes:
        asked: the fields of path, query, headers and cookies, by these names.
        parameters: the schemas of what stands in the path.
        security: one of what a client has to bring; `optional`, what it may bring.
        json: whether frames are JSON: others cannot be made in a browser.
    """

    id: str
    title: str
    address: str
    about: str
    parameters: dict[str, Schema]
    asked: dict[str, list[Row]]
    security: list[str]
    optional: list[str]
    json: bool
    said: Schema
    extras: dict[str, Any]
    groups: dict[str, list[Operation]]
    envelope: dict[str, Any]
    handshake: Schema


_KNOWN: Final = {
    *("permissions", "rate-limits", "room-patterns", "many-rooms", "rooms", "envelope"),
    *("stream", "deprecated", "sunset", "channel", "history", "presence", "authentication"),
}
"""What of `x-…` the page has words for."""
_GROUPS: Final = ("actions", "events", "calls", "controls")


class View:
    """
    Args:
        document: as `contract.document.document` makes it.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._parsed = parsed = Parsed(document)
        self.schemas: Mapping[str, Schema] = parsed.schemas
        self.security: Mapping[str, Schema] = parsed.security
        self.reader = Reader(self.schemas)
        self.info: Mapping[str, Any] = document["info"]
        self.servers: Mapping[str, Schema] = document.get("servers", {})
        self.addresses = [self._address(key, each) for key, each in parsed.channels.items()]

    def console(self) -> dict[str, Any]:
        """What the page's own program reads."""
        return {
            "schemas": self.schemas,
            "security": self.security,
            "servers": self.servers,
            "channels": [_for_console(each) for each in self.addresses],
        }

    def _address(self, key: str, channel: Schema) -> Address:
        envelope = {**channel["x-envelope"], "many_rooms": channel.get("x-many-rooms", False)}
        mine = self._parsed.operations(key)
        groups: dict[str, list[Operation]] = {name: [] for name in _GROUPS}
        named = Counter(map(_called, mine.values()))
        for name, each in mine.items():
            of = each.get("x-channel", "") if named[_called(each)] > 1 else ""
            made = self._operation(name, each, envelope, of)
            groups[_group(made)].append(made)
        places = {name: _place(each) for name, each in channel.get("parameters", {}).items()}
        handshake = self._parsed.handshake(key)
        first = [self._parsed.message(each["messages"][0]) for each in mine.values()]
        # What the server sends needs none.
        secured = [_names(each.get("security", ())) for each in mine.values() if each["action"] == "receive"]
        needed = (
            [name for name in sorted(secured[0]) if all(name in each for each in secured)] if secured else []
        )
        sources = _names(channel.get("x-authentication", {}).get("sources", ()))
        return Address(
            id=key,
            title=channel.get("title", key),
            address=channel.get("address") or "",
            about=channel.get("description", ""),
            parameters=places,
            asked={
                name: self.reader.rows(each)
                for name, each in {"path": _all_of(places), **handshake}.items()
                if each
            },
            security=needed,
            optional=[name for name in sources if name not in needed],
            json=not any("contentType" in each for each in first),
            said=_said(channel),
            extras=_extras(channel),
            groups=groups,
            envelope=envelope,
            handshake=handshake,
        )

    def _operation(self, key: str, operation: Schema, names: Schema, of: str) -> Operation:
        (reference,) = operation["messages"]
        part, message = role(reference), self._parsed.message(reference)
        payload = _own(message["payload"], part, names, streams="x-stream" in operation)
        answers = operation.get("reply", {}).get("messages", ())
        refused = [each for each in answers if role(each) == "error"]
        return Operation(
            id=key,
            name=operation.get("title", key),
            kind=_KINDS.get(part, "control"),
            open=part in ("any", "asked"),
            of=of,
            sent=operation["action"] == "receive",
            summary=operation.get("summary", ""),
            about=operation.get("description", ""),
            tags=[tag["name"] for tag in operation.get("tags", ())],
            type=self.reader.words(payload),
            rows=self.reader.rows(payload),
            answers=[self._answer(each, names) for each in answers if role(each) in _ANSWERS],
            errors=[code for each in refused for code in self._parsed.codes(each)],
            security=_names(operation.get("security", ())),
            said=_said(operation),
            extras=_extras(operation),
            payload=payload,
            raw=message["payload"],
            examples=[each["payload"] for each in message.get("examples", ())],
        )

    def _answer(self, reference: Schema, names: Schema) -> Answer:
        part, message = role(reference), self._parsed.message(reference)
        data = _own(message["payload"], part, names)
        rows, subprotocol = self.reader.rows(data), message.get("x-subprotocol", "")
        return Answer(part, data, self.reader.words(data), rows, subprotocol)


_KINDS: Final = {
    "request": "action",
    "event": "event",
    "any": "event",
    "sent": "relay",
    "call": "call",
    "asked": "call",
}
_ANSWERS: Final = ("reply", "item", "answer")


def _group(operation: Operation) -> str:
    if operation.kind in ("control", "call"):
        return operation.kind + "s"
    return "actions" if operation.sent else "events"


def _called(operation: Schema) -> tuple[str, str]:
    """What a reader tells operations of one address by."""
    return role(operation["messages"][0]), operation["title"]


def _names(references: Iterable[Schema]) -> list[str]:
    return list(map(last_of, references))


def _said(part: Schema) -> Schema:
    return {name: part[f"x-{name}"] for name in sorted(_KNOWN) if f"x-{name}" in part}


def _extras(part: Schema) -> dict[str, Any]:
    """What is said by names that this page does not know: shown as it is."""
    keys = [key for key in part if key.startswith("x-") and key.removeprefix("x-") not in _KNOWN]
    return {key.removeprefix("x-"): part[key] for key in keys}


def _place(parameter: Schema) -> Schema:
    """The schema of a parameter of the address, with what is said of it."""
    said = {word: parameter[word] for word in ("description", "examples") if word in parameter}
    return {**parameter.get("x-schema", {}), **said}


def _all_of(fields: Schema) -> Schema:
    return {"type": "object", "properties": fields, "required": list(fields)} if fields else {}


def _own(schema: Schema, part: str, names: Schema, *, streams: bool = False) -> Schema:
    """What of a frame is its sender's own, without the fields around it."""
    if part in _WITH_DATA:
        return dict(schema["properties"].get(names["data"], {}))
    if part != "request":
        return _full(without(schema, [names["type"]]))
    if names["payload"] is not None:
        return dict(schema["properties"].get(names["payload"], _NOTHING))
    around = [(names["channel"], names["many_rooms"]), (WINDOW, streams)]
    there = [name for name, is_there in around if is_there]
    return _full(without(schema, [names["action"], names["request_id"], *there]))


_WITH_DATA: Final = ("reply", "item", "event", "any", "call", "asked", "answer")
_NOTHING: Final[Schema] = {"type": "object", "properties": {}}


def _full(schema: Schema) -> Schema:
    """A schema without the form in which everything is left out: that is no second form of it."""
    for word in ("anyOf", "oneOf"):
        if word in schema:
            made = map(_full, schema[word])
            full = [each for each in made if each.get("properties") or each.get("additionalProperties", True)]
            return full[0] if len(full) == 1 else {word: full}
    return schema


def _for_console(address: Address) -> dict[str, Any]:
    operations = [each for group in address.groups.values() for each in group]
    used = {name for each in operations for name in each.security}
    return {
        "id": address.id,
        "title": address.title,
        "address": address.address,
        "parameters": list(address.parameters),
        "places": address.parameters,
        "patterns": address.said.get("room-patterns", []),
        "handshake": address.handshake,
        "security": sorted({*address.security, *address.optional, *used}),
        "authentication": address.said.get("authentication"),
        "json": address.json,
        "envelope": address.envelope,
        "operations": [
            {
                "id": each.id,
                "name": each.name,
                "kind": each.kind,
                "of": each.of,
                "channel": each.said.get("channel"),
                "about": each.summary or each.about,
                "sent": each.sent,
                "stream": bool(each.said.get("stream")),
                "answers": [
                    {"role": answer.role, "schema": answer.schema, "subprotocol": answer.subprotocol}
                    for answer in each.answers
                ],
                "payload": each.payload,
                "examples": each.examples,
                "room": each.raw.get("properties", {}).get(address.envelope["channel"]),
            }
            for each in operations
        ],
    }
