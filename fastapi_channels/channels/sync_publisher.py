"""The publisher for code without an event loop: a Celery task, Django, a script, any thread."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from fastapi_channels.cluster.users import UserKey
from fastapi_channels.connection import Exclude
from fastapi_channels.exceptions import BrokerUnavailable, CloseCode
from fastapi_channels.wire.positions import Published
from fastapi_channels.wire.words import Event

from .publisher import Publisher, Voice

T = TypeVar("T")
GRACE: Final = 1.0
"""Seconds after its deadline in which a call can still tell its caller why."""


class SyncPublisher:
    """A `Publisher` whose methods are plain functions, and may be called from any thread, at the same time.

    Its connection is served by an event loop in a thread of its own. So it needs no loop, and minds none:
    also where one runs, a call returns within `publish_timeout` and a second, and holds that loop up so long.
    The thread begins with the first call and ends with `close()`, with the `with` block, or with the process.
    After a fork, as by the workers of Celery and gunicorn, the child begins one of its own.

    Args: those of `Publisher`.

    Raises:
        ConfigurationError: the URL is none of a broker that others can reach, or a package is missing.
    """

    def __init__(
        self,
        url: str,
        *,
        store_url: str | None = None,
        namespace: str = "",
        user_key: UserKey = None,
        publish_timeout: float = 2.0,
    ) -> None:
        self._make: Callable[[], Publisher] = partial(
            Publisher,
            url,
            store_url=store_url,
            namespace=namespace,
            user_key=user_key,
            publish_timeout=publish_timeout,
        )
        self._make()  # what cannot work is said here
        self._timeout = publish_timeout + GRACE
        self._lock = threading.Lock()
        self._line: _Line | None = None
        self._end: weakref.finalize[[], SyncPublisher] | None = None
        _publishers.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect, and end the thread. What is sent later begins another."""
        with self._lock:
            end, self._line, self._end = self._end, None, None
        if end is not None:
            end()

    def broadcast(
        self,
        room: str | Iterable[str],
        event: Event | str,
        data: Any = None,
        *,
        exclude: Exclude = None,
        key: str | None = None,
        channel: Voice | None = None,
    ) -> Published:
        """As `Publisher.broadcast`."""
        return self._call(
            lambda it: it.broadcast(room, event, data, exclude=exclude, key=key, channel=channel)
        )

    def send_to_user(
        self, user: Any, event: Event | str, data: Any = None, *, channel: Voice | None = None
    ) -> None:
        """As `Publisher.send_to_user`."""
        self._call(lambda it: it.send_to_user(user, event, data, channel=channel))

    def send_to_connection(
        self, connection_id: str, event: Event | str, data: Any = None, *, channel: Voice | None = None
    ) -> None:
        """As `Publisher.send_to_connection`."""
        self._call(lambda it: it.send_to_connection(connection_id, event, data, channel=channel))

    def disconnect_user(self, user: Any, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """As `Publisher.disconnect_user`."""
        self._call(lambda it: it.disconnect_user(user, code, reason))

    def disconnect_connection(
        self, connection_id: str, code: int = CloseCode.NORMAL, reason: str = ""
    ) -> None:
        """As `Publisher.disconnect_connection`."""
        self._call(lambda it: it.disconnect_connection(connection_id, code, reason))

    def join_room(self, user: Any, room: str, *, channel: Voice | None = None) -> None:
        """As `Publisher.join_room`."""
        self._call(lambda it: it.join_room(user, room, channel=channel))

    def leave_room(self, user: Any, room: str, *, channel: Voice | None = None) -> None:
        """As `Publisher.leave_room`."""
        self._call(lambda it: it.leave_room(user, room, channel=channel))

    def _call(self, work: Callable[[Publisher], Coroutine[Any, Any, T]]) -> T:
        with self._lock:
            line = self._line
            if line is None:
                line = self._line = _Line(self._make())
                # Also when nobody has the publisher any more, and at the end of the process.
                self._end = weakref.finalize(self, line.close)
        return line.run(work(line.publisher), self._timeout)

    def _begin_anew(self) -> None:
        """Leave all to the process that this one was forked from."""
        _of_the_parent.append(self._line)
        if self._end is not None:
            self._end.detach()
        self._lock, self._line, self._end = threading.Lock(), None, None


class _Line:
    """A publisher in an event loop of its own, which a thread runs."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self._loop = asyncio.new_event_loop()
        self._leave = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="fastapi-channels publisher", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        """What comes of `work`, which is done in the thread.

        Raises:
            BrokerUnavailable: it took longer than `timeout` seconds, or the line was closed.
        """
        try:
            done = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise BrokerUnavailable("the publisher was closed meanwhile") from None
        try:
            return done.result(timeout)
        except CancelledError:
            raise BrokerUnavailable("the publisher was closed meanwhile") from None
        except TimeoutError:
            raise BrokerUnavailable(f"no answer within {timeout:g} s") from None
        finally:
            done.cancel()

    def close(self) -> None:
        """Disconnect, and end the thread; waits for it for a moment."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._leave.set)
        if threading.current_thread() is not self._thread:
            self._thread.join(GRACE)

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._live())

    async def _live(self) -> None:
        await self._leave.wait()
        await self.publisher.close()


_publishers: Final[weakref.WeakSet[SyncPublisher]] = weakref.WeakSet()
_of_the_parent: Final[list[Any]] = []
"""What a forked process has inherited. Its sockets are the parent's: to let go of it would disturb them."""


def _after_fork() -> None:
    for publisher in _publishers:
        publisher._begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
