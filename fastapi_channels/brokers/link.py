"""One connection of a client library: what is asked of it in one turn goes together, its loss is noticed.

The libraries know how to connect, and how to speak with their server. What they do not have alike is here:
errands that share a round trip and keep their order, a bound on what waits, whether a call had an effect
when the connection broke, and a look at whether the server is still there.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from .backend import NotSent

T = TypeVar("T")
E = TypeVar("E")

PING_INTERVAL: Final = 1.5
"""Seconds between two signs of life that are asked for. Three without any, and the connection is dead."""
MAX_MESSAGE: Final = 16 * 1024 * 1024
"""Bytes of one message."""
MAX_WAITING: Final = 16 * 1024 * 1024
"""Bytes of errands that are not done; beyond them, a call waits until there is room."""
MAX_BATCH: Final = 1024 * 1024
"""Bytes of errands that go out together, unless one alone is larger."""
OVERHEAD: Final = 128
"""Bytes that an errand counts for beside its content."""
FRESH: Final = 0.01
"""Seconds after a sign of life in which a connection is used without looking at it."""
SETTLING: Final = 3
"""Turns of the event loop in which it is noticed that the server has closed a connection."""
HASHED: Final = "fastapi-channels#"
"""Begins the server's name of a topic that the server cannot have as a name."""


@dataclass(slots=True, eq=False)
class Errand(Generic[T]):
    """One thing that is asked of a connection."""

    what: T
    size: int
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def fail(self, reason: Exception) -> None:
        """Make its caller raise `reason`; harms no other errand."""
        if not self.done.done():
            self.done.set_exception(reason)


class Link(Generic[T]):
    """One connection.

    Args:
        perform: carries out a batch, in order, one batch at a time; returns when the server has confirmed
            it. An empty batch asks for a sign of life. It settles an errand that the server refuses;
            what it raises has broken the connection, `NotSent` before any of the batch was sent.
        abort: closes the connection at once, also when the server hangs; may be called twice.
        on_lost: called once, with what broke the connection.
        excused: whether the server has said itself that it will be silent.
    """

    def __init__(
        self,
        perform: Callable[[list[Errand[T]]], Awaitable[None]],
        abort: Callable[[], None],
        on_lost: Callable[[Exception], None],
        excused: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self._perform = perform
        self._abort = abort
        self._on_lost = on_lost
        self._excused = excused
        self._unsent: deque[Errand[T]] = deque()
        self._sent: list[Errand[T]] = []
        self._size = 0
        self._ping_wanted = False
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._error: Exception | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def lost(self) -> bool:
        return self._error is not None

    @property
    def idle(self) -> bool:
        """Whether it is not lost, and nothing waits for an answer."""
        return not (self.lost or self._sent or self._unsent or self._ping_wanted)

    def open(self) -> None:
        """Begin; the connection is made."""
        self.run(self._work())
        self.run(self._watch())

    def run(self, work: Any) -> None:
        """Run a coroutine for as long as the connection lasts; its end is the connection's."""
        task: asyncio.Task[None] = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    async def close(self) -> None:
        self.lose(ConnectionError("the connection is closed"))
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def do(self, what: T, size: int = 0) -> None:
        """Return when the server has confirmed it.

        Raises:
            NotSent: the connection was lost before it was sent.
            ConnectionError: it was lost after that; whether it had an effect is not known.
            Exception: the server refuses it.
        """
        while self._size > MAX_WAITING and self._error is None:
            self._drained.clear()
            await self._drained.wait()
        if self._error is not None:
            raise NotSent(f"the connection is lost: {self._error}") from self._error
        errand = Errand(what, OVERHEAD + size)
        self._unsent.append(errand)
        self._size += errand.size
        self._filled.set()
        await errand.done

    def lose(self, reason: Exception) -> None:
        if self._error is not None:
            return
        self._error = reason
        self._abort()
        for task in self._tasks:
            task.cancel()
        for errand in self._sent:
            errand.fail(ConnectionError(f"the connection broke before the answer: {reason}"))
        for errand in self._unsent:
            errand.fail(NotSent(f"the connection is lost: {reason}"))
        self._drained.set()
        self._on_lost(reason)

    async def _work(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            if self._loop.time() - self._heard > FRESH:
                await self._settle()
            while self._unsent or self._ping_wanted:
                self._ping_wanted = False
                await self._carry_out(self._take())

    async def _settle(self) -> None:
        """Let the event loop notice that the server is gone, so that nothing is sent to nowhere."""
        for _ in range(SETTLING):
            await asyncio.sleep(0)

    async def _carry_out(self, batch: list[Errand[T]]) -> None:
        self._sent = batch
        try:
            await self._perform(batch)
        except NotSent:
            self._sent = []
            self._unsent.extendleft(reversed(batch))
            raise
        self._heard = self._loop.time()
        for errand in batch:
            errand.finish()
        self._sent = []
        self._forget(batch)

    def _take(self) -> list[Errand[T]]:
        """What goes out next; less what its callers gave up."""
        batch: list[Errand[T]] = []
        size = 0
        while self._unsent and (not batch or size + self._unsent[0].size <= MAX_BATCH):
            errand = self._unsent.popleft()
            if errand.done.done():
                self._forget([errand])
            else:
                batch.append(errand)
                size += errand.size
        return batch

    def _forget(self, errands: list[Errand[T]]) -> None:
        self._size -= sum(errand.size for errand in errands)
        if self._size <= MAX_WAITING:
            self._drained.set()

    async def _watch(self) -> None:
        """Ask for signs of life; ends when there are none.

        One silent interval is not enough: the event loop may have been blocked for so long.
        """
        silent = 0
        while silent < 2:
            asked = self._loop.time()
            self._ping_wanted = True
            self._filled.set()
            await asyncio.sleep(PING_INTERVAL)
            silent = 0 if self._heard >= asked or await self._is_excused() else silent + 1
        raise ConnectionError(f"no sign of life for {silent * PING_INTERVAL:g} s")

    async def _is_excused(self) -> bool:
        return self._excused is not None and await self._excused()

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        self.lose(error if isinstance(error, Exception) else ConnectionError("the connection is lost"))


def connected(end: E | None) -> E:
    """`end`, or `NotSent` raised if there is none yet."""
    if end is None:
        raise NotSent("not connected")
    return end


async def subscription(errand: Awaitable[None]) -> None:
    """Await an errand that may be repeated whenever the connection broke: a subscription ends with it."""
    try:
        await errand
    except ConnectionError as exc:
        raise NotSent(str(exc)) from exc


def encoded(message: str | bytes) -> bytes:
    """The bytes of a message.

    Raises:
        ValueError: there are more of them than any broker is asked to carry.
    """
    body = message.encode() if isinstance(message, str) else message
    if len(body) > MAX_MESSAGE:
        raise ValueError(f"a message of {len(body)} bytes: at most {MAX_MESSAGE} can be published")
    return body


def decoded(message: Any) -> Any:
    """Text where it is UTF-8, else bytes."""
    if isinstance(message, str):
        return message
    try:
        return message.decode()
    except UnicodeDecodeError:
        return message


def server_name(topic: str, allowed: re.Pattern[str], limit: int) -> str:
    """The name of `topic` at the server: itself if it is `allowed` and at most `limit` bytes, else a hash."""
    name = topic.encode()
    if len(name) <= limit and allowed.fullmatch(topic) and not topic.startswith(HASHED):
        return topic
    return HASHED + hashlib.sha256(name).hexdigest()[:40]
