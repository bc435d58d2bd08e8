"""Reading the history of a room by pages: from Python, and as an action that a channel opts into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, TypeAlias

from pydantic import BaseModel, Field

from fastapi_channels.actions.router import ActionRouter
from fastapi_channels.cluster.node import Node, current_node
from fastapi_channels.cluster.recovery import placed, was_kept_from
from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.sessions.plan import Plan
from fastapi_channels.signatures.callables import awaited
from fastapi_channels.stores import Page
from fastapi_channels.wire.positions import InvalidPosition, Position

MAX_PAGE: Final = 100
"""Items that a client gets at most in one page."""
MAX_CURSOR: Final = 256
"""Characters of a position that the application has made."""

Load: TypeAlias = Callable[[str, str, int], Any]
"""A channel's `load_history`."""


class HistoryPage(BaseModel):
    """A part of a room's history.

    Attributes:
        items: frames as they were sent, with their positions.
        position: the newest of the room.
        next: `since` of the next page in this direction; None at the end.
        complete: whether nothing is missing between `since` and the first item; where there is none, between
            `since` and the end of the history in this direction.
    """

    items: list[dict[str, Any]]
    position: str
    next: str | None = None
    complete: bool = True


async def read_page(
    plan: Plan,
    node: Node,
    load: Load | None,
    room: str,
    limit: int,
    since: str | None,
    reverse: bool,
    connection: Connection | None,
) -> HistoryPage:
    """What `BaseChannel.read_history` returns."""
    keeping = plan.history
    if keeping is None:
        raise ConfigurationError(f"{type(plan.channel).__name__} keeps no history: say history = N")
    if limit < 1:
        raise ConfigurationError(f"a page has 1 item or more, got limit={limit!r}")
    load = load if reverse else None
    at, is_own = _parse(since, may_be_own=load is not None)
    key, histories = plan.key(room), node.rooms.histories
    page = await node.rooms.read(key, keeping, at, limit=limit, reverse=reverse)
    top = str(Position(page.epoch, page.top))
    if load is not None and (is_own or not page.records):
        frames = list(await awaited(load(room, since or top, limit)))
        end = frames[-1].get(plan.envelope.position) if len(frames) >= limit else None
        return HistoryPage(items=frames, position=top, next=end)
    user = node.key_of(connection.user) if connection is not None else None
    items, last = [], None
    for record in page.records:
        last = Position(page.epoch, record.offset)
        was = histories.connection_at(key, connection.id, last) if histories and connection else ""
        if connection is not None and was_kept_from(record, was, user):
            continue
        frame = placed(room, keeping, page.epoch, record)
        if connection is not None and record.for_each:
            seen = node.rooms.renditions.frame(connection, record.for_each, frame)
        else:
            seen = frame
        if seen is not None:
            items.append(plan.envelope.decode(seen.body))
    ended = last is None or last.offset == (page.first if reverse else page.top)
    more = last if not ended or (load is not None and last is not None) else None
    return HistoryPage(
        items=items,
        position=top,
        next=None if more is None else str(more),
        complete=at is None or _follows(page, at, reverse),
    )


def _follows(page: Page, at: Position, reverse: bool) -> bool:
    """Whether nothing is missing between `at` and `page`, which was read from there on."""
    if at.epoch != page.epoch or at.offset > page.top:
        return False
    if reverse:
        return bool(page.records) or at.offset <= 1
    return page.first <= at.offset + 1


def _parse(since: str | None, *, may_be_own: bool) -> tuple[Position | None, bool]:
    """The position, and whether it is one that the application has made.

    Raises:
        InvalidPosition: it is neither.
    """
    if since is None:
        return None, False
    try:
        return Position.parse(since), False
    except InvalidPosition:
        if not may_be_own or len(since) > MAX_CURSOR:
            raise
        return None, True


history_router: Final = ActionRouter()
"""Has one action, `history`: a client reads the history of its room by pages. `routers = [history_router]` on
a channel lets its clients call it."""


@history_router.action("history")
async def _read(
    connection: Connection,
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50,
    since: Annotated[str | None, Field(max_length=MAX_CURSOR)] = None,
    reverse: bool = True,
) -> HistoryPage:
    """Read the history of the room by pages: the newest first unless `reverse` is false."""
    channel, node = connection.channel, current_node.get() or Node.of()
    return await read_page(
        channel._plan, node, channel._load_history, connection.room, limit, since, reverse, connection
    )
