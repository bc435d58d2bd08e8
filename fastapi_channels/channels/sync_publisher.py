"""The publisher for code without an event loop: a Celery task, Django, a script, any thread."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from fastapi_channels.cluster.observer import Tracer
from fastapi_channels.cluster.users import UserKey
from fastapi_channels.exceptions import BrokerUnavailable

from .publisher import Publisher

P = ParamSpec("P")
T = TypeVar("T")
GRACE: Final = 1.0
"""Seconds after its deadline in which a call can still tell its caller why."""


def _waited(
    method: Callable[Concatenate[Publisher, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncPublisher, P], T]:
    """A method of `Publisher`, as a plain function."""

    @wraps(method)
    def call(self: SyncPublisher, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._call(lambda publisher: method(publisher, *args, **kwargs))

    return call


class SyncPublisher:
    """A `Publisher` whose methods are plain functions, and may be called from any thread, at the same time.

    Its connection is served by an event loop in a thread of its own. So it needs no loop, and minds none:
    also where one runs, a call returns within `publish_timeout`, a second later if even that thread is held
    up, and holds that loop up so long. The thread begins with the first call and ends with `close()`, with
    the `with` block, or with the process. After a fork, as by the workers of Celery and gunicorn, the child
    begins one of its own.

    Args: those of `Publisher`.

    Raises:
        ConfigurationError: the URL is none of a broker that others can reach, or a package is missing.
    """

    def __init__(
        self,
        url: str,
        *,
        store_url: str | None = None,
        encryption_keys: str | Sequence[str] | None = None,
        namespace: str = "",
        user_key: UserKey = None,
        publish_timeout: float = 2.0,
        tracing: Tracer | None = None,
    ) -> None:
        self._make: Callable[[], Publisher] = partial(
            Publisher,
            url,
            store_url=store_url,
            encryption_keys=encryption_keys,
            namespace=namespace,
            user_key=user_key,
            publish_timeout=publish_timeout,
            tracing=tracing,
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

    broadcast = _waited(Publisher.broadcast)
    send_to_user = _waited(Publisher.send_to_user)
    send_to_connection = _waited(Publisher.send_to_connection)
    people = _waited(Publisher.people)
    count_people = _waited(Publisher.count_people)
    disconnect_user = _waited(Publisher.disconnect_user)
    revoke_user = _waited(Publisher.revoke_user)
    revoke_session = _waited(Publisher.revoke_session)
    ban = _waited(Publisher.ban)
    unban = _waited(Publisher.unban)
    bans = _waited(Publisher.bans)
    disconnect_connection = _waited(Publisher.disconnect_connection)
    join_room = _waited(Publisher.join_room)
    leave_room = _waited(Publisher.leave_room)

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
