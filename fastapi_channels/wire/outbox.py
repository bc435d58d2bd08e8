"""The bounded queue of frames on their way to one connection."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Literal, TypeAlias, get_args

from fastapi_channels.exceptions import ConfigurationError

from .messages import Frame
from .positions import Position
from .traffic import Traffic

SlowPolicy: TypeAlias = Literal["disconnect", "drop_oldest", "drop_newest"]
"""What happens to a connection that does not read, once its outbox is full."""
POLICIES: Final = get_args(SlowPolicy)

Item: TypeAlias = "Frame | Lagged | Gap | asyncio.Future[bool] | dict[str, Any]"
"""A frame, a notice of loss, a place for what is to come, a waiter for all before it, or an ASGI message."""

DEFAULT_LIMIT: Final = 1024 * 1024
OVERHEAD: Final = 128
"""Bytes that a frame counts for beside its payload: empty ones take memory too."""


class Lagged:
    """Says that frames of `room` are missing at this place.

    Attributes:
        dropped: how many.
        since: the position before the first that has one; empty where none has.
    """

    __slots__ = ("dropped", "room", "since")

    def __init__(self, room: str) -> None:
        self.room = room
        self.dropped = 0
        self.since = ""

    def add(self, frame: Frame) -> None:
        """That one too."""
        self.dropped += 1
        if frame.position and not self.since:
            self.since = str(Position.parse(frame.position).before)


class Gap:
    """Keeps a place for frames that are still to come: nothing behind it leaves before it is filled."""

    __slots__ = ("filled",)

    def __init__(self) -> None:
        self.filled: asyncio.Future[tuple[Frame, ...]] = asyncio.get_running_loop().create_future()

    def fill(self, *frames: Frame) -> None:
        """Let `frames` leave here, and then what is behind."""
        self.filled.set_result(frames)


class Outbox:
    """Frames in the order in which they leave, and the bound on their bytes.

    Only frames of a room are subject to the bound: whoever sends anything else waits until it left,
    and so holds back itself. One frame larger than the bound passes when nothing else is queued.

    Args:
        limit: bytes of room frames that may wait, each counted with `OVERHEAD`.
        policy: what `put` does beyond them.
        traffic: is told of what is dropped, if anybody asked.
    """

    __slots__ = ("_dropped", "_items", "_limit", "_policy", "_traffic", "size")

    def __init__(
        self,
        limit: int = DEFAULT_LIMIT,
        policy: SlowPolicy = "disconnect",
        traffic: Traffic | None = None,
    ) -> None:
        if limit < 1:
            raise ConfigurationError(f"the outbox limit must be at least 1 byte, got {limit!r}")
        if policy not in POLICIES:
            raise ConfigurationError(f"expected one of {POLICIES}, got the policy {policy!r}")
        self._limit = limit
        self._policy = policy
        self._traffic = traffic
        # Most are empty, and an empty deque takes thirteen times the memory of an empty list.
        self._items: list[Item] = []
        self._dropped: dict[str, Lagged] = {}
        """What is still to be said, behind all that is queued."""
        self.size = 0
        """Bytes of the room frames that wait, each with its overhead."""

    def __len__(self) -> int:
        return len(self._items)

    def put(self, frame: Frame) -> bool:
        """Queue a room's frame. False: the connection must be closed, for its policy says so."""
        size = frame.size + OVERHEAD
        if self.size + size > self._limit and self.size:
            if self._policy == "disconnect":
                return False
            if self._policy == "drop_newest":
                self._drop(frame, self._dropped.setdefault(frame.room, Lagged(frame.room)))
                return True
            self._drop_oldest(size)
        elif self._dropped:
            self._tell()
        self.size += size
        self._items.append(frame)
        return True

    def put_last(self, item: Item) -> None:
        """Queue what the bound does not concern: replies, notices of waiters, a close."""
        if self._dropped:
            self._tell()
        self._items.append(item)

    def pop(self) -> Item | None:
        """The next to leave, or None."""
        if self._dropped and not self._items:
            self._tell()
        if not self._items:
            return None
        item = self._items.pop(0)
        if type(item) is Frame and item.room:
            self.size -= item.size + OVERHEAD
        return item

    def withdraw(self, room: str) -> None:
        """Drop the frames of `room`, and what is said of those that were dropped."""
        self._dropped.pop(room, None)
        kept: list[Item] = []
        for item in self._items:
            if type(item) is Frame and item.room == room:
                self.size -= item.size + OVERHEAD
            elif type(item) is not Lagged or item.room != room:
                kept.append(item)
        self._items = kept

    def clear(self) -> None:
        """Drop everything; who waits is told that it did not leave."""
        for item in self._items:
            if isinstance(item, asyncio.Future) and not item.done():
                item.set_result(False)
        self._items.clear()
        self._dropped.clear()
        self.size = 0

    def _tell(self) -> None:
        self._items.extend(self._dropped.values())
        self._dropped.clear()

    def _drop(self, frame: Frame, notice: Lagged) -> None:
        notice.add(frame)
        if self._traffic is None:
            return
        if self._policy == "drop_oldest":
            self._traffic.dropped_oldest += 1
        else:
            self._traffic.dropped_newest += 1

    def _drop_oldest(self, needed: int) -> None:
        """Drop room frames from the front until `needed` bytes fit, or none is left. A notice stands where
        they stood: behind the `joined` of their room, for example."""
        kept: list[Item] = []
        notices: dict[str, Lagged] = {}
        while self._items and self.size and self.size + needed > self._limit:
            item = self._items.pop(0)
            if type(item) is Frame and item.room:
                self.size -= item.size + OVERHEAD
                if item.room not in notices:
                    notices[item.room] = Lagged(item.room)
                    kept.append(notices[item.room])
                self._drop(item, notices[item.room])
                continue
            kept.append(item)
            if type(item) is Lagged:
                notices[item.room] = item
            else:
                notices = {}
        self._items[:0] = kept
