"""Messages of a channel layer as texts: JSON, and bytes as base64."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic_core import to_jsonable_python

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.wire.messages import decode_json

BYTES: Final = "__bytes__"
"""The one key of the object that stands for bytes."""
_MARK: Final = f'"{BYTES}":'


def websocket_json_message(body: Any, *, event: str = "") -> dict[str, Any]:
    """A message that has a consumer send `body` to its client as JSON."""
    return _to_client("json", body, event)


def websocket_bytes_message(body: bytes, *, event: str = "") -> dict[str, Any]:
    """A message that has a consumer send `body` to its client as a binary frame."""
    return _to_client("bytes", body, event)


def _to_client(mode: str, body: Any, event: str) -> dict[str, Any]:
    named = {"event": event} if event else {}
    return {"type": "websocket.send", "mode": mode, "body": body, **named}


def plain(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as a dictionary.

    Raises:
        ConfigurationError: it is no mapping.
    """
    if not isinstance(message, Mapping):
        raise ConfigurationError(
            f"a message is a mapping, such as {{'type': 'chat.message'}}, got {message!r}"
        )
    return dict(message)


def encode(message: Mapping[str, Any]) -> str:
    """The text of a message. What pydantic can turn into JSON is turned into it.

    Raises:
        ConfigurationError: it is no mapping.
        ValueError: it holds what cannot be encoded.
    """
    sent = plain(message)
    found: list[Any] = []

    def default(value: Any) -> Any:
        if isinstance(value, bytes | bytearray | memoryview):
            found.append(value)
            return {BYTES: base64.b64encode(value).decode()}
        return to_jsonable_python(value)

    try:
        text = json.dumps(sent, default=default, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise ValueError(f"the message cannot be encoded: {exc}") from None
    if text.count(_MARK) != len(found):
        raise ValueError(f"the message cannot be encoded: a key may not be named {BYTES!r}")
    return text


def decode(text: str) -> dict[str, Any]:
    """The message of a text.

    Raises:
        ValueError: it is none.
    """
    found = json.loads(text, object_hook=_restored) if _MARK in text else decode_json(text)
    if not isinstance(found, dict):
        raise ValueError(f"not an object, but {type(found).__name__}")
    return found


def _restored(found: dict[str, Any]) -> Any:
    return base64.b64decode(found[BYTES], validate=True) if found.keys() == {BYTES} else found
