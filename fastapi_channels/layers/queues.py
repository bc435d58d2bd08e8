"""Messages that wait in their channels, and who waits for them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from fastapi_channels.exceptions import BrokerUnavailable
from fastapi_channels.wire.messages import Body, size_of


class _Waiting:
    """The messages of one channel, each with the time until which it waits, and their bytes."""

    __slots__ = ("messages", "size")

    def __init__(self) -> None:
        self.messages: deque[tuple[float, int, Body]] = deque()
        self.size = 0

    def append(self, until: float, size: int, body: Body) -> None:
        self.messages.append((until, size, body))
        self.size += size

    def append_left(self, until: float, size: int, body: Body) -> None:
        self.messages.appendleft((until, size, body))
        self.size += size

    def pop_left(self) -> Body:
        _, size, body = self.messages.popleft()
        self.size -= size
        return body


class Queues:
    """A queue for each channel that anything, or anybody, waits in.

    Args:
        capacity_of: how many messages a channel takes.
        capacity_bytes: how many bytes of them.
        expiry: seconds that a message waits.
    """

    def __init__(
        self,
        capacity_of: Callable[[str], int],
        capacity_bytes: int,
        expiry: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capacity_of = capacity_of
        self._capacity_bytes = capacity_bytes
        self._expiry = expiry
        self._clock = clock
        self._messages: dict[str, _Waiting] = {}
        self._waiters: dict[str, deque[asyncio.Future[Body]]] = {}
        self._sweep_at = 0.0

    def __contains__(self, channel: str) -> bool:
        """Whether a message waits in it."""
        return channel in self._messages

    def __len__(self) -> int:
        """In how many channels messages wait."""
        return len(self._messages)

    @property
    def wanted(self) -> list[str]:
        """The channels in which somebody waits for a message."""
        return list(self._waiters)

    def put(self, channel: str, body: Body, size: int | None = None) -> bool:
        """Hand a message to whoever has waited longest, or let it wait; False where the channel is full.
        Whoever puts one into many channels gives its `size`: it is counted once."""
        now = self._clock()
        self._sweep(now)
        waiters = self._waiters.get(channel, ())
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(body)
                return True
        # What has expired takes no place.
        self._drop_expired(channel, now)
        waiting = self._messages.get(channel) or _Waiting()
        size = size_of(body) if size is None else size
        if len(waiting.messages) >= self._capacity_of(channel) or waiting.size + size > self._capacity_bytes:
            return False
        self._messages[channel] = waiting
        waiting.append(now + self._expiry, size, body)
        return True

    def put_back(self, channel: str, body: Body) -> None:
        """Let a message that was taken be the next again, also where the channel is full."""
        waiting = self._messages.setdefault(channel, _Waiting())
        waiting.append_left(self._clock() + self._expiry, size_of(body), body)

    def take(self, channel: str) -> Body | None:
        """The message that waits longest; None where none does."""
        now = self._clock()
        self._sweep(now)
        self._drop_expired(channel, now)
        waiting = self._messages.get(channel)
        if waiting is None:
            return None
        body = waiting.pop_left()
        if not waiting.messages:
            del self._messages[channel]
        return body

    async def get(self, channel: str) -> Body:
        """The message that waits longest, or that comes. Of several callers the first gets it.

        Raises:
            BrokerUnavailable: nothing comes any more.
        """
        found = self.take(channel)
        if found is not None:
            return found
        waiter: asyncio.Future[Body] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(channel, deque())
        waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.put_back(channel, waiter.result())
            raise
        finally:
            waiters.remove(waiter)
            if not waiters and self._waiters.get(channel) is waiters:
                del self._waiters[channel]

    def forget(self, channel: str) -> None:
        """Drop what waits in a channel."""
        self._messages.pop(channel, None)

    def desert(self) -> None:
        """Hand nothing to whoever waits: their event loop has ended."""
        self._waiters.clear()

    def clear(self) -> None:
        """Drop all messages."""
        self._messages.clear()

    def fail(self, why: str) -> None:
        """Nothing comes any more: who waits gets BrokerUnavailable."""
        for waiter in [each for waiters in self._waiters.values() for each in waiters]:
            if not waiter.done():
                waiter.set_exception(BrokerUnavailable(why))

    def _sweep(self, now: float) -> None:
        """Drop what has expired, also in channels that nobody reads; once in each `expiry`."""
        if now < self._sweep_at:
            return
        self._sweep_at = now + self._expiry
        for channel in list(self._messages):
            self._drop_expired(channel, now)

    def _drop_expired(self, channel: str, now: float) -> None:
        waiting = self._messages.get(channel)
        if waiting is None or waiting.messages[0][0] > now:
            return
        while waiting.messages and waiting.messages[0][0] <= now:
            waiting.pop_left()
        if not waiting.messages:
            del self._messages[channel]
