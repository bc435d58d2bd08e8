"""Who is told of what happens in a room, and how: in order, and without harm to anybody else."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

from fastapi_channels.cluster.recovery import Reason

from .errors import ClientError
from .settings import MOST_UNTAKEN, Settings

Stop: TypeAlias = Callable[[], None]
"""Takes back what returned it."""
GapReason: TypeAlias = Literal["away", "resync", "lagged"] | Reason


@dataclass(frozen=True, slots=True)
class About:
    """What came with an event.

    Attributes:
        channel: the room it was sent to; `*` for what was sent to this client alone, or to all of its user.
        position: in the room's history; empty where it has none.
    """

    event: str
    channel: str
    position: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Something of the room may be missing here: load its state again.

    Attributes:
        reason: `away`: the connection was lost, and the room has no history. `epoch`, `expired`, `limit`: it
            has one that does not reach so far. `resync`: the server missed something. `lagged`: this client
            was too slow.
        dropped: how many were left out, where that was counted.
    """

    reason: GapReason
    dropped: int | None = None


class Caller:
    """Calls listeners at once, and awaits those that are async one after the other."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._later: deque[Coroutine[Any, Any, Any]] = deque()
        self._pump: asyncio.Task[None] | None = None

    def tell(self, listeners: list[Callable[[Any], Any]], what: Any) -> None:
        for listener in list(listeners):
            self.run(partial(listener, what))

    def run(self, call: Callable[[], Any]) -> None:
        """Call a listener; what it raises is logged."""
        try:
            found = call()
        except Exception as exc:
            self._settings.complain("a listener failed", exc)
            return
        if not inspect.iscoroutine(found):
            return
        if len(self._later) >= MOST_UNTAKEN:
            found.close()
            self._settings.complain("an event was dropped", ClientError("too many wait for a listener"))
            return
        self._later.append(found)
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._later:
                try:
                    await self._later.popleft()
                except Exception as exc:
                    self._settings.complain("a listener failed", exc)
        finally:
            self._pump = None


def added(all: list[Any], one: Any) -> Stop:
    """Add a listener; what is returned takes it back."""
    all.append(one)

    def stop() -> None:
        if one in all:
            all.remove(one)

    return stop
