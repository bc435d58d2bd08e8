"""The histories of the rooms that have members here: what passes to them, and what those who come back get.

Each room has a gate, which lets publications through in the order of the store. What the broker has lost is
read from the store, once for all members of the room.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from fastapi_channels.exceptions import ParseError
from fastapi_channels.stores import Page, Part, Record, Store, StoreUnavailable
from fastapi_channels.wire.log import Seldom
from fastapi_channels.wire.messages import Frame, Publication
from fastapi_channels.wire.positions import Position
from fastapi_channels.wire.rooms import name_of

from .gate import Gate, Passed
from .marks import Marks
from .recovery import Arrival, Keeping, See, Since, Tail, decide, gone, placed
from .tasks import Tasks, shared

logger = logging.getLogger("fastapi_channels")

PATIENCE: Final = 0.05
"""Seconds that a publication which came too early waits for the one before it, until the store is read."""
GIVING_UP: Final = 10.0
"""Seconds without the store until what is held passes, and members are told that something is missing."""
COMPARING: Final = 30.0
"""Seconds between two looks at whether the store has more than has passed."""
RETRY: Final = 1.0
"""Seconds until the store is asked again that did not answer."""
AT_ONCE: Final = 500
"""Publications that are read, and rooms that are compared, in one call of the store."""
TAIL: Final = 5.0
"""Seconds that what was read for one client is kept for the next who comes back."""


class Rooms(Protocol):
    """Where publications go to."""

    def pass_on(self, room: str, frame: Frame, exclude: frozenset[str], for_each: str) -> None: ...

    def missed(self, room: str, position: Position | None = None) -> None:
        """Publications of `room` before `position` are missing, for good."""
        ...


class _History:
    __slots__ = ("began", "gate", "healing", "keeping", "looking", "opening", "reading", "tail")

    def __init__(self, keeping: Keeping) -> None:
        self.keeping = keeping
        self.gate = Gate()
        self.began: Position | None = None
        """Where the gate stood when it opened."""
        self.opening: asyncio.Task[None] | None = None
        self.looking: asyncio.Task[None] | None = None
        self.reading: asyncio.Task[None] | None = None
        self.healing = False
        self.tail: Tail | None = None


class Histories:
    """
    Args:
        store: has the histories.
        namespace: begins the names of rooms there.
        rooms: takes what passes.

    Attributes:
        came: by room and id of a member: what it gets comes after this position, where None is that at which
            the gate opened; and which connection it says it had. Whoever leaves is taken out.
    """

    def __init__(self, store: Store, namespace: str, rooms: Rooms) -> None:
        self._store = store
        self._namespace = namespace
        self._target = rooms
        self.came: dict[tuple[str, str], tuple[Position | None, str]] = {}
        self._open: dict[str, _History] = {}
        self._marks = Marks()
        """Of rooms that are not open."""
        self._compares_marks = False
        self._connects = store.connects
        """How often the store had connected when the marks were compared."""
        self._tasks = Tasks()
        self._comparing = False
        self._losses = Seldom(logger)
        self._timer: asyncio.TimerHandle | None = None

    def __contains__(self, room: object) -> bool:
        return room in self._open

    async def stop(self) -> None:
        await self._tasks.stop()
        self.reset()

    def reset(self) -> None:
        """Know nothing, and run in whatever event loop comes next."""
        self.came.clear()
        self._open.clear()
        self._marks.clear()
        self._tasks = Tasks()
        self._comparing = False
        self._stop_comparing()

    # What is published

    def known(self, room: str) -> Position | None:
        """How far the history of `room` has come, as this process knows; None where it does not."""
        found = self._open.get(room)
        position = None if found is None else found.gate.position
        return self._marks.get(room) if position is None else position

    def published(self, room: str, position: Position) -> None:
        """A publication of this process has that position."""
        if room not in self._open:  # else it passes
            self._marks.note(room, position)
            self._compare_later()

    def take(self, room: str, publication: Publication) -> bool:
        """Let a publication through when it is its turn; False for one that has no position here."""
        found = self._open.get(room)
        if found is None or not publication.position:
            return False
        try:
            position = Position.parse(publication.position)
        except ParseError:
            return False
        for_each = publication.for_each
        record = Record(position.offset, publication.body, publication.exclude, for_each=for_each)
        self._pass(room, found, found.gate.take(position.epoch, record))
        if found.gate.is_behind:
            self._heal(room, found, PATIENCE)
        return True

    async def read(self, room: str, keeping: Keeping, at: Position | None, limit: int, reverse: bool) -> Page:
        """What comes after `at`, or before it if `reverse`; all, where the epoch of `at` has ended."""
        topic, keep = self._namespace + room, keeping.keep
        if at is not None:
            after, before = (0, at.offset) if reverse else (at.offset, None)
            page = await self._store.read(topic, keep, Part(after, before, limit, reverse))
            if page.epoch == at.epoch:
                return page
        return await self._store.read(topic, keep, Part(limit=limit, reverse=reverse))

    # Members

    def enter(self, room: str, keeping: Keeping, connection: str, since: Since | None) -> Position | None:
        """Let publications of `room` through to `connection` from now on; what has passed so far; None for
        nothing."""
        found = self._open.get(room)
        if found is None:
            found = self._open[room] = _History(keeping)
            self._compare_later()
        found.keeping = keeping
        self.came[room, connection] = found.gate.position, since.connection if since is not None else ""
        return found.gate.position

    def close(self, room: str) -> None:
        """Nobody is in `room` any more."""
        found = self._open.pop(room, None)
        if found is not None and found.gate.position is not None:
            self._marks.note(room, found.gate.position)

    async def reach(self, room: str, since: Since | None) -> None:
        """Return when all that the client has had has passed here too: it may come from a process that was
        faster. What it says is looked up, and never told the store: a client could end an epoch with it.

        Raises:
            StoreUnavailable: the store did not answer.
        """
        found = self._open.get(room)
        if found is None or since is None:
            return
        # A look that is under way may have begun before the client got what it has had.
        for _ in range(1 if found.looking is None else 2):
            if found.gate.has_passed(since.position):
                return
            if found.looking is None:
                found.looking = shared(self._look_again(room, found))
            await asyncio.shield(found.looking)

    async def _look_again(self, room: str, found: _History) -> None:
        topic = self._namespace + room
        try:
            found.gate.compare((await self._store.tops({topic: found.gate.position}))[topic])
            await self._read_on(room, found)
        finally:
            found.looking = None

    def connection_at(self, room: str, connection: str, position: Position) -> str:
        """Which connection a member of `room` was when `position` was published: itself, or the one that it
        says it had; empty where that is not known."""
        came, found = self.came.get((room, connection)), self._open.get(room)
        if came is None or found is None:
            return ""
        begins, formerly = came[0] or found.began, came[1]
        was_there = begins is None or begins.epoch != position.epoch or begins.offset < position.offset
        return connection if was_there else formerly

    async def arrive(
        self, room: str, begins: Position | None, since: Since | None, user: str | None, see: See
    ) -> Arrival:
        """What a client gets that receives what comes after `begins`; None: since `enter` was first called.

        Raises:
            StoreUnavailable: the store did not answer.
        """
        found = self._open[room]
        if begins is None:
            begins = await self._opened(room, found)
        decided = decide(begins, since, found.keeping)
        if decided is not None:
            return decided
        tail = await self._tail(room, found, begins)
        return gone(begins, since) if tail is None else tail.arrival(begins, since, user, see)

    async def catch_up(self, room: str, connection: str, since: Since, user: str | None, see: See) -> Arrival:
        """What a member gets that has missed something, and receives what passes from now on.

        Raises:
            StoreUnavailable: the store did not answer.
        """
        missed = since.position._replace(offset=since.position.offset + 1)
        since = Since(since.position, self.connection_at(room, connection, missed))
        return await self.arrive(room, self._open[room].gate.position, since, user, see)

    async def _opened(self, room: str, found: _History) -> Position:
        while found.began is None:
            if found.opening is None:
                found.opening = shared(self._look(room, found))
            await asyncio.shield(found.opening)
        return found.began

    async def _look(self, room: str, found: _History) -> None:
        topic = self._namespace + room
        try:
            position = (await self._store.tops({topic: self._marks.get(room)}))[topic]
            passed = found.gate.fill(Page(*position, position.offset + 1, []))
            found.began = passed.after
            self._pass(room, found, passed)
        finally:
            found.opening = None

    async def _tail(self, room: str, found: _History, upto: Position) -> Tail | None:
        """The newest publications, `upto` among them; None where the store has them no more."""
        for _ in range(3):  # one that is under way may have begun before `upto` was published
            tail = found.tail
            if tail is not None and tail.epoch == upto.epoch and tail.top >= upto.offset:
                tail.used = asyncio.get_running_loop().time()
                return tail
            if found.reading is None:
                found.reading = shared(self._read_tail(room, found))
            await asyncio.shield(found.reading)
        return None

    async def _read_tail(self, room: str, found: _History) -> None:
        try:
            keeping = found.keeping
            newest = Part(limit=keeping.limit, reverse=True)
            page = await self._store.read(self._namespace + room, keeping.keep, newest)
            tail = Tail(page, keeping)
            for record in reversed(page.records):
                tail.add(record, placed(room, keeping, page.epoch, record))
            found.tail = tail
            asyncio.get_running_loop().call_later(TAIL, self._forget_tail, found, tail)
        finally:
            found.reading = None

    def _forget_tail(self, found: _History, tail: Tail) -> None:
        loop = asyncio.get_running_loop()
        remaining = tail.used + TAIL - loop.time()
        if remaining > 0:
            loop.call_later(remaining, self._forget_tail, found, tail)
        elif found.tail is tail:
            found.tail = None

    # What was lost on the way

    def compare(self, *, marks: bool = False) -> None:
        """See what the store has that has not passed: the broker may have lost it.

        Args:
            marks: whether the store may have been set back: then also rooms that are not open are compared.
        """
        self._compares_marks = self._compares_marks or marks or self._store.connects != self._connects
        if not self._comparing and (self._open or (self._compares_marks and self._marks)):
            self._comparing = True
            self._tasks.spawn(self._compare())

    async def _compare(self) -> None:
        try:
            rooms = list(self._open)
            if self._compares_marks:
                self._compares_marks = False
                rooms += self._marks
            while rooms:
                some, rooms = rooms[:AT_ONCE], rooms[AT_ONCE:]
                try:
                    tops = await self._store.tops(dict(self._positions(some)))
                except StoreUnavailable as exc:
                    logger.debug("the histories could not be compared: %s", exc)
                    await asyncio.sleep(RETRY)
                    rooms = some + rooms
                    continue
                for topic, top in tops.items():
                    room = topic.removeprefix(self._namespace)
                    found = self._open.get(room)
                    if found is not None:
                        found.gate.compare(top)
                        self._heal(room, found, 0)
                    else:
                        self._marks.note(room, top)
            self._connects = self._store.connects
        finally:
            self._comparing = False

    def _positions(self, rooms: Iterable[str]) -> Iterator[tuple[str, Position]]:
        for room in rooms:
            position = self.known(room)
            if position is not None:
                yield self._namespace + room, position

    def _stop_comparing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _compare_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(COMPARING, self._compare_again)

    def _compare_again(self) -> None:
        self._timer = None
        self.compare()
        self._compare_later()

    def _heal(self, room: str, found: _History, delay: float) -> None:
        if found.gate.is_behind and not found.healing and found.gate.position is not None:
            found.healing = True
            self._tasks.spawn(self._heal_after(room, found, delay))

    async def _heal_after(self, room: str, found: _History, delay: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + GIVING_UP
        try:
            while True:
                await asyncio.sleep(delay)
                if self._open.get(room) is not found or not found.gate.is_behind:
                    return
                try:
                    await self._read_on(room, found)
                except StoreUnavailable as exc:
                    if loop.time() > deadline:
                        self._losses.warn(f"messages of {name_of(room)!r} are missing: {exc}")
                        self._pass(room, found, found.gate.give_up())
                        return
                    delay = min(1.0, 2 * delay + PATIENCE)
        finally:
            found.healing = False

    async def _read_on(self, room: str, found: _History) -> None:
        """Read until what is known of has passed."""
        gate = found.gate
        while gate.is_behind and gate.position is not None:
            missing = Part(after=gate.position.offset, limit=AT_ONCE)
            page = await self._store.read(self._namespace + room, found.keeping.keep, missing)
            self._pass(room, found, gate.fill(page))

    def _pass(self, room: str, found: _History, passed: Passed | None) -> None:
        if passed is None:
            return
        if passed.is_lost:
            found.tail = None
            self._target.missed(room, passed.after)
        for record in passed.records:
            frame = placed(room, found.keeping, passed.after.epoch, record)
            if found.tail is not None:
                found.tail.add(record, frame)
            self._target.pass_on(room, frame, record.exclude, record.for_each)
