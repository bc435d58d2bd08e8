"""The document as the page shows it: channels with their operations, and what the console needs of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from .reading import Reader, Row, Word
from .schemas import Schema


class Answer(NamedTuple):
    """What comes back: `role` is reply or item; or what a client answers, which is an answer."""

    role: str
    schema: Schema
    type: list[Word]
    rows: list[Row]


class Operation(NamedTuple):
    """What one side may send.

    Attributes:
        id: its key in the document.
        kind: action, event, call or control; relay for what has no form.
        open: whether it has any name.
        sent: whether the client sends it.
        errors: the codes that may answer it.
        extras: what the document says besides, by names that begin with `x-`.
        payload: the schema of its own fields; `raw`, of the whole frame; `examples` are whole frames.
    """

    id: str
    name: str
    kind: str
    open: bool
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
        asked: the fields of query, headers and cookies, by these names.
        json: whether frames are JSON: others cannot be made in a browser.
    """

    id: str
    title: str
    address: str
    about: str
    parameters: dict[str, str]
    asked: dict[str, list[Row]]
    security: list[str]
    json: bool
    said: Schema
    extras: dict[str, Any]
    groups: dict[str, list[Operation]]
    envelope: dict[str, Any]
    handshake: Schema


_KNOWN: Final = {
    *("permissions", "rate-limits", "room-patterns", "many-rooms", "envelope"),
    *("stream", "deprecated", "sunset", "channel", "history"),
}
"""What of `x-…` the page has words for."""
_GROUPS: Final = ("actions", "events", "calls", "controls")


class View:
    """
    Args:
        document: as `contract.document.document` makes it.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        components = document.get("components", {})
        self._messages: Mapping[str, Schema] = components.get("messages", {})
        self.schemas: Mapping[str, Schema] = components.get("schemas", {})
        self.security: Mapping[str, Schema] = components.get("securitySchemes", {})
        self.reader = Reader(self.schemas)
        self.info: Mapping[str, Any] = document["info"]
        self.servers: Mapping[str, Schema] = document.get("servers", {})
        self.addresses = [self._address(key, each) for key, each in document["channels"].items()]

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
        mine = [
            (name, each)
            for name, each in self._document["operations"].items()
            if each["channel"]["$ref"] == f"#/channels/{key}"
        ]
        groups: dict[str, list[Operation]] = {name: [] for name in _GROUPS}
        for name, each in mine:
            made = self._operation(name, each, channel, envelope)
            groups[_group(made)].append(made)
        binding = channel.get("bindings", {}).get("ws", {})
        handshake = {
            "query": binding.get("query"),
            "headers": binding.get("headers"),
            "cookies": channel.get("bindings", {}).get("x-cookies"),
        }
        types = [self._messages[name].get("contentType") for name in _names(channel["messages"].values())]
        secured = [each.get("security", ()) for _, each in mine]
        return Address(
            id=key,
            title=channel.get("title", key),
            address=channel.get("address") or "",
            about=channel.get("description", ""),
            parameters={
                name: each.get("description", "") for name, each in channel.get("parameters", {}).items()
            },
            asked={name: self.reader.rows(each) for name, each in handshake.items() if each},
            security=sorted(set.intersection(*(set(_names(each)) for each in secured)) if secured else ()),
            json=not any(types),
            said=_said(channel),
            extras=_extras(channel),
            groups=groups,
            envelope=envelope,
            handshake=handshake,
        )

    def _operation(self, key: str, operation: Schema, channel: Schema, names: Schema) -> Operation:
        ((role, message),) = self._parts(operation["messages"], channel)
        payload = _own(message["payload"], role, names)
        answers = list(self._parts(operation.get("reply", {}).get("messages", ()), channel))
        return Operation(
            id=key,
            name=operation.get("title", key),
            kind=_KINDS.get(role, "control"),
            open=role in ("any", "asked"),
            sent=operation["action"] == "receive",
            summary=operation.get("summary", ""),
            about=operation.get("description", ""),
            tags=[tag["name"] for tag in operation.get("tags", ())],
            type=self.reader.words(payload),
            rows=self.reader.rows(payload),
            answers=[self._answer(role, each, names) for role, each in answers if role in _ANSWERS],
            errors=[code for role, each in answers if role == "error" for code in _codes(each, names)],
            security=_names(operation.get("security", ())),
            said=_said(operation),
            extras=_extras(operation),
            payload=payload,
            raw=message["payload"],
            examples=[each["payload"] for each in message.get("examples", ())],
        )

    def _answer(self, role: str, message: Schema, names: Schema) -> Answer:
        data = _own(message["payload"], role, names)
        return Answer(role, data, self.reader.words(data), self.reader.rows(data))

    def _parts(self, references: Iterable[Schema], channel: Schema) -> Iterator[tuple[str, Schema]]:
        """Messages, each with its role: the end of its key in the channel."""
        for key in _names(references):
            (name,) = _names([channel["messages"][key]])
            yield key.rstrip("_").rpartition(".")[2], self._messages[name]


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


def _names(references: Iterable[Schema]) -> list[str]:
    return [each["$ref"].rpartition("/")[2] for each in references]


def _said(part: Schema) -> Schema:
    return {name: part[f"x-{name}"] for name in sorted(_KNOWN) if f"x-{name}" in part}


def _extras(part: Schema) -> dict[str, Any]:
    """What is said by names that this page does not know: shown as it is."""
    keys = [key for key in part if key.startswith("x-") and key.removeprefix("x-") not in _KNOWN]
    return {key.removeprefix("x-"): part[key] for key in keys}


def _codes(message: Schema, names: Schema) -> list[str]:
    code = message["payload"]["properties"].get(names["code"], {})
    return [code for member in code.get("anyOf", ()) for code in member.get("enum", ())]


def _own(schema: Schema, role: str, names: Schema) -> Schema:
    """What of a frame is its sender's own, without the fields around it."""
    if role in _WITH_DATA:
        return dict(schema["properties"].get(names["data"], {}))
    if role != "request":
        return _without(schema, (names["type"],))
    if names["payload"] is not None:
        return dict(schema["properties"].get(names["payload"], _NOTHING))
    room = (names["channel"],) if names["many_rooms"] else ()
    return _without(schema, (names["action"], names["request_id"], *room))


_WITH_DATA: Final = ("reply", "item", "event", "any", "call", "asked", "answer")
_NOTHING: Final[Schema] = {"type": "object", "properties": {}}


def _without(schema: Schema, around: tuple[str, ...]) -> Schema:
    for word in ("anyOf", "oneOf"):
        if word in schema:
            made = [_without(each, around) for each in schema[word]]
            # That everything may be left out is no second form of it.
            full = [each for each in made if each.get("properties") or each.get("additionalProperties", True)]
            return full[0] if len(full) == 1 else {word: full}
    fields = {name: each for name, each in schema.get("properties", {}).items() if name not in around}
    required = [name for name in schema.get("required", ()) if name not in around]
    return {**schema, "properties": fields, "required": required}


def _for_console(address: Address) -> dict[str, Any]:
    return {
        "id": address.id,
        "title": address.title,
        "address": address.address,
        "parameters": list(address.parameters),
        "patterns": address.said.get("room-patterns", []),
        "handshake": address.handshake,
        "security": address.security,
        "json": address.json,
        "envelope": address.envelope,
        "operations": [
            {
                "id": each.id,
                "name": each.name,
                "kind": each.kind,
                "about": each.summary or each.about,
                "sent": each.sent,
                "stream": bool(each.said.get("stream")),
                "answers": [{"role": answer.role, "schema": answer.schema} for answer in each.answers],
                "payload": each.payload,
                "examples": each.examples,
                "room": each.raw.get("properties", {}).get(address.envelope["channel"]),
            }
            for group in address.groups.values()
            for each in group
        ],
    }
