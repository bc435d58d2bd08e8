"""The topics that one process wants, and the order in which that changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from fastapi_channels.exceptions import BrokerUnavailable

GRACE: Final = 0.5
"""Seconds after the deadline in which a change that fails can still tell its callers why."""


class Subscriptions:
    """The wanted topics. The changes of one topic are made one after the other; of several, at once.

    Callers that want the same change of a topic at the same time share it, and its failure.

    Args:
        join: subscribes a topic before a deadline, in the loop's time, or raises `BrokerUnavailable`.
        leave: unsubscribes a topic in bounded time, and never raises.
        timeout: seconds from asking for a change until its deadline.
    """

    def __init__(
        self,
        join: Callable[[str, float], Awaitable[None]],
        leave: Callable[[str], Awaitable[None]],
        timeout: float,
    ) -> None:
        self.topics: set[str] = set()
        """What is wanted, also while it is not confirmed yet."""
        self._join = join
        self._leave = leave
        self._timeout = timeout
        self._changes: dict[str, _Change] = {}
        self._tasks: set[asyncio.Task[BrokerUnavailable | None]] = set()
        """Those of all changes that are not made yet, also of earlier ones of a topic."""

    async def add(self, topic: str) -> None:
        """Want `topic`, and wait until it is confirmed. A caller that is cancelled does not want it.

        Raises:
            BrokerUnavailable: it was not confirmed; nobody wants it now.
        """
        change = self._changes.get(topic)
        if change is None and topic in self.topics:
            return
        if change is None or not change.wanted:
            change = self._begin(topic, wanted=True)
        change.waiters += 1
        try:
            await asyncio.wait((change.task,), timeout=self._timeout + GRACE)
        finally:
            change.waiters -= 1
            if not change.waiters and not change.task.done():
                self._take_back(topic, change)
        if not change.task.done():
            raise BrokerUnavailable(f"an earlier change of the subscription of {topic!r} is not done yet")
        if change.task.cancelled():
            raise BrokerUnavailable("the broker is stopped")
        failure = change.task.result()
        if failure is not None:
            raise failure

    async def discard(self, topic: str) -> None:
        """Stop wanting `topic`, and wait until it is unsubscribed, or cannot be in time."""
        change = self._changes.get(topic)
        if change is None and topic not in self.topics:
            return
        if change is None or change.wanted:
            change = self._begin(topic, wanted=False)
        await asyncio.wait((change.task,), timeout=self._timeout + GRACE)

    async def confirmed(self, topic: str, patience: float) -> bool:
        """Whether `topic` is subscribed; waits so many seconds for one that is being joined."""
        change = self._changes.get(topic)
        if change is not None and change.wanted:
            await asyncio.wait((change.task,), timeout=patience)
        return topic in self.topics and topic not in self._changes

    def settled(self) -> set[str]:
        """The wanted topics, less those that are being joined."""
        return self.topics - {topic for topic, change in self._changes.items() if change.wanted}

    def clear(self) -> set[asyncio.Task[BrokerUnavailable | None]]:
        """Want nothing any more; the tasks that have been cancelled, to be waited for."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        self._changes.clear()
        self.topics.clear()
        return tasks

    def _begin(self, topic: str, *, wanted: bool) -> _Change:
        previous = self._changes.get(topic)
        change = self._changes[topic] = _Change(wanted)
        change.task = asyncio.create_task(self._make(topic, change, previous))
        self._tasks.add(change.task)
        change.task.add_done_callback(self._tasks.discard)
        if not wanted:
            self.topics.discard(topic)
        return change

    async def _make(self, topic: str, change: _Change, previous: _Change | None) -> BrokerUnavailable | None:
        deadline = asyncio.get_running_loop().time() + self._timeout
        if previous is not None:
            await asyncio.wait((previous.task,))
        try:
            await (self._want(topic, deadline) if change.wanted else self._forget(topic))
        except BrokerUnavailable as failure:
            self._take_back(topic, change)
            return failure
        if self._changes.get(topic) is change:
            del self._changes[topic]
        return None

    async def _want(self, topic: str, deadline: float) -> None:
        self.topics.add(topic)
        await self._join(topic, deadline)

    async def _forget(self, topic: str) -> None:
        self.topics.discard(topic)
        await self._leave(topic)

    def _take_back(self, topic: str, change: _Change) -> None:
        """Undo a subscription that failed or that nobody waits for, unless a later change decides."""
        if self._changes.get(topic) is change:
            self._begin(topic, wanted=False)


@dataclass(slots=True, eq=False)
class _Change:
    wanted: bool
    task: asyncio.Task[BrokerUnavailable | None] = field(init=False)
    waiters: int = 0
