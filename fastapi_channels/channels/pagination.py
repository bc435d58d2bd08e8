"""Pages of a list: what a client asks for, what it is given, and cursors that nobody else can make.

`Page` and `Cursor` are payloads of actions, or what payloads inherit from, and `Paginated` is a reply. What
they say of themselves is for clients: it stands in the document.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Annotated, Any, Final, Generic, TypeAlias, TypeVar

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import to_json

from fastapi_channels.cluster.node import Node
from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import InvalidPayload
from fastapi_channels.signatures.graph import current_connection, current_message
from fastapi_channels.wire.messages import Message

MAX_LIMIT: Final = 100
"""Items of one page."""
MAX_OFFSET: Final = 10_000
"""Items that a page may skip: a database reads them all."""
MAX_CURSOR: Final = 2048
"""Characters of a cursor."""

_PURPOSE: Final = "fastapi_channels cursor"
"""Keeps these signatures apart from others with the same secret."""

_adapter: Final[Callable[[Any], TypeAdapter[Any]]] = lru_cache(TypeAdapter)

T = TypeVar("T")
Limit: TypeAlias = Annotated[int, Field(ge=1, le=MAX_LIMIT, description="how many items, at most")]


class Page(BaseModel):
    """Which part of a list is wanted, by number."""

    limit: Limit = 20
    offset: Annotated[int, Field(ge=0, le=MAX_OFFSET, description="how many items to skip")] = 0


class Cursor(BaseModel):
    """Which part of a list is wanted, by the cursor that came with another part."""

    limit: Limit = 20
    cursor: Annotated[
        str | None,
        Field(max_length=MAX_CURSOR, description="`next` or `previous` of a page; null for the first one"),
    ] = None


class Paginated(BaseModel, Generic[T]):
    """One page of a list."""

    # All four are always sent, and so the document says.
    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    items: list[T]
    next: Annotated[str | None, Field(description="the cursor of the page after it, if there is one")] = None
    previous: Annotated[
        str | None, Field(description="the cursor of the page before it, if there is one")
    ] = None
    total: Annotated[int | None, Field(description="how many items all pages have, if counted")] = None


class Paginator:
    """Makes the cursors of one action in one room, and reads them.

    A cursor is a place in the list, in JSON, and its signature: HMAC-SHA256 (RFC 2104) over the channel, the
    room, the action and the place. Clients can read it, and cannot make one.

    Args:
        secret: what it signs with.
        channel: the name of the channel's class.
    """

    def __init__(self, secret: bytes, channel: str, room: str, action: str) -> None:
        self._secret = secret
        self.channel = channel
        self.room = room
        self.action = action

    def cursor_of(self, place: Any) -> str:
        """The cursor of a place: of whatever says where a page begins, and JSON can hold.

        Raises:
            ValueError: it would be longer than `MAX_CURSOR` characters.
        """
        body = _text(to_json(place))
        cursor = f"{body}.{self._signature(body)}"
        if len(cursor) > MAX_CURSOR:
            raise ValueError(
                f"a cursor of {self.action!r} would have {len(cursor)} characters, {MAX_CURSOR} are "
                "allowed: order the list by something shorter"
            )
        return cursor

    def place_of(self, page: Cursor, kind: type[T]) -> T | None:
        """The place that the cursor of `page` was made of, validated as `kind`; None for the first page.

        Raises:
            InvalidPayload: the cursor was not made here for this action in this room, or of another kind of
                place, as by an earlier version of the application.
        """
        if page.cursor is None:
            return None
        body, _, signature = page.cursor.partition(".")
        if hmac.compare_digest(signature.encode(), self._signature(body).encode()):
            with suppress(ValidationError):
                place: T = _adapter(kind).validate_json(urlsafe_b64decode(body + "=="))
                return place
        raise self._refusal()

    def _signature(self, body: str) -> str:
        signed = to_json([_PURPOSE, self.channel, self.room, self.action, body])
        return _text(hmac.digest(self._secret, signed, "sha256"))

    def _refusal(self) -> InvalidPayload:
        msg = "Cursor should be `next` or `previous` of a page of this list, or null to begin anew"
        return InvalidPayload(
            close=False,
            data=[{"loc": ["cursor"], "msg": msg, "type": "invalid_cursor"}],
            context={"action": repr(self.action)},
        )


async def current_paginator(
    connection: Annotated[Connection, Depends(current_connection)],
    message: Annotated[Message, Depends(current_message)],
) -> Paginator:
    """Dependency: the paginator of the action that is being called, of the application's `pagination_class`.

    `Annotated[Paginator, Depends(current_paginator)]` in an action, or in what it depends on.
    """
    settings = Node.of(connection.websocket.scope).settings
    make = settings.pagination_class or Paginator
    paginator: Paginator = make(
        settings.secret, type(connection.channel).__name__, connection.room, message.action
    )
    return paginator


def _text(data: bytes) -> str:
    """In base64url without padding (RFC 4648 section 5)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()
