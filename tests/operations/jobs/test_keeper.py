"""Jobs as they run: over several processes in one event loop, in which time passes at once."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import Annotated, Any, cast

import pytest
from fastapi import APIRouter, Depends, FastAPI
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from fastapi_channels import (
    BrokerUnavailable,
    Channel,
    Publisher,
    add_channel,
    cron,
    current_publisher,
    every,
)
from fastapi_channels.brokers import create_backend
from fastapi_channels.cluster.node import Node
from fastapi_channels.cluster.observer import Observer
from fastapi_channels.cluster.settings import Settings
from fastapi_channels.operations.jobs import keeper
from fastapi_channels.operations.jobs.job import job_of
from fastapi_channels.operations.jobs.keeper import LATE, LEASE, MAX_RUNNING, QUESTION, RENEWAL, running
from fastapi_channels.stores import memory
from fastapi_channels.testing.asgi import living
from fastapi_channels.testing.clock import now, timeless
from fastapi_channels.testing.store import FaultyStore, StoreView
from tests.support.wire import dial, node_of

BEGAN = 1000.0
"""The time of a timeless loop at its start."""


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Those of all processes and of the store are that of the event loop; `ahead` is how far it was set."""
    clock = SimpleNamespace(ahead=0.0, perf_counter=now)
    clock.time = lambda: now() + clock.ahead
    for module in (memory, keeper):
        monkeypatch.setattr(module, "time", clock)
    return clock


class Process(Observer):
    """One of several that share a store, and note how each run ends."""

    def __init__(self, store: FaultyStore, settings: Settings) -> None:
        self.view: StoreView = store.view()
        self.node = Node(create_backend("memory://"), settings=settings, store=self.view.as_store)
        self.node.observers.add(self)
        self.outcomes: list[str] = []

    def ran(self, job: str, seconds: float | None, outcome: str, failure: BaseException | None) -> None:
        self.outcomes.append(outcome)


@asynccontextmanager
async def processes(
    number: int, *functions: Callable[..., Any], drain_seconds: float = 10.0
) -> AsyncIterator[list[Process]]:
    store = FaultyStore()
    async with AsyncExitStack() as stack:
        found = [Process(store, Settings(drain_seconds=drain_seconds)) for _ in range(number)]
        for process in found:
            jobs = [job_of(function) for function in functions]
            await stack.enter_async_context(running(jobs, process.node, None))
        yield found


class Diary:
    """When runs began, by the clock, and for which ticks."""

    def __init__(self, lasts: float = 0.0) -> None:
        self.lasts = lasts
        self.due: list[float] = []
        self.began: list[float] = []
        self.ended: list[float] = []
        self.at_once = 0
        self._now = 0

    async def __call__(self, due: datetime) -> None:
        self.due.append(due.timestamp() - BEGAN)
        self.began.append(round(now() - BEGAN))
        self._now += 1
        self.at_once = max(self.at_once, self._now)
        try:
            await asyncio.sleep(self.lasts)
        finally:
            self._now -= 1
            self.ended.append(round(now() - BEGAN))


def noted(lasts: float = 0.0, seconds: float = 10, **options: Any) -> tuple[Diary, Callable[..., Any]]:
    diary = Diary(lasts)

    @every(seconds=seconds, **options)
    async def job(due: datetime) -> None:
        await diary(due)

    return diary, job


@timeless
async def test_each_tick_is_run_once_over_all_processes():
    diary, job = noted()
    async with processes(4, job) as four:
        await asyncio.sleep(101)
    assert diary.due == [*range(10, 101, 10)]
    assert diary.began == diary.due
    assert sum(len(process.outcomes) for process in four) == 10


@timeless
async def test_two_jobs_do_not_wait_for_each_other():
    one, first = noted(lasts=55)

    @every(seconds=20)
    async def second(due: datetime) -> None:
        await another(due)

    another = Diary()
    async with processes(1, first, second):
        await asyncio.sleep(61)
    assert another.due == [20, 40, 60]
    assert one.due == [10]


@timeless
async def test_a_tick_that_finds_the_one_before_running_is_skipped():
    diary, job = noted(lasts=27)
    async with processes(2, job) as two:
        await asyncio.sleep(99)
    assert diary.due == [10, 40, 70]
    assert diary.at_once == 1
    outcomes = [outcome for process in two for outcome in process.outcomes]
    assert sorted(outcomes) == ["ok"] * 3 + ["skipped"] * 6


@timeless
async def test_a_tick_waits_a_little_for_the_one_before():
    diary, job = noted(lasts=12)
    async with processes(2, job):
        await asyncio.sleep(50)
    assert diary.began[:2] == [10, 22]
    assert diary.due[:2] == [10, 20]
    assert diary.at_once == 1


@timeless
async def test_ticks_overlap_where_they_may_and_up_to_a_bound():
    diary, job = noted(lasts=10 * MAX_RUNNING, seconds=1, overlap=True, timeout=1e4)
    async with processes(1, job) as (process,):
        await asyncio.sleep(MAX_RUNNING + 5.5)
        assert diary.due == [*range(1, MAX_RUNNING + 1)]
        assert process.outcomes == ["skipped"] * 5


@timeless
async def test_the_tick_after_one_that_died_with_its_process_is_run_in_another(
    caplog: pytest.LogCaptureFixture,
):
    diary, job = noted(lasts=30)
    async with processes(2, job) as two:
        await asyncio.sleep(11)
        claims = two[0].view._store._claims
        (owner,) = (claim[1] for key, claim in claims.items() if key.endswith("\n"))
        cut = next(process for process in two if owner.startswith(process.node.id))
        cut.view.down = True
        await asyncio.sleep(10)
        assert diary.due == [10, 20], "its lease has ended after five seconds"
        assert diary.at_once == 1, "the process that lives, and is cut off, has ended the run before that"
        assert cut.outcomes == ["cancelled"]
        assert "the job 'job' may run elsewhere: the store has not answered" in caplog.text


@timeless
async def test_a_run_whose_claim_another_has_is_cancelled(caplog: pytest.LogCaptureFixture):
    diary, job = noted(lasts=30)
    async with processes(1, job) as (process,):
        await asyncio.sleep(11)
        claims = process.view._store._claims
        (key,) = (key for key in claims if key.endswith("\n"))
        claims[key] = (now() + 60, "another", None)
        await asyncio.sleep(RENEWAL + 0.1)
        assert (len(diary.ended), process.outcomes) == (1, ["cancelled"])
        assert "runs elsewhere" in caplog.text


@timeless
async def test_a_job_that_fails_is_run_again_and_the_log_says_why(caplog: pytest.LogCaptureFixture):
    class Form(BaseModel):
        number: int

    given = "s3cret"
    failures = iter([RuntimeError("on purpose"), BrokerUnavailable("the broker is down")])

    @every(seconds=10)
    async def fails() -> None:
        for failure in failures:
            raise failure
        Form.model_validate({"number": given})

    async with processes(1, fails) as (process,):
        await asyncio.sleep(31)
    assert process.outcomes == ["error"] * 3
    first, second, third = caplog.records
    assert first.getMessage().startswith("error ")
    assert first.getMessage().endswith(" in the job 'fails'")
    assert first.exc_info is not None
    assert (second.levelno, second.exc_info) == (logging.WARNING, None)
    assert "the job 'fails' failed: the broker is down" in second.getMessage()
    assert "Form does not fit: [(('number',), 'int_parsing')]" in third.getMessage()
    assert "s3cret" not in caplog.text


@timeless
async def test_a_run_has_a_deadline(caplog: pytest.LogCaptureFixture):
    diary, job = noted(lasts=9, timeout=5)
    async with processes(1, job) as (process,):
        await asyncio.sleep(29)
    assert process.outcomes == ["timeout"] * 2
    assert diary.ended == [15, 25]
    assert "the job 'job' took longer than its timeout, 5 s" in caplog.text


@timeless
async def test_a_timeout_of_its_own_is_an_error():
    @every(seconds=10)
    async def gives_up() -> None:
        async with asyncio.timeout(1):
            await asyncio.sleep(2)

    async with processes(1, gives_up) as (process,):
        await asyncio.sleep(15)
    assert process.outcomes == ["error"]


@timeless
async def test_what_else_is_cancelled_is_an_error_and_no_end():
    @every(seconds=10)
    async def waits_for_what_was_cancelled() -> None:
        other = asyncio.ensure_future(asyncio.sleep(100))
        other.cancel()
        await other

    async with processes(1, waits_for_what_was_cancelled) as (process,):
        await asyncio.sleep(25)
    assert process.outcomes == ["error", "error"]


@timeless
async def test_ticks_come_later_by_chance():
    diary, job = noted(jitter=9)
    async with processes(1, job):
        await asyncio.sleep(400)
    delays = {began - due for began, due in zip(diary.began, diary.due, strict=True)}
    assert diary.due[:3] == [10, 20, 30]
    assert 0 <= min(delays) < max(delays) <= 9


@timeless
async def test_while_the_store_is_away_nothing_is_run_and_then_what_is_not_too_late(
    caplog: pytest.LogCaptureFixture,
):
    diary, job = noted(seconds=20)
    async with processes(1, job) as (process,):
        process.view.down = True
        await asyncio.sleep(25)
        assert diary.due == []
        process.view.down = False
        await asyncio.sleep(20)
        assert diary.due == [20, 40]
        assert diary.began == [25, 40]
        process.view.down = True
        await asyncio.sleep(16 + LATE)
        assert process.outcomes == ["ok", "ok", "missed"]
        assert "the job 'job' is not run: the store is not reached" in caplog.text
        process.view.down = False
        await asyncio.sleep(20)
    assert diary.due == [20, 40, 80, 100]


@timeless
async def test_a_store_that_raises_what_it_should_not_ends_nothing(caplog: pytest.LogCaptureFixture):
    diary, job = noted()
    async with processes(1, job) as (process,):
        store = process.view._store
        process.view._store = cast(FaultyStore, SimpleNamespace())
        await asyncio.sleep(15)
        process.view._store = store
        await asyncio.sleep(10)
    assert diary.due == [20]
    assert "a tick of the job 'job' is lost" in caplog.text


@timeless
@pytest.mark.parametrize(("overlap", "outage"), [(False, LEASE - 2 * RENEWAL), (True, 2 * LEASE)])
async def test_an_outage_of_the_store_ends_no_run_that_need_not_be_alone_nor_one_that_still_is(
    overlap: bool, outage: float
):
    diary, job = noted(lasts=15, seconds=20, overlap=overlap)
    async with processes(1, job) as (process,):
        await asyncio.sleep(21)
        process.view.down = True
        await asyncio.sleep(outage)
        process.view.down = False
        await asyncio.sleep(18 - outage)
        assert (diary.ended, process.outcomes) == ([35], ["ok"])


@timeless
async def test_who_comes_too_late_takes_the_next_tick(clock: SimpleNamespace):
    diary, job = noted(seconds=3600)
    async with processes(1, job):
        # The machine has slept over one tick, and over a hundred.
        clock.ahead = 2600 + LATE + 1
        await asyncio.sleep(60)
        assert diary.due == []
        clock.ahead += 100 * 3600
        await asyncio.sleep(3600)
    assert diary.due == [101 * 3600 + 2600]


@timeless
async def test_who_was_busy_takes_the_last_tick_and_none_before(clock: SimpleNamespace):
    diary, job = noted(seconds=1)
    async with processes(1, job):
        await asyncio.sleep(2.5)
        clock.ahead = 20
        await asyncio.sleep(2)
    assert diary.due == [1, 2, 23, 24]


@timeless
async def test_a_clock_that_was_ahead_and_is_set_back_stops_no_job(clock: SimpleNamespace):
    diary, job = noted(seconds=20)
    clock.ahead = 86_400
    async with processes(1, job):
        await asyncio.sleep(25)
        clock.ahead = 0
        await asyncio.sleep(60)
    assert diary.due == [86_420, 40, 60, 80]


@timeless
@pytest.mark.parametrize(
    ("evening", "expected"),
    [
        ("2026-03-28T22:00+01:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
        ("2026-10-24T22:00+02:00", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
    ],
    ids=["spring", "autumn"],
)
async def test_a_time_that_the_clocks_leave_out_or_show_twice_is_run_once(
    evening: str, expected: list[str], clock: SimpleNamespace
):
    nights: list[datetime] = []

    @cron("30 2 * * *", tz="Europe/Berlin")
    async def nightly(due: datetime) -> None:
        nights.append(due)

    clock.ahead = datetime.fromisoformat(evening).timestamp() - now()
    async with processes(2, nightly) as both:
        await asyncio.sleep(30 * 3600)
    assert nights == [datetime.fromisoformat(each) for each in expected]
    assert [outcome for process in both for outcome in process.outcomes] == ["ok"] * 2


@timeless
async def test_a_clock_that_goes_back_by_minutes_over_a_tick_of_each_day_runs_it_no_second_time(
    clock: SimpleNamespace,
):
    days: list[datetime] = []

    @cron("0 3 * * *")
    async def daily(due: datetime) -> None:
        days.append(due)

    clock.ahead = 3 * 3600 - 100 - now()
    async with processes(2, daily):
        await asyncio.sleep(200)
        clock.ahead -= 200
        await asyncio.sleep(86_600)
    assert [day.timestamp() for day in days] == [3 * 3600, 27 * 3600]


@timeless
async def test_a_deadline_that_passes_lets_the_next_tick_be_run_in_any_process():
    diary, job = noted(lasts=60, timeout=12)
    async with processes(2, job) as two:
        await asyncio.sleep(45)
    assert diary.began == [10, 22, 34]
    assert (diary.due, diary.at_once) == ([10, 20, 30], 1)
    outcomes = [outcome for process in two for outcome in process.outcomes]
    assert sorted(outcomes) == ["skipped", *["timeout"] * 3]


@timeless
async def test_nothing_is_begun_while_the_process_lets_its_connections_go():
    diary, job = noted()
    async with processes(1, job) as (process,):
        await asyncio.sleep(11)
        await process.node.drain(0)
        await asyncio.sleep(100)
    assert diary.due == [10]


@timeless
async def test_what_runs_at_the_end_gets_the_time_of_a_drain():
    diary, job = noted(lasts=8)
    async with processes(1, job) as (process,):
        await asyncio.sleep(11)
    assert (diary.ended, process.outcomes) == ([18], ["ok"])


@timeless
@pytest.mark.parametrize(
    ("drain_seconds", "due", "outcomes"), [(20, [10, 20], ["ok"]), (0.3, [10], ["cancelled"])]
)
async def test_a_tick_that_waits_for_the_one_before_at_the_end_gets_that_time_too(
    drain_seconds: float, due: list[int], outcomes: list[str], caplog: pytest.LogCaptureFixture
):
    diary, job = noted(lasts=11)
    async with processes(1, job, drain_seconds=drain_seconds) as (process,):
        await asyncio.sleep(20.5)
    assert diary.due == due
    assert process.outcomes == outcomes * 2
    assert ("was cancelled before it began" in caplog.text) == (len(due) == 1)


@timeless
async def test_what_does_not_end_then_is_cancelled(caplog: pytest.LogCaptureFixture):
    diary, job = noted(lasts=60)
    async with processes(1, job, drain_seconds=3) as (process,):
        await asyncio.sleep(11)
    assert (diary.ended, process.outcomes) == ([14], ["cancelled"])
    assert "the job 'job' was cancelled" in caplog.text
    assert len(process.view._store._claims) == 1, "its tick stays claimed, the rest is let go"
    assert asyncio.all_tasks() == {asyncio.current_task()}


@timeless
async def test_a_thread_is_waited_for_at_its_deadline_and_at_the_end():
    """No thread can be interrupted: it keeps the claim, so that none overlaps it."""
    ended: list[datetime] = []
    release = threading.Event()

    @every(seconds=10, timeout=5)
    def blocks(due: datetime) -> None:
        release.wait(30)
        ended.append(due)

    async with processes(2, blocks, drain_seconds=3) as two:
        await asyncio.sleep(46)
        assert [outcome for process in two for outcome in process.outcomes] == ["skipped"] * 3
        asyncio.get_running_loop().call_later(100, release.set)
    assert [due.timestamp() for due in ended] == [BEGAN + 10]
    assert sorted(outcome for process in two for outcome in process.outcomes) == ["skipped"] * 3 + ["timeout"]


# In an application

OPEN: list[str] = []


async def opened(connection: HTTPConnection) -> AsyncIterator[str]:
    OPEN.append(connection.app.title)
    yield "a session"
    OPEN.clear()


async def another() -> str:
    return "an override"


class Room(Channel):
    @every(seconds=10)
    async def tick(self, session: Annotated[str, Depends(opened)]) -> None:
        await self.broadcast("lobby", "ticked", [session, *OPEN])


@every(seconds=25)
async def shout(publisher: Annotated[Publisher, Depends(current_publisher)]) -> None:
    await publisher.broadcast("lobby", "shouted")


def application(**settings: Any) -> FastAPI:
    app = FastAPI(title="the application")
    add_channel(app, **settings)
    Room().mount(app, "/{channel}")
    return app


@timeless
async def test_a_job_gets_what_it_depends_on_and_reaches_clients():
    app = application(jobs=[shout])
    async with living(app), dial(app, "/lobby") as wire:
        assert (await wire.receive())["data"] == ["a session", "the application"]
        assert OPEN == [], "it is closed with the run"
        app.dependency_overrides[opened] = another
        assert (await wire.receive())["data"] == ["an override"]
        assert (await wire.receive())["event"] == "shouted"


@timeless
async def test_each_run_finds_what_the_lifespan_yields():
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        yield {"db": "a database"}

    found: list[list[str]] = []

    async def state_of(connection: HTTPConnection) -> None:
        found.append([*connection.state._state])
        connection.state.own = connection.state.db

    @every(seconds=10)
    async def job(state: Annotated[None, Depends(state_of)]) -> None: ...

    job.__annotations__["state"] = Annotated[None, Depends(state_of)]
    app = FastAPI(lifespan=lifespan)
    add_channel(app, jobs=[job])
    async with living(app):
        await asyncio.sleep(21)
    assert found == [["db"], ["db"]]


@timeless
async def test_where_none_are_wanted_none_are_run():
    app = application(jobs=None)
    async with living(app), dial(app, "/lobby") as wire:
        await asyncio.sleep(100)
        assert wire.frames == []
        assert QUESTION not in node_of(app).questions.answers


@timeless
async def test_those_of_a_router_with_a_node_of_its_own_are_run_once_and_reach_who_is_served():
    app, router = FastAPI(title="the application"), APIRouter()
    add_channel(app)
    add_channel(router)
    Room().mount(router, "/{channel}")
    app.include_router(router)
    async with living(app), dial(app, "/lobby") as wire:
        await asyncio.sleep(11)
        assert len(wire.frames) == 1
        assert QUESTION in node_of(app).questions.answers
        inner = Node.attached(router)
        assert inner is not None
        assert QUESTION not in inner.questions.answers


@timeless
async def test_they_begin_when_the_application_has_and_end_before_it():
    order: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.sleep(15)
        order.append("begun")
        yield
        await asyncio.sleep(15)
        order.append("ended")

    @every(seconds=10)
    async def job() -> None:
        order.append("run")

    app = FastAPI(lifespan=lifespan)
    add_channel(app, jobs=[job])
    async with living(app):
        await asyncio.sleep(6)
    assert order == ["begun", "run", "ended"]


@timeless
async def test_the_last_run_and_the_next_are_known():
    registry = CollectorRegistry()
    app = application(metrics=registry)
    async with living(app):
        node = node_of(app)
        before = (await node.questions.ask(QUESTION))[node.id]["Room.tick"]
        assert before == {"next": BEGAN + 10, "last": None}
        zero = generate_latest(registry).decode()
        await asyncio.sleep(11)
        after = (await node.questions.ask(QUESTION))[node.id]["Room.tick"]
        assert after["next"] == BEGAN + 20
        assert after["last"] == {"due": BEGAN + 10, "seconds": after["last"]["seconds"], "outcome": "ok"}
        text = generate_latest(registry).decode()
    for shown, runs, last, following in ((zero, 0, 0, BEGAN + 10), (text, 1, BEGAN + 10, BEGAN + 20)):
        lines = [line for line in shown.splitlines() if 'job="Room.tick"' in line]
        values = {
            line.partition("{")[0].removeprefix("fastapi_channels_job_"): float(line.split()[-1])
            for line in lines
        }
        assert values["runs_total"] == values["duration_seconds_count"] == runs
        assert (values["last_run_timestamp_seconds"], values["next_run_timestamp_seconds"]) == (
            last,
            following,
        )


async def test_a_plain_function_runs_in_a_thread_of_the_application(monkeypatch: pytest.MonkeyPatch):
    """With the real clock: a timeless loop waits for no thread."""
    monkeypatch.undo()
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    app = FastAPI()
    room = Channel()

    @every(seconds=0.1)
    def job() -> None:
        asyncio.run(room.broadcast("lobby", "ticked"))
        loop.call_soon_threadsafe(done.set)

    add_channel(app, jobs=[job])
    room.mount(app, "/{channel}")
    async with living(app), dial(app, "/lobby") as wire:
        assert (await wire.receive())["event"] == "ticked"
        async with asyncio.timeout(30):
            await done.wait()
