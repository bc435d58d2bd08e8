"""Who is in which room, as the store has it: what this process enters there and takes out.

Of each room one change is under way at a time, and what comes meanwhile is the next one. So changes of a room
keep their order, and a herd is a few calls. What the store has not taken is done again when it answers. When
the lease was lost, all is entered anew, and who finds no place is displaced.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from fastapi_channels.exceptions import ChannelFull
from fastapi_channels.stores import Entered, LeaseLost, Left, Limits, Occupant, Store, StoreUnavailable

from .tasks import Tasks
from .tenure import Tenure

logger = logging.getLogger("fastapi_channels")

AT_ONCE: Final = 200
"""Rooms that are changed in the store at the same time."""
NO_LIMITS: Final = Limits()

Waiter: TypeAlias = "asyncio.Future[None] | None"


class _Room:
    __slots__ = ("again", "entering", "leaving", "limits", "occupants", "task")

    def __init__(self) -> None:
        self.limits = NO_LIMITS
        self.occupants: dict[str, Occupant] = {}
        """Those of this process, by id, that are to be in."""
        self.entering: dict[str, Waiter] = {}
        self.leaving: set[str] = set()
        self.again = False
        """Whether all are to be entered."""
        self.task: asyncio.Task[None] | None = None

    @property
    def has_work(self) -> bool:
        return self.again or bool(self.entering) or bool(self.leaving)


class Roster:
    """
    Args:
        node: the id of this process.
        store: of all processes.
        on_displaced: called with a room and an id when a connection has lost its place to another.
        on_missed: called with a room whose messages were withheld.

    Attributes:
        guarded: the rooms of limited size that have members here.
    """

    def __init__(
        self,
        node: str,
        store: Store,
        on_displaced: Callable[[str, str], None],
        on_missed: Callable[[str], None],
    ) -> None:
        self.tenure = Tenure(node, store, self._renewed, self._evicted)
        self._store = store
        self._on_displaced = on_displaced
        self._on_missed = on_missed
        self.reset()

    def reset(self) -> None:
        """Know nobody, and run in whatever event loop comes next."""
        self.tenure.reset()
        self.guarded: set[str] = set()
        self._rooms: dict[str, _Room] = {}
        self._withheld: set[str] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks = Tasks()

    def __len__(self) -> int:
        """How many are entered, or to be, by this process."""
        return sum(len(state.occupants) for state in self._rooms.values())

    def start(self) -> None:
        if self._store.shared:
            self.tenure.start()

    async def stop(self) -> None:
        """Take out all that this process has entered."""
        await self._tasks.stop()
        await self.tenure.stop()
        self.reset()

    # Members

    async def enter(self, room: str, occupant: Occupant, limits: Limits) -> None:
        """Give `occupant` a place in a room of limited size.

        Raises:
            ChannelFull: there is none.
            StoreUnavailable: the store did not say.
        """
        for _ in range(2):
            await self.tenure.regain()
            state = self._state(room)
            state.limits = limits
            self.guarded.add(room)
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._put(room, state, occupant, waiter)
            try:
                return await waiter
            except LeaseLost:
                self.leave(room, occupant.id)
            except BaseException:
                self.leave(room, occupant.id)
                raise
        raise StoreUnavailable("the lease was lost twice while a place was asked for")

    def enlist(self, room: str, occupant: Occupant) -> None:
        """Let all processes know that `occupant` is in `room`, which takes any number; never waits."""
        self._put(room, self._state(room), occupant, None)

    def leave(self, room: str, id: str) -> None:
        """Undo `enter`, or `enlist`; never waits and never fails."""
        state = self._rooms.get(room)
        if state is None or id not in state.occupants:
            return
        del state.occupants[id]
        if id in state.entering:
            _settle(state.entering.pop(id), None)
        else:
            state.leaving.add(id)
        self._work(room, state)

    async def count(self, room: str) -> int:
        """How many are in `room`, over all processes.

        Raises:
            StoreUnavailable: the store did not answer in time.
        """
        await self._caught_up(room)
        return await self._store.count(room)

    async def occupants(self, room: str) -> list[Occupant]:
        """Who is in `room`, over all processes, in the order in which they came.

        Raises:
            StoreUnavailable: the store did not answer in time.
        """
        await self._caught_up(room)
        return (await self._store.occupancy(room)).occupants

    def withholds(self, room: str) -> bool:
        """Whether members of `room` must not get what is sent there: their places may be others' by now."""
        if room not in self.guarded or self.tenure.holds:
            return False
        if not self._withheld:
            self._tasks.spawn(self._regain())
        self._withheld.add(room)
        return True

    # One room after the other

    def _state(self, room: str) -> _Room:
        return self._rooms.setdefault(room, _Room())

    def _put(self, room: str, state: _Room, occupant: Occupant, waiter: Waiter) -> None:
        state.occupants[occupant.id] = occupant
        state.entering[occupant.id] = waiter
        state.leaving.discard(occupant.id)
        self._work(room, state)

    def _work(self, room: str, state: _Room) -> None:
        if state.task is None and state.has_work:
            state.task = asyncio.get_running_loop().create_task(self._change(room, state))

    async def _change(self, room: str, state: _Room) -> None:
        try:
            async with self._slots:
                while state.has_work and self.tenure.lease is not None:
                    if not await self._step(room, state):
                        break
        finally:
            state.task = None
            if not state.occupants and not state.has_work:
                self._rooms.pop(room, None)
                self.guarded.discard(room)

    async def _step(self, room: str, state: _Room) -> bool:
        """Do in the store what is to be done now; False where it must be done again."""
        leaving, state.leaving = state.leaving, set()
        entering, state.entering = state.entering, {}
        again, state.again = state.again, False
        lease = self.tenure.lease
        assert lease is not None
        try:
            if leaving:
                await self._store.leave(room, leaving)
            wanted = state.occupants if again else entering
            occupants = [state.occupants[id] for id in wanted if id in state.occupants]
            if occupants:
                entered = await self._store.enter(room, occupants, lease, state.limits)
                self._take(room, state, entering, entered)
        except (StoreUnavailable, LeaseLost) as exc:
            # Whether it was done is not known.
            state.leaving |= leaving - state.occupants.keys()
            state.again = True
            for waiter in entering.values():
                _settle(waiter, exc)
            if isinstance(exc, LeaseLost):
                self.tenure.doubt()
                self._tasks.spawn(self._regain())
            return False
        for waiter in entering.values():
            _settle(waiter, None)
        return True

    def _take(self, room: str, state: _Room, entering: Mapping[str, Waiter], entered: Entered) -> None:
        """Take note of who has found no place."""
        for id in (*entered.full, *entered.over):
            if state.occupants.pop(id, None) is None:
                continue
            waiter = entering.get(id)
            if waiter is not None:
                _settle(waiter, ChannelFull(close=False, context={"limit": state.limits.seats}))
            else:
                self._on_displaced(room, id)

    async def _caught_up(self, room: str) -> None:
        """Wait until the store knows what this process has said before."""
        await self.tenure.regain()
        state = self._rooms.get(room)
        if state is not None and state.task is not None:
            await asyncio.wait((state.task,))

    # The lease

    async def _renewed(self, lost: bool) -> None:
        rooms = list(self._rooms.items())
        for room, state in rooms:
            state.again = state.again or (lost and bool(state.occupants))
            self._work(room, state)
        if lost:
            tasks = [state.task for _, state in rooms if state.task is not None]
            if tasks:
                await asyncio.wait(tasks)
            if any(state.again for room, state in rooms if room in self.guarded):
                raise StoreUnavailable("not everybody could be entered under the new lease")
        withheld, self._withheld = self._withheld, set()
        for room in withheld:
            self._on_missed(room)

    async def _regain(self) -> None:
        try:
            await self.tenure.regain()
        except StoreUnavailable as exc:
            logger.debug("the places in this process are not known: %s", exc)

    def _evicted(self, left: Iterable[Left]) -> None:
        """Nobody here asks for it yet."""


def _settle(waiter: Waiter, problem: Exception | None) -> None:
    if waiter is None or waiter.done():
        return
    if problem is None:
        waiter.set_result(None)
    else:
        waiter.set_exception(problem)
