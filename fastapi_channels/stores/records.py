"""A publication as servers keep it."""

from __future__ import annotations

import secrets

from pydantic_core import from_json, to_json

from fastapi_channels.wire.messages import Body

from .store import Record


def packed(record: Record) -> bytes:
    """A letter for the kind of body, JSON of who gets it, unless all do, a newline, and the body."""
    body, who = record.body, b""
    if record.exclude or record.users or record.for_each:
        who = to_json([sorted(record.exclude), sorted(record.users), record.for_each])
    kind, content = (b"b", body) if isinstance(body, bytes) else (b"t", body.encode())
    return b"%b%b\n%b" % (kind, who, content)


def unpacked(offset: int, at: int, text: bytes) -> Record:
    """What `packed` made a text of, at an offset, and at microseconds since 1970."""
    head, _, body = text.partition(b"\n")
    exclude, users, for_each = from_json(head[1:]) if len(head) > 1 else ((), (), "")
    content: Body = body if head[:1] == b"b" else body.decode()
    return Record(offset, content, frozenset(exclude), frozenset(users), at / 1_000_000, for_each)


def new_epoch() -> str:
    return secrets.token_hex(4)


def microseconds(seconds: float) -> int:
    """Whole microseconds, at least one; at most ten years, beyond which nothing is kept."""
    return max(1, round(min(seconds, 315_360_000.0) * 1_000_000))
