"""A publication as servers keep it."""

from __future__ import annotations

import secrets
from typing import Any

from pydantic_core import from_json, to_json

from .store import Record


def packed(record: Record) -> bytes:
    """A letter for the kind of body, JSON of whom it did not go to, a newline, and the body."""
    body = record.body
    absent = (
        to_json([sorted(record.exclude), sorted(record.users)]) if record.exclude or record.users else b""
    )
    kind, content = (b"b", body) if isinstance(body, bytes) else (b"t", body.encode())
    return b"%b%b\n%b" % (kind, absent, content)


def unpacked(offset: int, at: int, text: bytes) -> Record:
    """What `packed` made a text of, at an offset, and at microseconds since 1970."""
    head, _, body = text.partition(b"\n")
    exclude, users = map(frozenset, from_json(head[1:])) if len(head) > 1 else (frozenset[Any](),) * 2
    return Record(offset, body if head[:1] == b"b" else body.decode(), exclude, users, at / 1_000_000)


def new_epoch() -> str:
    return secrets.token_hex(4)


def microseconds(seconds: float) -> int:
    """Whole microseconds, at least one; at most ten years, beyond which nothing is kept."""
    return max(1, round(min(seconds, 315_360_000.0) * 1_000_000))
