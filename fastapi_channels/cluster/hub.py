"""Who listens to which room in this process, and the fan-out to them.

What is delivered within one turn of the event loop is collected and leaves together: a member gets one
write for many frames. So do the replies to what a client has sent in one go. A broker may bring a burst in
parts: where many are written to, a part waits for the rest. Whatever else writes to a single connection calls
`flush` first, so that every connection sees one order.
"""

from __future__ import annotations

import asyncio
import heapq
import operator
from collections.abc import Callable, Collection, Iterable
from functools import partial
from time import monotonic
from typing import Final, Generic, Protocol, TypeVar

from fastapi_channels.wire.bursts import MAX_WAIT, Bursts, Keeper
from fastapi_channels.wire.messages import Frame
from fastapi_channels.wire.rooms import name_of
from fastapi_channels.wire.traffic import Traffic

MAX_JOINED: Final = 64 * 1024
"""Bytes of frames that are joined for one write."""
MAX_LISTED: Final = 1000
"""Rooms that are told to who asks."""
MAX_COLLECTED: Final = 256 * 1024
"""Bytes of frames that are collected before they are sent without waiting for the turn's end."""
MAX_TURNS: Final = 20
"""Turns of the event loop, after the first, that a part of a burst waits for the rest."""
WRITES_A_TURN: Final = 16
"""Writes that cost more than such a turn: nobody waits for longer than to write to all once more takes."""


def soon(call: Callable[[], None]) -> None:
    """Call it when the current turn of the event loop has ended."""
    asyncio.get_running_loop().call_soon(call)


class Transport(Protocol):
    """Where finished frames of one connection can be written."""

    def write(self, data: bytes, /) -> object: ...


class Recipient(Protocol):
    """What can be sent frames."""

    @property
    def direct(self) -> Transport | None:
        """Takes frames at once; None while they have to be queued. `Hub.redirect` is told of every change."""
        ...

    def push(self, frame: Frame) -> None:
        """Queue `frame`, without waiting and without raising."""
        ...


class Member(Recipient, Protocol):
    """What the hub needs of a connection."""

    @property
    def id(self) -> str: ...


M = TypeVar("M", bound=Member)
R = TypeVar("R", bound=Recipient)


class _Room(Generic[M]):
    """The members of a room, by id, and the transports of those that can be written to at once.

    To look at each member for its transport would cost a delivery more than all the rest: they lie apart in
    memory.
    """

    __slots__ = ("members", "transports")

    def __init__(self) -> None:
        self.members: dict[str, M] = {}
        self.transports: dict[str, Transport] = {}

    def put(self, member: M) -> None:
        self.members[member.id] = member
        direct = member.direct
        if direct is not None:
            self.transports[member.id] = direct
        else:
            self.transports.pop(member.id, None)


class Hub(Generic[M]):
    """Room → its local members.

    Args:
        at_turns_end: calls a function when the current turn of the event loop has ended.
        expects: whether more is about to be delivered; None where nothing comes in parts.

    Attributes:
        bursts: replies that leave together, all of them older than what is collected.
        traffic: is added to once for all members that are written to at once; None where nobody asked.
    """

    __slots__ = ("_at_turns_end", "_collected", "_expects", "_rooms", "_size", "bursts", "traffic")

    def __init__(
        self,
        at_turns_end: Callable[[Callable[[], None]], object],
        expects: Callable[[], bool] | None = None,
    ) -> None:
        self._rooms: dict[str, _Room[M]] = {}
        self._at_turns_end = at_turns_end
        self._expects = expects
        self._collected: list[tuple[str, Frame, Collection[str]]] = []
        self._size = 0
        self.bursts: Bursts[Frame] = Bursts(at_turns_end)
        self.traffic: Traffic | None = None

    @property
    def rooms(self) -> Collection[str]:
        """The rooms that have a member here."""
        return self._rooms.keys()

    def add(self, room: str, member: M) -> None:
        """Let `member` receive what is delivered to `room` from now on."""
        self.flush()
        found = self._rooms.get(room)
        if found is None:
            found = self._rooms[room] = _Room()
        found.put(member)

    def redirect(self, room: str, member: M) -> None:
        """`member.direct` has changed. Nothing is flushed: it may change in the midst of that."""
        found = self._rooms.get(room)
        if found is not None and member.id in found.members:
            found.put(member)

    def discard(self, room: str, member: M) -> bool:
        """Take `member` out of `room`; whether it was the last one in it."""
        self.flush()
        found = self._rooms.get(room)
        if found is None or found.members.pop(member.id, None) is None:
            return False
        found.transports.pop(member.id, None)
        if found.members:
            return False
        del self._rooms[room]
        return True

    def count(self, room: str) -> int:
        return len(self._rooms[room].members) if room in self._rooms else 0

    def listed(self, text: str = "") -> tuple[int, dict[str, int]]:
        """How many rooms here have `text` in their names; and how many members those of them have that have
        the most."""
        counts = {room: len(found.members) for room, found in self._rooms.items() if text in name_of(room)}
        return len(counts), dict(heapq.nlargest(MAX_LISTED, counts.items(), key=operator.itemgetter(1)))

    def members(self, room: str) -> list[M]:
        return list(self._rooms[room].members.values()) if room in self._rooms else []

    def deliver(self, room: str, frame: Frame, exclude: Collection[str] = ()) -> None:
        """Hand `frame` to the members of `room`, except those with an id in `exclude`."""
        if room not in self._rooms:
            return
        if not self._collected:
            self._at_turns_end(self.flush if self._expects is None else self._end_turn)
        self._collected.append((room, frame, exclude))
        self._size += frame.size
        if self._size >= MAX_COLLECTED:
            self.flush()

    def send(self, recipients: Iterable[Recipient], frame: Frame) -> None:
        """Send `frame` to some, behind what was delivered before."""
        self.flush()
        for recipient in recipients:
            if recipient.direct is not None:
                recipient.direct.write(frame.wire)
                if self.traffic is not None:
                    self.traffic.sent += 1
                    self.traffic.sent_bytes += frame.size
            else:
                recipient.push(frame)

    def keep(self, writer: Keeper[Frame], frame: Frame) -> None:
        """Let `frame` leave by `writer`, behind what was delivered before, together with others."""
        if self._collected:
            self.flush()
        self.bursts.keep(writer, frame, frame.size)

    def flush(self) -> None:
        """Send what was kept and collected."""
        if self.bursts.kept:
            self.bursts.flush()
        if not self._collected:
            return
        collected, self._collected, self._size = self._collected, [], 0
        run: list[Frame] = []
        size, room = 0, ""
        exclude: Collection[str] = ()
        for to, frame, but in collected:
            if run and (to != room or but != exclude or size + frame.size > MAX_JOINED):
                self._send(room, run, size, exclude)
                run, size = [], 0
            room, exclude = to, but
            run.append(frame)
            size += frame.size
        self._send(room, run, size, exclude)

    def _end_turn(self) -> None:
        """Flush when no more is expected, and before waiting for it costs more than it saves."""
        members = max([len(self._rooms[room].members) for room, _, _ in self._collected], default=0)
        self._await_rest(min(members // WRITES_A_TURN, MAX_TURNS), monotonic() + MAX_WAIT)

    def _await_rest(self, turns: int, deadline: float) -> None:
        assert self._expects is not None
        if turns and self._collected and self._expects() and monotonic() < deadline:
            self._at_turns_end(partial(self._await_rest, turns - 1, deadline))
        else:
            self.flush()

    def _send(self, room: str, run: list[Frame], size: int, exclude: Collection[str]) -> None:
        """Send consecutive frames of one room, of that size, to its members."""
        found = self._rooms.get(room)
        if found is None:
            return
        count = len(run)
        wire = run[0].wire if count == 1 else b"".join([frame.wire for frame in run])
        # A write can make the transport pause, which changes `transports`.
        members = len(found.transports)
        if members < len(found.members):
            queued = [member for id, member in found.members.items() if id not in found.transports]
        else:
            queued = []
        if exclude:
            transports = [transport for id, transport in found.transports.items() if id not in exclude]
            members = len(transports)
        else:
            transports = list(found.transports.values())
        for transport in transports:
            transport.write(wire)
        if self.traffic is not None:
            self.traffic.sent += count * members
            self.traffic.sent_bytes += size * members
        for member in queued:
            if member.id not in exclude:
                for frame in run:
                    member.push(frame)
