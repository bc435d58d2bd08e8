"""What a client gets that comes back to a room with history. Pure."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.stores import Page, Record, Retention
from fastapi_channels.wire.messages import Body, Frame, size_of
from fastapi_channels.wire.positions import Position
from fastapi_channels.wire.rooms import name_of

See: TypeAlias = Callable[[str, Frame], Frame | None]
"""What a client gets of a frame that a function of that name is asked about; None for nothing."""
Reason: TypeAlias = Literal["epoch", "expired", "limit"]
"""Why a client cannot have what it has missed: the history began anew, or does not reach back so far, or it
is more than the channel's `recovery_limit`."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """What a channel says of the history of its rooms.

    Attributes:
        keep: how much the store keeps of each.
        limit: publications that a client which comes back gets at most.
        cache: whether a client that comes without a position gets the latest publication.
        place: puts a position into a body.
    """

    keep: Retention
    limit: int
    cache: bool
    place: Callable[[Body, str], Body]

    def check(self, body: Body) -> None:
        """
        Raises:
            ConfigurationError: `body` has no place for a position.
        """
        try:
            self.place(body, "")
        except ValueError as exc:
            raise ConfigurationError(
                "what is broadcast in a room with history must be an object, with a place for its position: "
                f"{str(exc)[:100]}"
            ) from None


_CONNECTION: Final = re.compile(r"[0-9a-f]{1,32}\.[0-9]{1,15}", re.ASCII)


class Since(NamedTuple):
    """Where a client that comes back has been.

    Attributes:
        position: of the last publication that it has.
        connection: the id of the connection that it had; empty where it says none that can be.
    """

    position: Position
    connection: str = ""

    @classmethod
    def read(cls, position: Any, connection: Any) -> Since | None:
        """What a client says; None where it says nothing.

        Raises:
            InvalidPosition: it is not a position.
        """
        if position is None or position == "":
            return None
        is_one = isinstance(connection, str) and _CONNECTION.fullmatch(connection)
        return cls(Position.parse(position), connection if is_one else "")


class Arrival(NamedTuple):
    """What a client in a room with history is told first of all.

    Attributes:
        position: where it is: what follows comes after it.
        frames: what it has missed, or the latest publication.
        recovered: whether `frames` are all that it has missed; None where it has not asked.
        reason: why they are not.
    """

    position: Position
    frames: Collection[Frame] = ()
    recovered: bool | None = None
    reason: Reason | None = None


def placed(room: str, keeping: Keeping, epoch: str, record: Record) -> Frame:
    position = str(Position(epoch, record.offset))
    return Frame(keeping.place(record.body, position), name_of(room), position)


class Tail:
    """The newest publications of a room, ready for everybody who comes back."""

    def __init__(self, page: Page, keeping: Keeping) -> None:
        self.epoch = page.epoch
        self.kept = page.first
        """The lowest offset that the store had."""
        self.top = page.top - len(page.records)
        self.used = 0.0
        self._keeping = keeping
        self._records: deque[tuple[Record, Frame]] = deque()
        self._size = 0

    def add(self, record: Record, frame: Frame) -> None:
        """Take the next one; what is there already is left out."""
        if record.offset != self.top + 1:
            return
        self._records.append((record, frame))
        self._size += size_of(record.body)
        self.top = record.offset
        while len(self._records) > self._keeping.limit or (
            self._size > self._keeping.keep.size and len(self._records) > 1
        ):
            self._size -= size_of(self._records.popleft()[0].body)

    def arrival(self, begins: Position, since: Since | None, user: str | None, see: See) -> Arrival:
        """What a client of `user` gets that receives what comes after `begins`, which is here or was."""
        first = self.top + 1 - len(self._records)
        after = begins.offset - 1 if since is None else since.position.offset
        if since is not None and first > after + 1:
            return Arrival(begins, recovered=False, reason="expired" if self.kept > after + 1 else "limit")
        # Offsets have no gaps.
        wanted = islice(self._records, max(0, after + 1 - first), max(0, begins.offset + 1 - first))
        frames: list[Frame] = []
        for record, frame in wanted:
            if since is not None and was_kept_from(record, since.connection, user):
                continue
            seen = see(record.for_each, frame) if record.for_each else frame
            if seen is not None:
                frames.append(seen)
        return Arrival(begins, frames) if since is None else Arrival(since.position, frames, recovered=True)


def decide(begins: Position, since: Since | None, keeping: Keeping) -> Arrival | None:
    """What a client gets that receives what comes after `begins`; None: that depends on what there is."""
    if since is None:
        return None if keeping.cache and begins.offset else Arrival(begins)
    missed = begins.offset - since.position.offset
    if since.position.epoch != begins.epoch or missed < 0:
        return gone(begins, since)
    if missed > keeping.limit:
        return Arrival(begins, recovered=False, reason="limit")
    return None if missed else Arrival(begins, recovered=True)


def gone(begins: Position, since: Since | None) -> Arrival:
    """What a client gets where the history began anew."""
    return Arrival(begins) if since is None else Arrival(begins, recovered=False, reason="epoch")


def was_kept_from(record: Record, connection: str, user: str | None) -> bool:
    """Whether the client did not get it: that connection, or, where it does not say which, that user."""
    return connection in record.exclude if connection else user is not None and user in record.users


class Successors:
    """The connections that clients have which came back, by the ids of those that they had."""

    __slots__ = ("_former", "_now")

    def __init__(self) -> None:
        self._now: dict[str, str] = {}
        self._former: dict[str, str] = {}

    def add(self, former: str, now: str) -> None:
        self._now[former] = now
        self._former[now] = former

    def discard(self, now: str) -> None:
        """It has ended too."""
        former = self._former.pop(now, "")
        if self._now.get(former) == now:
            del self._now[former]

    def also(self, ids: frozenset[str]) -> frozenset[str]:
        """`ids`, and those that their clients have now."""
        if not ids or not self._now:
            return ids
        return ids | {self._now[id] for id in ids if id in self._now}
