"""One connection to a Redis: commands, their answers, and signs of life.

redis-py makes the connections, with everything that it knows about URLs, TLS, credentials and
Sentinel. Its pool and its `PubSub` are not used: they reconnect without telling, so that nobody learns
that messages were missed, and a publish of theirs occupies a connection until it is answered. Once a
connection is made, its transport is a `Link`'s, and hiredis reads: what comes in one read is taken in one
step, without a task that is woken for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError

from fastapi_channels.brokers.backend import NotSent

DRIVER: Final[dict[str, Any]] = {}
"""Which library connects: of itself redis-py reads the files of its package for each connection, 0.3 ms in
which the event loop stands."""
with suppress(ModuleNotFoundError):  # an older one has found it out when it was imported
    from redis.driver_info import DriverInfo

    DRIVER["driver_info"] = DriverInfo()

PING_INTERVAL: Final = 1.5
"""Seconds between two signs of life that are asked for. Three without any, and the connection is dead."""
MAX_UNANSWERED: Final = 16 * 1024 * 1024
"""Bytes of commands that wait for their answers; beyond them, a call waits until there is room."""
FRESH: Final = 0.01
"""Seconds after a sign of life in which a connection is used without looking at it."""
SETTLING: Final = 3
"""Turns of the event loop in which it is noticed that the server has closed a connection."""
_NOTHING: Final = object()
"""What hiredis returns where no reply is complete."""


def connection(kind: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """A connection of redis-py, not connected yet, that never reconnects or times out of itself."""
    kept = {
        name: value
        for name, value in options.items()
        if not name.startswith(("maint_notifications", "oss_cluster_maint"))  # they need RESP3
    }
    driver = {} if kept.keys() & {"lib_name", "lib_version"} else DRIVER
    return kind(**driver | kept | {"protocol": 2, "socket_timeout": None, "retry": None})


@dataclass(slots=True)
class Command:
    words: tuple[bytes, ...]
    packed: bytes
    answer: asyncio.Future[Any] | None
    """None if nobody waits for it."""

    @property
    def given_up(self) -> bool:
        return self.answer is not None and self.answer.done()

    def resolve(self, reply: Any) -> None:
        if self.answer is None or self.answer.done():
            return
        if isinstance(reply, Exception):
            self.answer.set_exception(reply)
        else:
            self.answer.set_result(reply)


class Link(asyncio.Protocol):
    """One connection. Commands go out in order, all of one turn in one write; answers come in order.

    Args:
        connection: of redis-py, not connected yet.
        on_lost: called once with what broke the connection.
    """

    def __init__(self, connection: Any, on_lost: Callable[[Exception], None]) -> None:
        self._connection = connection
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._replies = hiredis.Reader(replyError=connection._parser.parse_error, notEnoughData=_NOTHING)
        self._unsent: list[Command] = []
        self._unanswered: deque[Command] = deque()
        self._size = 0
        self._drained = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._heard = 0.0
        self._error: Exception | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        await self._connection.connect()
        self._check()
        self._take_over()
        self.run(self._watch())
        await self.ask(b"PING")

    def _take_over(self) -> None:
        """From now on the transport brings all to this, and not to redis-py's reader."""
        reader, transport = self._connection._reader, self._connection._writer.transport
        if reader.at_eof() or transport.is_closing():
            raise ConnectionError("the server closed the connection")
        transport.set_protocol(self)
        self._transport = transport
        if self._unsent:
            self._flush()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` for as long as there is a connection, which is lost when it ends."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    @property
    def address(self) -> tuple[Any, Any]:
        """Host and port, once it is connected."""
        return getattr(self._connection, "host", None), getattr(self._connection, "port", None)

    async def close(self) -> None:
        self.lose(ConnectionError("the connection is closed"))
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._connection.disconnect(nowait=True)

    async def ask(self, *words: bytes) -> Any:
        """The server's answer.

        Raises:
            NotSent: the connection was lost before the command was sent.
            ConnectionError: it was lost after that; whether the command was executed is not known.
            ResponseError: the server refuses the command.
        """
        while self._size > MAX_UNANSWERED and self._error is None:
            self._drained.clear()
            await self._drained.wait()
        self._check()
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._send(words, answer)
        return await answer

    def tell(self, *words: bytes) -> None:
        """Send a command whose answer nobody waits for."""
        self._send(words, None)

    def _check(self) -> None:
        if self._error is not None:
            raise NotSent(f"the connection is lost: {self._error}") from self._error

    def lose(self, reason: Exception) -> None:
        if self._error is not None:
            return
        self._error = reason
        for task in self._tasks:
            task.cancel()
        _abort(self._connection)
        for command in self._unanswered:
            command.resolve(ConnectionError(f"the connection broke before the answer: {reason}"))
        for command in self._unsent:
            command.resolve(NotSent(f"the connection is lost: {reason}"))
        self._drained.set()
        self._on_lost(reason)

    def _send(self, words: tuple[bytes, ...], answer: asyncio.Future[Any] | None) -> None:
        command = Command(words, _pack(words), answer)
        if not self._unsent:
            is_fresh = self._unanswered or self._loop.time() - self._heard <= FRESH
            self._loop.call_soon(self._flush, 0 if is_fresh else SETTLING)
        self._unsent.append(command)
        self._size += len(command.packed)

    def _flush(self, turns: int = 0) -> None:
        """Send what is to be sent, after so many turns of the event loop: it may notice meanwhile that the
        server is gone, so that nothing is sent to nowhere."""
        transport = self._transport
        if transport is None or self._error is not None:
            return
        if turns:
            self._loop.call_soon(self._flush, turns - 1)
        elif transport.is_closing():
            self.lose(ConnectionError("the server closed the connection"))
        else:
            # What waits in the transport is bounded by what may be unanswered.
            transport.write(b"".join([command.packed for command in self._commit()]))

    def _commit(self) -> list[Command]:
        """What is to be sent now; less what its callers gave up."""
        batch: list[Command] = []
        for command in self._unsent:
            if command.given_up:
                self._forget(command)
            else:
                batch.append(command)
        self._unsent.clear()
        self._unanswered.extend(batch)
        return batch

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        replies = self._replies
        try:
            replies.feed(data)
            while self._error is None and (reply := replies.gets()) is not _NOTHING:
                self._take(reply)
        except Exception as exc:
            self.lose(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lose(exc or ConnectionError("the server closed the connection"))

    def _take(self, reply: Any) -> None:
        if isinstance(reply, RedisConnectionError):
            raise reply
        if not self._unanswered:
            raise ConnectionError(f"an answer to nothing: {reply!r:.100}")
        command = self._unanswered.popleft()
        self._forget(command)
        command.resolve(reply)

    def _forget(self, command: Command) -> None:
        self._size -= len(command.packed)
        if self._size <= MAX_UNANSWERED:
            self._drained.set()

    async def _watch(self) -> None:
        """Ask for signs of life; ends when there are none.

        One silent interval is not enough: the event loop may have been blocked for so long.
        """
        silent = 0
        while silent < 2:
            asked = self._loop.time()
            self.tell(b"PING")
            await asyncio.sleep(PING_INTERVAL)
            silent = 0 if self._heard >= asked else silent + 1
        raise ConnectionError(f"no sign of life for {silent * PING_INTERVAL:g} s")

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        self.lose(error if isinstance(error, Exception) else ConnectionError("the connection is lost"))


def _pack(words: tuple[bytes, ...]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


def _abort(connection: Any) -> None:
    """Close at once: what a hung server has not read would otherwise keep the socket open."""
    writer = connection._writer
    if writer is not None:
        writer.transport.abort()
        connection._close()  # redis-py has nothing to close any more, when it is let go
