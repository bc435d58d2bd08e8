"""One job in one process: waits for its ticks, claims them before the other processes do, and runs it.

A tick is claimed in the store before it is run, and never given back: with a process that dies its tick is
lost, and none is run twice. A job that must not overlap with itself holds a second claim, which is renewed
while it runs, so that what ends with a process is soon let go.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any, Final, Literal, NoReturn, TypeAlias, TypedDict

from starlette.websockets import WebSocket

from fastapi_channels.cluster.node import SCOPE_KEY, Node, current_node
from fastapi_channels.cluster.tasks import Tasks
from fastapi_channels.exceptions import BrokerUnavailable
from fastapi_channels.sessions.report import log_failure
from fastapi_channels.signatures.callables import finish, is_failure
from fastapi_channels.signatures.graph import Resolution
from fastapi_channels.stores import Store, StoreUnavailable
from fastapi_channels.wire.log import Seldom
from fastapi_channels.wire.rooms import RESERVED

from .job import Job

logger = logging.getLogger("fastapi_channels")

LATE: Final = 30.0
"""Seconds after its time in which a tick is still run, by a process that was busy or had no store."""
CLAIMED: Final = 300.0
"""Seconds for which a tick is remembered: the clocks of two processes may differ by that less `LATE`."""
LEASE: Final = 5.0
"""Seconds after which what a process that has died was running may be run again, by its next tick."""
RENEWAL: Final = 1.5
PAUSE: Final = 0.2
"""Seconds until a store that was away, or a job that still runs, is asked for again."""
LOOK: Final = 10.0
"""Seconds between two looks at a clock that somebody may set."""
MAX_RUNNING: Final = 32
"""Runs of one job in a process, where it may overlap."""

QUESTION: Final = "jobs"
"""What each process answers with the `State` of each job, by its name."""

Outcome: TypeAlias = Literal["ok", "error", "timeout", "cancelled", "skipped", "missed"]
"""`skipped`: the one before still ran. `missed`: the store could not be asked."""


class Run(TypedDict):
    """One run: when it was due, and how it ended after how many seconds."""

    due: float
    seconds: float
    outcome: Outcome


class State(TypedDict):
    """What a process knows of a job: the tick that is next, and the run that ended last here."""

    next: float
    last: Run | None


@asynccontextmanager
async def running(
    jobs: Sequence[Job], node: Node, app: Any, state: Mapping[str, Any] | None = None
) -> AsyncIterator[None]:
    """Within it the jobs are run; at its end what runs gets the `drain_seconds` to finish.

    Args:
        state: what the lifespan of `app` yields.
    """
    store = node.store
    if not jobs or store is None:
        yield
        return
    keepers = {job.name: Keeper(job, node, app, store, state or {}) for job in jobs}
    node.questions.answers[QUESTION] = lambda: {name: keeper.state for name, keeper in keepers.items()}
    waiting = Tasks()
    for keeper in keepers.values():
        waiting.spawn(keeper.keep())
    try:
        yield
    finally:
        await waiting.stop()
        await asyncio.gather(*(keeper.stop(node.settings.drain_seconds) for keeper in keepers.values()))
        # Gone already, where a router is included twice.
        node.questions.answers.pop(QUESTION, None)


class Keeper:
    """
    Args:
        job: is run.
        node: whose process it is.
        app: the application, for what the job depends on.
        store: where ticks are claimed.
        state: of which each run finds a copy in `connection.state`, as a request does.
    """

    def __init__(self, job: Job, node: Node, app: Any, store: Store, state: Mapping[str, Any]) -> None:
        self.job = job
        self._node = node
        self._store = store
        self._app = app
        self._state = state
        self._id = f"{node.id}.{secrets.token_hex(4)}"
        self._key = f"{node.settings.namespace}{RESERVED}job\n{job.name}\n"
        self._numbers = count()
        self._running: set[asyncio.Task[None]] = set()
        self._away = Seldom(logger)
        self._next = job.mark.schedule.after(time.time())
        self._last: Run | None = None

    @property
    def state(self) -> State:
        return {"next": self._next, "last": self._last}

    async def keep(self) -> None:
        """Run the job at its ticks, until the process lets its connections go."""
        mark = self.job.mark
        while True:
            due = self._next
            following = mark.schedule.after(due)
            if not await self._comes(due, due + random.uniform(0, mark.jitter)):  # noqa: S311
                self._next = mark.schedule.after(time.time())
                continue
            if self._node.draining:
                return
            try:
                # Who comes late takes up the last tick, and none before it.
                if time.time() < following + mark.jitter:
                    await self._take(due, following)
            except Exception:
                logger.exception("a tick of the job %r is lost", self.job.name)
            self._next = mark.schedule.after(max(due, time.time() - (following - due)))

    async def _comes(self, due: float, moment: float) -> bool:
        """Wait for a time of the clock, also where the clock is set meanwhile. False where it is set back so
        far that the tick at `due` is not what comes next."""
        seen = math.inf
        while (wait := moment - (now := time.time())) > 0:
            # Ticks that are remembered have been run: until they are past there is nothing to be done.
            if now < seen and due - self.job.mark.schedule.after(now) > CLAIMED:
                return False
            seen = now
            await asyncio.sleep(min(wait, LOOK))
        return True

    async def stop(self, seconds: float) -> None:
        """Let what runs finish within `seconds`, then cancel it."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _take(self, due: float, following: float) -> None:
        """Run it for the tick at `due`, if no other process does."""
        mark = self.job.mark
        latest = due + mark.jitter + LATE
        if time.time() > latest:
            return
        # Not that of a run for the same tick, before the clock was set back: its claim would be this one's.
        owner = f"{self._id}.{next(self._numbers)}"
        try:
            if await self._claims(f"{due}", owner, CLAIMED + mark.jitter, latest) is None:
                return
        except StoreUnavailable as exc:
            self._misses(exc)
            return
        if mark.overlap and len(self._running) >= MAX_RUNNING:
            self._skips()
            return
        # No other process takes it up any more: it is among what gets its time when this one ends.
        task = asyncio.create_task(self._begin(due, following, owner))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _begin(self, due: float, following: float, owner: str) -> None:
        """Run it for a tick that is claimed, as soon as it is alone, where it has to be."""
        try:
            since = _now() if self.job.mark.overlap else await self._comes_alone(owner, following)
        except StoreUnavailable as exc:
            self._misses(exc)
            return
        except asyncio.CancelledError:
            logger.warning("the job %r was cancelled before it began", self.job.name)
            self._tell(None, "cancelled")
            raise
        if since is None:
            self._skips()
        else:
            await self._run(due, owner, since)

    async def _claims(self, what: str, owner: str, seconds: float, latest: float) -> float | None:
        """Since when `owner` has the claim at least, by the clock of the event loop; None where it is not the
        first. A claim that was not answered may have been made, and is made again.

        Raises:
            StoreUnavailable: the store did not answer until `latest`.
        """
        while True:
            asked = _now()
            try:
                claim = await self._store.claim(self._key + what, owner, seconds)
                return asked if claim.state == "new" else None
            except StoreUnavailable:
                if time.time() >= latest:
                    raise
            await asyncio.sleep(PAUSE)

    async def _comes_alone(self, owner: str, following: float) -> float | None:
        """As `_claims`, that no other run is under way. One that is gets the time that it would take to find
        out that its process has died, unless the next tick comes before."""
        latest = min(time.time() + LEASE, following) - PAUSE
        while (since := await self._claims("", owner, LEASE, latest)) is None:
            if time.time() >= latest:
                return None
            await asyncio.sleep(PAUSE)
        return since

    def _scope(self) -> dict[str, Any]:
        return {
            "type": "websocket",
            "app": self._app,
            SCOPE_KEY: self._node,
            "path": "",
            "path_params": {},
            "query_string": b"",
            "headers": [],
            "state": dict(self._state),
        }

    async def _run(self, due: float, owner: str, since: float) -> None:
        current_node.set(self._node)
        for tell in self._node.observers.running:
            tell(self.job.name)
        began = time.perf_counter()
        outcome: Outcome = "ok"
        failure = None
        deadline = asyncio.timeout(self.job.mark.timeout)
        held = None if self.job.mark.overlap else self._hold(owner, since, _this_task())
        holding = None if held is None else asyncio.create_task(held)
        try:
            async with deadline, Resolution(WebSocket(self._scope(), _nothing, _nothing), None) as resolution:
                await self.job.run(resolution, due)
        except BaseException as exc:
            outcome, failure = self._failed(exc, timed_out=deadline.expired()), exc
            if not is_failure(exc):
                raise
        finally:
            seconds = time.perf_counter() - began
            self._last = {"due": due, "seconds": seconds, "outcome": outcome}
            self._tell(seconds, outcome, failure)
            failure = None  # which refers to this frame
            if holding is not None:
                holding.cancel()
                await finish(self._let_go(owner))

    async def _hold(self, owner: str, since: float, running: asyncio.Task[Any]) -> None:
        """Hold the claim of a run while it lasts. Where another has got it from the store, end the run; also
        where another may have: the store may be away for this process alone."""
        why = "may run elsewhere: the store has not answered"
        with suppress(TimeoutError):
            async with asyncio.timeout_at(since + LEASE) as lease:
                while True:
                    await asyncio.sleep(RENEWAL)
                    asked = _now()
                    with suppress(StoreUnavailable):
                        if (await self._store.claim(self._key, owner, LEASE)).state != "new":
                            why = "runs elsewhere: this process was too busy"
                            break
                        lease.reschedule(asked + LEASE)
        logger.warning("the job %r %s", self.job.name, why)
        running.cancel()

    async def _let_go(self, owner: str) -> None:
        try:
            await self._store.settle(self._key, owner, None, LEASE)
        except StoreUnavailable as exc:
            logger.debug("the claim of the job %r ends by itself: %s", self.job.name, exc)

    def _failed(self, exc: BaseException, *, timed_out: bool) -> Outcome:
        if timed_out:
            logger.error(
                "the job %r took longer than its timeout, %g s", self.job.name, self.job.mark.timeout
            )
            return "timeout"
        if not is_failure(exc):
            logger.warning("the job %r was cancelled", self.job.name)
            return "cancelled"
        if isinstance(exc, BrokerUnavailable | StoreUnavailable):
            logger.warning("the job %r failed: %s", self.job.name, exc)
        else:
            log_failure(logger, f"error {secrets.token_hex(4)} in the job {self.job.name!r}", exc)
        return "error"

    def _misses(self, exc: StoreUnavailable) -> None:
        self._away.warn(f"the job {self.job.name!r} is not run: {exc}")
        self._tell(None, "missed")

    def _skips(self) -> None:
        logger.info("the job %r is skipped: it still runs", self.job.name)
        self._tell(None, "skipped")

    def _tell(self, seconds: float | None, outcome: Outcome, failure: BaseException | None = None) -> None:
        for tell in self._node.observers.ran:
            tell(self.job.name, seconds, outcome, failure)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def _nothing(*_: Any) -> NoReturn:
    raise RuntimeError("a job has no WebSocket")
