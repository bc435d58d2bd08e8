"""What others are told of a connection that is in a room."""

from __future__ import annotations

from typing import Any, Final

from fastapi_channels.exceptions import ParseError

from .messages import encode_json, size_of

MAX_DATA: Final = 4096
"""Bytes of JSON that a connection may say of itself: each member of its rooms gets them."""


class InvalidPresence(ParseError):
    """What a connection says of itself is no JSON, or too large."""

    error_code = "invalid_presence"


def said(data: Any) -> str:
    """`data` as JSON.

    Raises:
        InvalidPresence: it cannot be.
    """
    try:
        text = encode_json(data)
    except (ValueError, RecursionError) as exc:
        raise _invalid(str(exc)[:200]) from exc
    if size_of(text) > MAX_DATA:
        raise _invalid(f"{size_of(text)} bytes of JSON, {MAX_DATA} are taken")
    return text


def _invalid(problem: str) -> InvalidPresence:
    return InvalidPresence(close=False, context={"problem": problem})
