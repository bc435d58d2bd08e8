"""An AsyncAPI document, read: what a channel has, and what a message looks like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .schemas import Schema


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

    def operations(self, channel: str) -> list[Schema]:
        """Those of one channel."""
        reference = f"#/channels/{channel}"
        return [each for each in self.whole["operations"].values() if each["channel"]["$ref"] == reference]

    def payload(self, reference: Schema) -> Schema:
        """The schema of a message that an operation refers to."""
        _, _, channel, _, key = reference["$ref"].split("/", 4)
        named = self.channels[channel]["messages"][key]["$ref"]
        payload: Schema = self._messages[named.rpartition("/")[2]]["payload"]
        return payload


def role(reference: Schema) -> str:
    """What a message is for: request, reply, item, end, error, event, call, answer, failure, control, sent;
    any and asked stand for events and calls of any name."""
    last: str = reference["$ref"].rpartition(".")[2]
    return last.rstrip("_")


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
    return {**schema, "properties": left}
