"""The broker: one backend, kept alive.

A session lasts from a connect to the loss of the connection. One task, the supervisor, runs one session
after the other: it connects, subscribes every topic that is wanted, and waits for the end. Calls that
come between two sessions wait for the next one, until their deadline.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final, NoReturn

from broadcaster import BroadcastBackend

from fastapi_channels.exceptions import BrokerUnavailable, ConfigurationError
from fastapi_channels.wire.log import Seldom
from fastapi_channels.wire.messages import Body, Publication
from fastapi_channels.wire.packing import PLAIN, Packs, Unreadable

from .backend import (
    MISSED,
    Listening,
    NotSent,
    Receive,
    Resuming,
    checked_deadline,
    connect,
    describe,
    end_of,
    no_connection,
    pull,
)
from .deadlines import Deadlines
from .echoes import Echoes, Echoing
from .memory import MemoryBackend
from .outages import Outages
from .shared import finished
from .subscriptions import Subscriptions

AT_ONCE: Final = 500
"""Topics that are subscribed at the same time after a connection was made."""


class Broker:
    """Drives one backend: subscriptions that survive it, publishing with a deadline, and its state.

    What is promised of a message: it is delivered at most once to each process, and those of one task
    in the order in which it published them. It is lost for a process that has no connection at that
    moment. A `publish` that returns was taken by the backend. One that raises may still be delivered: it
    may have been sent, and only the answer is missing. What was surely not sent, and nothing else, is
    sent again.

    Args:
        backend: any of broadcaster's contract; driven better if it is `Listening`.
        deliver: called on the event loop with each message of a topic that is wanted, in the order in
            which they came. What it raises is logged.
        packing: makes what the backend carries.
        publish_timeout: seconds that any one call may take, and that a caller waits for a connection.
        backoff: the least and the most seconds to wait, with full jitter, between two attempts.
        on_change: called on the event loop after each change of `up`, except by `start` failing and
            by `stop`. When it is called with True, every topic is subscribed, and messages may have
            been missed, unless it `resumes`.
        on_missed: called on the event loop with a topic of which messages have been missed, at the
            place of those messages, although the connection was not lost.
    """

    def __init__(
        self,
        backend: BroadcastBackend,
        deliver: Callable[[Publication], None],
        *,
        packing: Packs = PLAIN,
        publish_timeout: float = 2.0,
        backoff: tuple[float, float] = (0.05, 1.0),
        on_change: Callable[[bool], None] | None = None,
        on_missed: Callable[[str], None] | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        self.local = isinstance(backend, MemoryBackend)
        """Whether messages never leave this process."""
        self.resumes = isinstance(backend, Resuming)
        """Whether nothing is missed by losing the connection, except what `on_missed` tells of."""
        self._backend = backend
        self._deliver = deliver
        self._packing = packing
        self._timeout = checked_deadline(publish_timeout)
        self._backoff = backoff
        self._on_change = on_change
        self._on_missed = on_missed
        self._logger = logger or logging.getLogger("fastapi_channels")
        self._outages = Outages(self._logger)
        self._unreadable = Seldom(self._logger)
        self._listen: Callable[[Receive], Coroutine[Any, Any, None]] = partial(pull, backend)
        self._turn: AbstractAsyncContextManager[Any] = nullcontext()
        self.reset()

    @property
    def up(self) -> bool:
        return self._session is not None

    @property
    def away(self) -> float:
        """Seconds that it has been away; 0.0 while it is there, or before it was looked for."""
        return self._outages.away

    @property
    def topics(self) -> AbstractSet[str]:
        """The topics that are wanted, also those whose subscription is not confirmed yet."""
        return self._subscriptions.topics

    # Life

    def reset(self) -> None:
        """Want nothing, as before `start`, and run in whatever event loop comes next."""
        self._subscriptions = Subscriptions(self._join, self._leave, self._timeout)
        self._echoes = Echoes()
        self._deadlines = Deadlines(self._timeout)
        self._session: _Session | None = None
        self._outages.reset()
        self._supervisor: asyncio.Task[NoReturn] | None = None
        self._came_up, self._tried = asyncio.Event(), asyncio.Event()

    def begin(self) -> None:
        """Connect in the background; calls wait for it, until their deadline."""
        if self._supervisor is not None:
            return
        if isinstance(self._backend, Listening):
            self._listen = self._backend.listen
        else:
            self._turn = asyncio.Lock()
        self._came_up, self._tried = asyncio.Event(), asyncio.Event()
        self._outages.reset()
        self._supervisor = asyncio.create_task(self._supervise())

    async def start(self) -> None:
        """Connect; if that fails, or takes too long, go on trying in the background. Raises the
        ConfigurationError of a backend that says that no attempt can succeed."""
        if self._supervisor is not None:
            return
        self.begin()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timeout):
                    await self._tried.wait()
            if isinstance(self._outages.reason, ConfigurationError):
                raise self._outages.reason
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Disconnect, whatever state the backend is in; calls that wait raise `BrokerUnavailable`,
        and a start under way ends."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is None:
            return
        self._session = None
        self._came_up.set()
        self._tried.set()
        supervisor.cancel()
        await asyncio.wait({supervisor, *self._subscriptions.clear()}, timeout=3 * self._timeout)

    def suspect(self, reason: str) -> None:
        """Give the connection up and make a new one: it is dead, although the backend does not see it."""
        if self._session is not None:
            self._lose(self._session, ConnectionError(reason))

    # Calls

    async def publish(self, publication: Publication) -> None:
        """Hand `publication` to every process that wants its topic, this one included. When it returns, this
        one has it, unless the connection was lost, or the deadline came, meanwhile.

        Raises:
            BrokerUnavailable: the backend did not take it before the deadline, or refused it.
        """
        if self.local and self._session is not None:
            await self._backend.publish(publication.topic, publication)
        else:
            await self._publish(publication, end_of(self._timeout))

    async def _publish(self, publication: Publication, deadline: float) -> None:
        topic, packed = publication.topic, self._packing.pack(publication)
        if publication.kind == "pulse":
            await self._call(deadline, self._backend.publish, topic, packed)
            return
        async with self.echoing(topic, publication.body) as echo:
            await self._call(deadline, self._backend.publish, topic, packed)
            await echo(deadline)

    def echoing(self, topic: str, body: Body) -> Echoing:
        """Around publishing `body`, by this broker or by whoever reaches its server. What it gives returns
        when that has come back, if this process listens; or at a time, in the loop's."""
        return self._echoes.around(topic, body, self._subscriptions.confirmed(topic, self._timeout / 4))

    def expects(self) -> bool:
        """Whether publications of this process are still to come back."""
        return bool(self._echoes)

    async def subscribe(self, topic: str) -> None:
        """Want `topic`; what is published to it after this returned is delivered.

        Raises:
            BrokerUnavailable: it was not confirmed before the deadline; the topic is not wanted.
        """
        await self._subscriptions.add(topic)

    async def unsubscribe(self, topic: str) -> None:
        """Stop wanting `topic`; never raises because the broker is down."""
        await self._subscriptions.discard(topic)

    async def _join(self, topic: str, deadline: float) -> None:
        while await self._call(deadline, self._backend.subscribe, topic) is not self._session:
            pass  # the session in which it was confirmed is lost already

    async def _leave(self, topic: str) -> None:
        self._echoes.give_up(topic)
        if self._session is not None:
            try:
                await self._bounded(self._backend.unsubscribe, topic)
            except Exception as exc:
                self._logger.debug("%r could not be unsubscribed: %s", topic, describe(exc))

    async def _call(
        self, deadline: float, operation: Callable[..., Awaitable[None]], *args: object
    ) -> _Session:
        """The session in which `operation` succeeded; repeated while it surely had no effect.

        Raises:
            BrokerUnavailable: it failed, or the deadline passed.
        """
        try:
            with self._deadlines.at(deadline):
                while True:
                    session = self._session or await self._next_session()
                    try:
                        async with self._turn:
                            await operation(*args)
                        if self._outages.silent_since is not None:
                            self._outages.answered(self._outages.silent_since)
                        return session
                    except NotSent as exc:
                        self._lose(session, exc)
        except BrokerUnavailable:
            raise
        except TimeoutError as exc:
            reason = self._outages.reason
            if reason is not None:
                raise self._outages.failure(f"the broker is down: {describe(reason)}") from reason
            if self._session is None:
                raise self._outages.failure(no_connection(self._timeout)) from exc
            raise self._outages.silence() from exc
        except Exception as exc:
            raise self._outages.failure(f"the broker did not take it: {describe(exc)}") from exc

    async def _next_session(self) -> _Session:
        while self._session is None:
            if self._supervisor is None:
                raise BrokerUnavailable("the broker is not started")
            await self._came_up.wait()
        return self._session

    async def _bounded(self, operation: Callable[[str], Awaitable[None]], topic: str) -> None:
        async with self._turn, asyncio.timeout(self._timeout):
            await operation(topic)

    def _receive(self, topic: str, message: Any) -> None:
        if topic not in self._subscriptions.topics:
            return
        try:
            if message is MISSED:
                self._miss(topic)
                return
            if not isinstance(message, Publication):
                message = self._packing.unpack(topic, message)
                self._echoes.take(topic, message.body)
            self._deliver(message)
        except Unreadable as exc:
            self._unreadable.warn(f"a message for {topic!r} cannot be read: {exc}")
            self._miss(topic)
        except Exception:
            self._logger.exception("a message for %r could not be delivered", topic)

    def _miss(self, topic: str) -> None:
        self._logger.info("messages of %r were missed", topic)
        if self._on_missed is not None:
            self._on_missed(topic)

    # The supervisor

    async def _supervise(self) -> NoReturn:
        failures = 0
        least, most = self._backoff
        while True:
            self._end_if_stopped()
            began = time.monotonic()
            self._heed(await self._serve())
            failures = 0 if time.monotonic() - began > most else min(failures + 1, 16)
            await asyncio.sleep(random.uniform(0, min(most, least * 2**failures)))  # noqa: S311 - not a secret

    async def _serve(self) -> Exception:
        """Run one session; what ended it."""
        self._outages.attempt()
        session = _Session(asyncio.get_running_loop().create_future())
        reader: asyncio.Task[None] | None = None
        try:
            await connect(self._backend, self._timeout)
            reader = asyncio.create_task(self._listen(self._receive))
            reader.add_done_callback(partial(self._reader_ended, session))
            await self._resubscribe()
            self._end_if_stopped()
            if not session.lost.done():
                self._come_up(session)
            return await session.lost
        except Exception as exc:
            return exc
        finally:
            await finished(self._hang_up(reader))

    def _end_if_stopped(self) -> None:
        """Cancel the supervisor again, where a backend swallowed it."""
        if self._supervisor is not asyncio.current_task():
            raise asyncio.CancelledError

    async def _resubscribe(self) -> None:
        """Subscribe what is wanted; on return, with nothing awaited since, no more and no less."""
        held: set[str] = set()
        if isinstance(self._backend, Resuming):
            self._backend.resume(self._subscriptions.settled())
        while (wanted := self._subscriptions.settled()) != held:
            await self._each(self._backend.subscribe, wanted - held)
            await self._each(self._backend.unsubscribe, held - wanted)
            held = wanted

    async def _each(self, operation: Callable[[str], Awaitable[None]], topics: AbstractSet[str]) -> None:
        """Run `operation` for each topic, some at a time, so that the last have as much time as the first."""
        rest = iter(topics)
        try:
            while some := list(islice(rest, AT_ONCE)):
                async with asyncio.TaskGroup() as tasks:
                    for topic in some:
                        tasks.create_task(self._bounded(operation, topic))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _hang_up(self, reader: asyncio.Task[None] | None) -> None:
        if reader is not None:
            reader.cancel()
            await asyncio.wait((reader,), timeout=self._timeout)
        try:
            async with asyncio.timeout(self._timeout):
                await self._backend.disconnect()
        except Exception as exc:
            self._logger.debug("the broken connection could not be closed: %s", describe(exc))

    def _reader_ended(self, session: _Session, reader: asyncio.Task[None]) -> None:
        error = None if reader.cancelled() else reader.exception()
        self._lose(session, error if isinstance(error, Exception) else ConnectionError("reading ended"))

    # What is known of the connection

    def _come_up(self, session: _Session) -> None:
        self._session = session
        self._came_up.set()
        self._tried.set()
        self._outages.over(len(self.topics))
        self._notify(True)

    def _lose(self, session: _Session, reason: Exception) -> None:
        """End `session`, once; calls wait from now on. It is over already where its event loop ends."""
        if not session.lost.done():
            session.lost.set_result(reason)
            self._echoes.give_up_all()
        if session is self._session:
            self._session = None
            self._came_up.clear()
            self._outages.lost(reason)
            self._notify(False)

    def _heed(self, reason: Exception) -> None:
        """Remember why there is no session."""
        self._outages.unreachable(reason)
        self._tried.set()

    def _notify(self, up: bool) -> None:
        if self._on_change is not None:
            try:
                self._on_change(up)
            except Exception:
                self._logger.exception("on_change failed")


@dataclass(slots=True, eq=False)
class _Session:
    """One connection of the backend."""

    lost: asyncio.Future[Exception]
    """Done, with the reason, when it is lost."""
