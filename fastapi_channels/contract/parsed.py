"""An AsyncAPI document, read: what a channel has, and what a message looks like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from .schemas import Schema

PLACES: Final = ("query", "headers", "cookies")
"""What of a handshake a client fills in."""


class Parsed:
    """
    Args:
        whole: the document.

    Attributes:
        channels: each by its name in the document.
        schemas: those that others refer to.
        security: the ways to sign in, by name.
    """

    def __init__(self, whole: Mapping[str, Any]) -> None:
        components = whole.get("components", {})
        self.whole = whole
        self.channels: dict[str, Schema] = whole["channels"]
        self.schemas: dict[str, Schema] = components.get("schemas", {})
        self.security: dict[str, Schema] = components.get("securitySchemes", {})
        self._messages: dict[str, Schema] = components.get("messages", {})

    def operations(self, channel: str) -> dict[str, Schema]:
        """Those of one channel, by their names in the document."""
        reference, found = f"#/channels/{channel}", self.whole["operations"]
        return {name: each for name, each in found.items() if each["channel"]["$ref"] == reference}

    def handshake(self, channel: str) -> dict[str, Schema]:
        """What a client brings to one: an object for each of `PLACES` where something is asked for."""
        bindings = self.channels[channel].get("bindings", {})
        found = {**bindings.get("ws", {}), "cookies": bindings.get("x-cookies")}
        return {place: found[place] for place in PLACES if found.get(place)}

    def message(self, reference: Schema) -> Schema:
        """The message that an operation refers to."""
        _, _, channel, _, key = reference["$ref"].split("/", 4)
        return self._messages[last_of(self.channels[channel]["messages"][key])]

    def payload(self, reference: Schema) -> Schema:
        """The schema of that."""
        payload: Schema = self.message(reference)["payload"]
        return payload

    def codes(self, error: Schema) -> list[str]:
        """The codes that an error says; an application may have others of its own."""
        name = self.channels[error["$ref"].split("/")[2]]["x-envelope"]["code"]
        forms = self.payload(error)["properties"].get(name, {}).get("anyOf", ())
        return [code for each in forms for code in each.get("enum", ())]

    def scheme(self, reference: Schema) -> Schema:
        """The way to sign in that a channel or an operation refers to, without what is said of it."""
        found = self.security[last_of(reference)]
        return {word: each for word, each in found.items() if word != "description"}


def last_of(reference: Schema) -> str:
    """What a reference names, within what that is in."""
    last: str = reference["$ref"].rpartition("/")[2]
    return last


def role(reference: Schema) -> str:
    """What a message is for: request, reply, item, end, error, event, call, answer, failure, control, sent;
    any and asked stand for events and calls of any name."""
    last: str = reference["$ref"].rpartition(".")[2]
    return last.rstrip("_")


def numeral(value: float) -> str:
    """A number in full; a whole one without its fraction."""
    return str(int(value)) if value == int(value) else str(value)


def field(schema: Any, name: str) -> Any:
    """The schema of a field of an object, or of the first alternative that has it; None where none has."""
    if not isinstance(schema, dict):
        return None
    if name in schema.get("properties", {}):
        return schema["properties"][name]
    inner = (field(each, name) for word in ("anyOf", "oneOf", "allOf") for each in schema.get(word, ()))
    return next((each for each in inner if each is not None), None)


def without(schema: Schema, names: Iterable[str]) -> Schema:
    """An object's schema without some of its fields."""
    names = set(names)
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return {**schema, word: [without(each, names) for each in schema[word]]}
    left = {name: each for name, each in schema.get("properties", {}).items() if name not in names}
    needed = [name for name in schema.get("required", ()) if name not in names]
    return {**schema, "properties": left, "required": needed}
