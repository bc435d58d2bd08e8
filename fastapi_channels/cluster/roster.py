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

from fastapi_channels.exceptions import ChannelFull, CloseCode, TooManyConnections
from fastapi_channels.stores import (
    Entered,
    LeaseLost,
    Left,
    Limits,
    Occupancy,
    Occupant,
    Store,
    StoreUnavailable,
)
from fastapi_channels.stores.store import NO_LIMITS

from .tasks import Tasks
from .tenure import Tenure
from .view import Change

logger = logging.getLogger("fastapi_channels")

AT_ONCE: Final = 200
"""Rooms that are changed in the store at the same time."""

Waiter: TypeAlias = "asyncio.Future[None] | None"


class _Room:
    __slots__ = ("again", "entering", "leaving", "limits", "new", "next_step", "occupants", "step", "task")

    def __init__(self) -> None:
        self.limits = NO_LIMITS
        self.occupants: dict[str, Occupant] = {}
        """Those of this process, by id, that are to be in."""
        self.entering: dict[str, Waiter] = {}
        self.new: dict[str, None] = {}
        """Those of them that the store has never been told of."""
        self.leaving: dict[str, bool] = {}
        """Those that are to be out, and whether they may come back in a moment."""
        self.again = False
        """Whether all are to be entered."""
        self.task: asyncio.Task[None] | None = None
        self.step = self.next_step = asyncio.Event()
        """Set when what is under way is done, and what comes behind it."""

    @property
    def has_work(self) -> bool:
        return self.again or bool(self.entering) or bool(self.leaving)


class Roster:
    """
    Args:
        node: the id of this process.
        store: of all processes.
        on_displaced: called with a room and an id when a connection has lost its place to another, and
            whether that is one of the same user.
        on_missed: called with a room whose messages were withheld.

    Attributes:
        on_changed: called with a room and what was changed there, and whether anybody of these says something
            of itself; None for nothing.
        guarded: the rooms of limited size that have members here.
    """

    def __init__(
        self,
        node: str,
        store: Store,
        on_displaced: Callable[[str, str, bool], None],
        on_missed: Callable[[str], None],
    ) -> None:
        self.on_changed: Callable[[str, Change, bool], None] | None = None
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
        """Give `occupant` a place in a room that takes so many.

        Raises:
            ChannelFull, TooManyConnections: there is none.
            StoreUnavailable: the store did not say.
        """
        for _ in range(2):
            await self.tenure.regain()
            state = self._state(room)
            state.limits = limits
            if limits.seats is not None:
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
        if self.tenure.lease is None and not self._store.shared:
            self._tasks.spawn(self._regain())

    def update(self, room: str, occupant: Occupant) -> None:
        """Let all processes know what an occupant says of itself now; never waits."""
        state = self._rooms.get(room)
        if state is not None and occupant.id in state.occupants:
            self._put(room, state, occupant, state.entering.get(occupant.id))

    def has(self, room: str, id: str) -> bool:
        """Whether a connection of this process is in `room`, or is to be."""
        state = self._rooms.get(room)
        return state is not None and id in state.occupants

    def leave(self, room: str, id: str, *, returns: bool = False) -> None:
        """Undo `enter`, or `enlist`; never waits and never fails.

        Args:
            returns: whether it may come back in a moment.
        """
        state = self._rooms.get(room)
        if state is None or id not in state.occupants:
            return
        del state.occupants[id]
        if id in state.entering:
            _settle(state.entering.pop(id), None)
        if id in state.new:
            del state.new[id]
        else:
            state.leaving[id] = returns
        self._work(room, state)

    def drop(self, room: str, id: str) -> None:
        """Know that a connection is not in `room` any more: the store has taken it out."""
        state = self._rooms.get(room)
        if state is not None and state.occupants.pop(id, None) is not None:
            self._work(room, state)

    async def count(self, room: str) -> int:
        """How many are in `room`, over all processes.

        Raises:
            StoreUnavailable: the store did not answer in time.
        """
        await self._caught_up(room)
        return await self._store.count(room)

    async def count_people(self, room: str) -> int:
        """How many users, and connections without one, are shown in `room`, over all processes.

        Raises:
            StoreUnavailable: the store did not answer in time.
        """
        await self._caught_up(room)
        return await self._store.count_people(room)

    async def occupancy(self, room: str, first: int = 0, limit: int | None = None) -> Occupancy:
        """Who is in `room`, over all processes, in the order in which they came, or a part of them.

        Raises:
            StoreUnavailable: the store did not answer in time.
        """
        await self._caught_up(room)
        return await self._store.occupancy(room, first, limit)

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
        if occupant.id not in state.occupants and occupant.id not in state.leaving:
            state.new[occupant.id] = None
        state.occupants[occupant.id] = occupant
        state.entering[occupant.id] = waiter
        state.leaving.pop(occupant.id, None)
        self._work(room, state)

    def _work(self, room: str, state: _Room) -> None:
        if state.task is not None:
            return
        if state.has_work:
            state.task = asyncio.get_running_loop().create_task(self._change(room, state))
        elif not state.occupants:
            self._rooms.pop(room, None)
            self.guarded.discard(room)

    async def _change(self, room: str, state: _Room) -> None:
        try:
            async with self._slots:
                while state.has_work and self.tenure.lease is not None:
                    state.step, state.next_step = state.next_step, asyncio.Event()
                    is_done = await self._step(room, state)
                    state.step.set()
                    if not is_done:
                        break
        finally:
            state.task = None
            state.step.set()
            state.next_step.set()
            state.next_step = asyncio.Event()
            if not state.has_work:
                self._work(room, state)

    async def _step(self, room: str, state: _Room) -> bool:
        """Do in the store what is to be done now; False where it must be done again."""
        leaving, state.leaving = state.leaving, {}
        entering, state.entering, state.new = state.entering, {}, {}
        again, state.again = state.again, False
        lease = self.tenure.lease
        assert lease is not None
        try:
            if leaving:
                self._tell_left(await self._store.leave(room, leaving.keys()), leaving, again=again)
            wanted: Iterable[str] = entering
            if again:
                wanted, state.new = state.occupants, {}
            occupants = [state.occupants[id] for id in wanted if id in state.occupants]
            if occupants:
                # Who comes again takes no place that was given to another meanwhile.
                limits = state.limits._replace(when_over="refuse") if again else state.limits
                entered = await self._store.enter(room, occupants, lease, limits)
                self._tell_entered(room, entered, again=again)
                self._take(room, state, entering, entered)
        except (StoreUnavailable, LeaseLost) as exc:
            # Whether it was done is not known.
            state.leaving |= {id: leaving[id] for id in leaving.keys() - state.occupants.keys()}
            for id in leaving.keys() & state.new.keys():
                del state.new[id]
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
            # Or it has come while all were entered again, itself among them.
            waiter = entering.get(id) or state.entering.pop(id, None)
            if waiter is None:
                self._on_displaced(room, id, id in entered.over)
            elif id in entered.over:
                limit = state.limits.per_user
                _settle(waiter, TooManyConnections(close=False, context={"limit": limit}))
            else:
                _settle(waiter, ChannelFull(close=False, context={"limit": state.limits.seats}))
        for occupant in entered.displaced:
            state.occupants.pop(occupant.id, None)
            waiter = entering.get(occupant.id) or state.entering.pop(occupant.id, None)
            if waiter is not None:
                _settle(waiter, replaced(state.limits))
            else:
                self._on_displaced(room, occupant.id, True)

    # What others are told

    def _tell_entered(self, room: str, entered: Entered, *, again: bool) -> None:
        gone = [occupant.id for occupant in entered.displaced]
        if entered.changed:
            self._tell(room, Change(entered.version, entered.occupants, gone=gone), entered.occupants)
        elif again:  # somebody may not have been told before
            self._tell(room, Change(entered.version, None), entered.occupants)

    def _tell_left(self, left: Left, leaving: Mapping[str, bool], *, again: bool) -> None:
        gone = {occupant.id for occupant in left.occupants if not leaving.get(occupant.id)}
        if left.occupants:
            may_return = [occupant.id for occupant in left.occupants if occupant.id not in gone]
            self._tell(left.room, Change(left.version, (), may_return, gone), left.occupants)
        elif again:
            self._tell(left.room, Change(left.version, None), ())

    def _tell(self, room: str, change: Change, occupants: Iterable[Occupant]) -> None:
        if self.on_changed is not None:
            self.on_changed(room, change, any(occupant.data for occupant in occupants))

    async def _caught_up(self, room: str) -> None:
        """Wait until the store knows what this process has said before."""
        await self.tenure.regain()
        state = self._rooms.get(room)
        if state is not None:
            await self._stepped(state)

    async def _stepped(self, state: _Room) -> None:
        """Wait until the store was told what is to be done in a room by now, and not what comes meanwhile."""
        if state.task is not None:
            await (state.next_step if state.has_work else state.step).wait()

    # The lease

    async def _renewed(self, lost: bool) -> None:
        rooms = list(self._rooms.items())
        for room, state in rooms:
            state.again = state.again or (lost and bool(state.occupants))
            self._work(room, state)
        if lost:
            await asyncio.gather(*(self._stepped(state) for _, state in rooms))
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

    def _evicted(self, lefts: Iterable[Left], may_return: bool) -> None:
        for left in lefts:
            self._tell_left(left, dict.fromkeys((one.id for one in left.occupants), may_return), again=False)


def replaced(limits: Limits) -> TooManyConnections:
    """A newer connection of the user has the place: who was not let in yet is to stay away, as others are."""
    return TooManyConnections(CloseCode.REPLACED, close=False, context={"limit": limits.per_user})


def _settle(waiter: Waiter, problem: Exception | None) -> None:
    if waiter is None or waiter.done():
        return
    if problem is None:
        waiter.set_result(None)
    else:
        waiter.set_exception(problem)
