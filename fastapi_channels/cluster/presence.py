"""Who is present in the rooms that have members here: what the members are shown, and when.

A process that has changed a room in the store tells the others, over the broker. Each keeps a view of the
rooms of its members, and reads a room when it has missed something. What has changed goes to the members as
one frame, at most once in each interval. Who comes between two of them is shown at once what the others have
been shown, and itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final, NamedTuple

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

from fastapi_channels.connection import Connection
from fastapi_channels.stores import Occupant, Store, StoreUnavailable
from fastapi_channels.wire.messages import Body, Envelope, Frame, Publication
from fastapi_channels.wire.rooms import name_of

from .hub import Hub
from .tasks import Tasks
from .view import Change, Difference, View

logger = logging.getLogger("fastapi_channels")

KIND: Final = "presence"
"""Of the publications that tell a change."""
PATIENCE: Final = 0.05
"""Seconds that a change which came too early waits for the one before it, until the room is read."""
COMPARING: Final = 30.0
"""Seconds between two looks at whether the store has what is shown."""
AT_ONCE: Final = 20
"""Rooms that are compared at a time."""
GREETED: Final = 20_000
"""Entries of lists that who comes to a room between two frames is shown, in a second: a herd shares lists."""
MAX_TOLD: Final = 256 * 1024
"""Bytes of a change that is told; of a larger one it is told that it was."""


class Showing(NamedTuple):
    """What a channel says of presence in its rooms.

    Attributes:
        interval: seconds between two frames about one room.
        grace: seconds that a user who has left is shown.
        envelope: makes the frames.
    """

    interval: float
    grace: float
    envelope: Callable[[], Envelope]


@dataclass(slots=True, eq=False)
class _Room:
    showing: Showing
    view: View
    version: int = 0
    """Of what the members have been shown: it counts the frames."""
    showed: float = -inf
    """When that was."""
    members: set[str] = field(default_factory=set)
    waiting: dict[str, Connection] = field(default_factory=dict)
    """Members that are to be shown everybody, with the next frame."""
    coming: dict[str, tuple[Connection, float]] = field(default_factory=dict)
    """Members that are to be shown everybody once they are among them, and at that time in any case."""
    has_come: bool = False
    """Whether one of them is."""
    timer: asyncio.TimerHandle | None = None
    planned: float = inf  # for which `timer` is: not every loop's handle has `when`
    due: float = inf
    """When the members are shown what is new."""
    greets: float = -inf
    """From when on those who come before that are shown everybody."""
    is_heard: bool = False
    """Whether nothing is missed that others tell: what is read before that may be out of date."""
    reading: bool = False


class Presences:
    """
    Args:
        store: has who is where.
        namespace: begins the names of rooms there.
        hub: reaches the members here.
        publish: tells the other processes.

    Attributes:
        changes: how often the members of a room were shown what was new.
        lists: how often one of them was shown everybody.
    """

    def __init__(
        self,
        store: Store,
        namespace: str,
        hub: Hub[Connection],  # pyright: ignore[reportInvalidTypeArguments]
        publish: Callable[[Publication], Awaitable[None]] | None,
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._hub = hub
        self._publish = publish
        self._open: dict[str, _Room] = {}
        self.changes = self.lists = 0
        self._comparing = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks = Tasks()
        self._telling: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """Show nobody anything any more; returns when the others know what was changed."""
        await self._tasks.stop()
        if self._telling:
            await asyncio.wait(self._telling)
        self.reset()

    def reset(self) -> None:
        """Know nothing, and run in whatever event loop comes next."""
        for room in list(self._open):
            self.close(room)
        self._tasks = Tasks()
        self._telling.clear()
        self._comparing = False

    # Members

    @property
    def members(self) -> int:
        """How many are shown who is in a room; one can be in several."""
        return sum([len(found.members) for found in list(self._open.values())])

    def enter(self, room: str, connection: Connection, showing: Showing) -> None:
        """Show `connection` who is in `room`, from now on."""
        found = self._open.get(room)
        if found is None:
            found = self._open[room] = _Room(showing, View(showing.grace))
            if self._publish is not None:
                self._compare_later()
        found.members.add(connection.id)
        found.coming[connection.id] = connection, _now() + showing.interval
        found.has_come = found.has_come or connection.id in found.view.shown
        self._plan(room, found)

    def subscribed(self, room: str) -> None:
        """Nothing that is told of `room` is missed from now on."""
        found = self._open.get(room)
        if found is not None and not found.is_heard:
            found.is_heard = True
            self._read(room, found, 0.0)

    def leave(self, room: str, id: str) -> None:
        found = self._open.get(room)
        if found is not None:
            found.members.discard(id)
            found.waiting.pop(id, None)
            found.coming.pop(id, None)

    def ask(self, room: str, connection: Connection) -> None:
        """Show `connection` everybody again, with the next frame of `room`."""
        found = self._open.get(room)
        if found is not None and connection.id in found.members:
            found.waiting[connection.id] = connection
            self._wake(room, found, _now())

    def close(self, room: str) -> None:
        """Nobody is in `room` any more."""
        found = self._open.pop(room, None)
        if found is not None and found.timer is not None:
            found.timer.cancel()
        if not self._open and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Changes

    def changed(self, topic: str, change: Change, shows: bool) -> None:
        """This process has changed a room.

        Args:
            shows: whether anybody in the change is one who is shown.
        """
        room = topic.removeprefix(self._namespace)
        if room in self._open:
            self._take(room, change)
        elif not shows:
            return
        if self._publish is not None:
            task = asyncio.get_running_loop().create_task(self._tell(topic, change))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    def receive(self, publication: Publication) -> None:
        """Take what another process has told."""
        room = publication.topic.removeprefix(self._namespace)
        if room in self._open:
            try:
                self._take(room, _read(publication.body))
            except (ValueError, TypeError) as exc:
                logger.warning("what was told of who is in %r cannot be read: %s", name_of(room), exc)

    async def _tell(self, topic: str, change: Change) -> None:
        assert self._publish is not None
        body = _told(change)
        if len(body) > MAX_TOLD:
            body = _told(Change(change.version, None))
        try:
            await self._publish(Publication(topic, body, kind=KIND))
        except ConnectionError as exc:
            logger.debug("the other processes see a change later: %s", exc)

    def _take(self, room: str, change: Change) -> None:
        found = self._open[room]
        found.view.take(change, _now())
        if found.view.is_behind:
            self._read(room, found, PATIENCE)
        self._changed(room, found)

    def _changed(self, room: str, found: _Room) -> None:
        found.has_come = not found.view.shown.keys().isdisjoint(found.coming)
        self._wake(room, found, _now())

    # Reading

    def _read(self, room: str, found: _Room, delay: float) -> None:
        if found.is_heard and not found.reading:
            found.reading = True
            self._tasks.spawn(self._read_on(room, found, delay))

    async def _read_on(self, room: str, found: _Room, delay: float) -> None:
        try:
            while True:
                await asyncio.sleep(delay)
                if self._open.get(room) is not found or not found.view.is_behind:
                    return
                delay = PATIENCE if await self._fill(room, found) else min(1.0, 2 * delay + PATIENCE)
        finally:
            found.reading = False

    async def _fill(self, room: str, found: _Room) -> bool:
        """Read `room`; whether the store answered."""
        found.view.read()
        try:
            version, occupants, _ = await self._store.occupancy(self._namespace + room)
        except StoreUnavailable as exc:
            logger.debug("who is in %r could not be read: %s", name_of(room), exc)
            found.view.abandon()
            return False
        except BaseException:
            found.view.abandon()
            raise
        found.view.fill(version, occupants, _now())
        if self._open.get(room) is found:
            self._changed(room, found)
        return True

    def compare(self) -> None:
        """Read all rooms: the broker may have lost what was told."""
        if not self._comparing and self._open:
            self._comparing = True
            self._tasks.spawn(self._compare())

    async def _compare(self) -> None:
        try:
            rooms = list(self._open.items())
            for start in range(0, len(rooms), AT_ONCE):
                await asyncio.gather(
                    *(self._compare_one(room, found) for room, found in rooms[start : start + AT_ONCE])
                )
        finally:
            self._comparing = False

    async def _compare_one(self, room: str, found: _Room) -> None:
        if self._open.get(room) is not found or found.reading or not found.is_heard:
            return
        found.reading = True
        try:
            answered = await self._fill(room, found)
        finally:
            found.reading = False
        if not answered or found.view.is_behind:
            self._read(room, found, PATIENCE)

    def _compare_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(COMPARING, self._compare_again)

    def _compare_again(self) -> None:
        self._timer = None
        self.compare()
        self._compare_later()

    # Showing

    def _wake(self, room: str, found: _Room, at: float) -> None:
        """Show the members of `room` at that time what is new, or when its interval is over."""
        found.due = min(found.due, max(at, found.showed + found.showing.interval))
        self._plan(room, found)

    def _plan(self, room: str, found: _Room) -> None:
        at = found.due
        if found.coming and found.view.is_loaded:
            _, latest = next(iter(found.coming.values()))
            at = min(at, found.greets if found.has_come else max(latest, found.greets))
        if found.timer is not None:
            if found.planned == at:
                return
            found.timer.cancel()
        found.timer, found.planned = None, at
        if at != inf:
            found.timer = asyncio.get_running_loop().call_at(at, self._look, room, found, at)

    def _look(self, room: str, found: _Room, now: float) -> None:
        found.timer, now = None, max(now, _now())
        come = self._come(found, now)
        nobody_sees = len(come) + len(found.coming) == len(found.members)
        if nobody_sees and not come:
            found.due = inf
        elif nobody_sees or found.due <= now:
            self._show(room, found, come, now)
        elif come:
            self._greet(room, found, come, now)
        self._plan(room, found)

    def _show(self, room: str, found: _Room, come: dict[str, Connection], now: float) -> None:
        """Show the members what is new, and everybody to those who have come, or have asked."""
        view, found.due = found.view, inf
        difference = view.look(now)
        if view.is_loaded:
            come |= found.waiting
            found.waiting = {}
        if difference is not None:
            found.version += 1
            self._send_difference(room, found, difference, {*come, *found.waiting, *found.coming})
        if come:
            self._send_all(room, found, view.shown, come)
        if difference is not None or come:
            found.showed = now
        if view.expires is not None:
            self._wake(room, found, view.expires)

    def _greet(self, room: str, found: _Room, come: dict[str, Connection], now: float) -> None:
        """Show those who have come what the others have been shown, and themselves: the next difference is
        for all."""
        listed = found.view.listed(come.keys())
        found.greets = now + len(listed) / GREETED
        self._send_all(room, found, listed, come)

    def _come(self, found: _Room, now: float) -> dict[str, Connection]:
        """Those who are among all by now, or have waited long enough; nobody waits for them any more."""
        found.has_come, shown = False, found.view.shown
        if not found.view.is_loaded:
            return {}
        come = {id: one for id, (one, at) in found.coming.items() if id in shown or at <= now}
        for id in come:
            del found.coming[id]
        return come

    def _send_difference(self, room: str, found: _Room, difference: Difference, but: set[str]) -> None:
        """Send what is new to the members, except for some."""
        here = self._hub.members(room)
        if len(here) != len(found.members):  # some are there by a channel that shows nobody
            but |= {each.id for each in here} - found.members
        envelope = found.showing.envelope()
        frame = envelope.presence_diff(
            name_of(room),
            found.version,
            joined=_shown(difference.joined),
            changed=_shown(difference.changed),
            left=difference.left,
        )
        self._hub.deliver(room, Frame(envelope.encode(frame), name_of(room)), but)
        self.changes += 1

    def _send_all(
        self, room: str, found: _Room, shown: dict[str, Occupant], to: dict[str, Connection]
    ) -> None:
        envelope = found.showing.envelope()
        said = envelope.presence(name_of(room), found.version, _shown(shown.values()))
        frame = Frame(envelope.encode(said), name_of(room))
        members: Any = to.values()  # pyright binds the function in a Connection's slot as a method
        self._hub.send(members, frame)
        self.lists += len(to)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _shown(occupants: Iterable[Occupant]) -> list[dict[str, Any]]:
    return [{"id": one.id, "user": one.user, "data": from_json(one.data)} for one in occupants]


def _told(change: Change) -> str:
    came = None
    if change.came is not None:
        came = [(one.id, one.user, one.data, one.since) for one in change.came]
    return to_json([change.version, came, list(change.left), list(change.gone)]).decode()


def _read(body: Body) -> Change:
    version, came, left, gone = _TOLD.validate_json(body)
    if came is None:
        return Change(version, None, left, gone)
    for _, _, data, _ in came:
        from_json(data or "null")  # who is shown it must not find that it is none
    return Change(
        version, [Occupant(id, user, "", data, since) for id, user, data, since in came], left, gone
    )


_TOLD: Final = TypeAdapter(
    tuple[int, list[tuple[str, str | None, str, float]] | None, list[str], list[str]],
)
