"""The broker over backends whose failures are written down: each is a working backend in memory."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from types import SimpleNamespace
from typing import Any

import pytest
from broadcaster import BroadcastBackend, Event

from fastapi_channels.brokers import Broker, MemoryBackend, NotSent
from fastapi_channels.brokers.backend import MISSED, Receive
from fastapi_channels.exceptions import BrokerUnavailable, ConfigurationError
from fastapi_channels.testing.clock import timeless, turns
from fastapi_channels.wire.messages import Publication
from tests.support.brokers import Process, other_tasks, running
from tests.support.live import wait_until

FAST = {"backoff": (0.001, 0.002)}
SHORT = {"publish_timeout": 0.05, **FAST}


class Scripted(BroadcastBackend):
    """A backend that is asked for each message; `script` says how its next calls fail or hang.

    A script's item is an exception to be raised, or something to be awaited; when the script of a
    call is used up, the call works.
    """

    def __init__(self) -> None:
        self.script: dict[str, deque[Exception | Callable[[], Awaitable[Any]]]] = {}
        self.calls: list[str] = []
        self.subscribed: set[str] = set()
        self.connected = False
        self._messages: asyncio.Queue[Event | Exception] = asyncio.Queue()

    def will(self, call: str, *outcomes: Exception | Callable[[], Awaitable[Any]]) -> None:
        self.script.setdefault(call, deque()).extend(outcomes)

    def lose(self, reason: Exception) -> None:
        self._messages.put_nowait(reason)

    async def connect(self) -> None:
        await self._play("connect")
        assert not self.connected, "connected twice"
        self.connected = True
        self.subscribed = set()
        self._messages = asyncio.Queue()

    async def disconnect(self) -> None:
        self.connected = False
        await self._play("disconnect")

    async def subscribe(self, group: str) -> None:
        subscribed = self.subscribed  # of the connection that the call was made on
        await self._play("subscribe", group)
        subscribed.add(group)

    async def unsubscribe(self, group: str) -> None:
        await self._play("unsubscribe", group)
        self.subscribed.remove(group)

    async def publish(self, channel: str, message: Any) -> None:
        await self._play("publish", channel)
        if channel in self.subscribed:
            self._messages.put_nowait(Event(channel, message))

    async def next_published(self) -> Event:
        message = await self._messages.get()
        if isinstance(message, Exception):
            raise message
        return message

    async def _play(self, call: str, argument: str = "") -> None:
        self.calls.append(f"{call} {argument}".strip())
        script = self.script.get(call)
        if script:
            outcome = script.popleft()
            if isinstance(outcome, Exception):
                raise outcome
            await outcome()


class Attentive(Scripted):
    """The same, as a backend that listens."""

    async def listen(self, receive: Receive) -> None:
        while True:
            event = await self.next_published()
            receive(event.channel, event.message)


@pytest.fixture(params=[Scripted, Attentive])
def backend(request: pytest.FixtureRequest) -> Scripted:
    made: Scripted = request.param()
    return made


async def hang() -> None:
    await asyncio.get_running_loop().create_future()


def texts(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= level]


# Starting and stopping


async def test_nothing_works_before_start_and_after_stop(backend: Scripted):
    process = Process(backend)
    await process.broker.stop()
    process.broker.suspect("nobody is connected")
    for _ in range(2):
        with pytest.raises(BrokerUnavailable, match="not started"):
            await process.publish("room", "x")
        with pytest.raises(BrokerUnavailable, match="not started"):
            await process.broker.subscribe("room")
        await process.broker.unsubscribe("room")
        assert process.broker.topics == set()
        async with running(process):
            await process.broker.start()
            assert backend.calls.count("connect") == 1
        backend.calls.clear()
    assert process.changes == [True, True]
    assert other_tasks() == set()


async def test_the_memory_broker_is_not_silent_before_start():
    with pytest.raises(BrokerUnavailable, match="not started"):
        await Process(MemoryBackend()).publish("room", "x")


async def test_start_goes_on_in_the_background(backend: Scripted, caplog: pytest.LogCaptureFixture):
    backend.will("connect", *[ConnectionRefusedError("nobody is there")] * 5)
    process = Process(backend, **FAST)
    async with running(process):
        assert not process.broker.up
        await wait_until(lambda: process.broker.up)
        assert process.changes == [True]
        await process.broker.subscribe("room")
        await process.publish("room", "x")
        assert await process.receives(1) == ["x"]
    first, second = texts(caplog)
    assert first == ("the broker cannot be reached, going on to try: ConnectionRefusedError: nobody is there")
    assert re.fullmatch(
        r"the broker is back after 0\.\d s and 6 attempts; topics: 0; calls that failed: 0", second
    )


async def test_start_does_not_wait_for_a_connect_that_hangs(backend: Scripted):
    backend.will("connect", hang, hang)
    process = Process(backend, **SHORT)
    async with running(process):
        assert not process.broker.up
        await wait_until(lambda: process.broker.up)
        assert backend.calls.count("connect") == 3


async def test_start_that_is_cancelled_leaves_nothing(backend: Scripted):
    backend.will("connect", hang)
    starting = asyncio.create_task(Process(backend).broker.start())
    await wait_until(lambda: backend.calls == ["connect"])
    starting.cancel()
    await asyncio.wait((starting,))
    assert starting.cancelled()
    assert other_tasks() == set()
    assert backend.calls == ["connect", "disconnect"]


async def test_stop_while_connecting(backend: Scripted):
    backend.will("connect", ConnectionError("not yet"), hang)
    process = Process(backend, **FAST)
    async with running(process):
        await wait_until(lambda: backend.calls.count("connect") == 2)
    assert other_tasks() == set()
    assert backend.calls[-1] == "disconnect"


async def test_stop_while_it_pauses_between_two_attempts(backend: Scripted):
    backend.will("connect", ConnectionError("not yet"))
    process = Process(backend, backoff=(1000, 1000))
    async with running(process):
        assert backend.calls == ["connect", "disconnect"]
    assert other_tasks() == set()


async def test_stop_while_it_hangs_up(backend: Scripted):
    """A backend closes several things, one after the other: all of them are closed."""
    hanging_up, closed = asyncio.Event(), asyncio.Event()

    async def close_slowly() -> None:
        hanging_up.set()
        await turns()
        closed.set()

    backend.will("connect", ConnectionError("not yet"))
    backend.will("disconnect", close_slowly)
    process = Process(backend, publish_timeout=120.0, **FAST)
    starting = asyncio.create_task(process.broker.start())
    await hanging_up.wait()
    await process.broker.stop()
    assert closed.is_set()
    async with asyncio.timeout(30):  # and not for as long as a start may take
        await starting
    assert other_tasks() == set()


async def test_stop_is_bounded_when_disconnecting_hangs(backend: Scripted):
    backend.will("disconnect", hang)
    process = Process(backend, **SHORT)
    async with asyncio.timeout(30), running(process):
        pass
    assert other_tasks() == set()


async def test_a_disconnect_that_fails_is_no_news(backend: Scripted, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    backend.will("disconnect", RuntimeError("never connected"))
    async with running(Process(backend)):
        pass
    assert "could not be closed: RuntimeError: never connected" in caplog.text
    assert texts(caplog) == []


@pytest.mark.parametrize("fails", [False, True])
async def test_stop_does_not_wait_for_a_backend_that_cannot_be_cancelled(backend: Scripted, fails: bool):
    stubborn = asyncio.Event()

    async def refuse_to_end() -> None:
        while not stubborn.is_set():
            try:
                await stubborn.wait()
            except asyncio.CancelledError:
                continue
        if fails:
            raise ConnectionError("at last")

    backend.will("connect", refuse_to_end)
    process = Process(backend, **SHORT)
    async with asyncio.timeout(30), running(process):
        assert not process.broker.up
    stubborn.set()
    await wait_until(lambda: other_tasks() == set())
    assert process.changes == []
    assert backend.calls[-1] == "disconnect"


async def test_stop_wakes_those_that_wait(backend: Scripted):
    backend.will("connect", *[ConnectionError("not yet")] * 1000)
    process = Process(backend, publish_timeout=30)
    async with running(process):
        waiting = [
            asyncio.create_task(process.publish("room", "x")),
            asyncio.create_task(process.broker.subscribe("room")),
        ]
        await asyncio.sleep(0)
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, BrokerUnavailable)
    assert other_tasks() == set()


# Losing the connection


async def test_a_reader_that_dies_is_replaced(backend: Scripted, caplog: pytest.LogCaptureFixture):
    process = Process(backend, **FAST)
    async with running(process):
        for topic in ("a", "b", "c"):
            await process.broker.subscribe(topic)
        await process.broker.unsubscribe("c")
        for number in range(3):
            backend.lose(ConnectionResetError("reset"))
            await wait_until(lambda number=number: backend.calls.count("connect") == number + 2)
            await wait_until(lambda: process.broker.up)
            assert backend.subscribed == {"a", "b"} == process.broker.topics
            await process.publish("a", str(number))
        assert await process.receives(3) == ["0", "1", "2"]
        assert process.changes == [True, False, True, False, True, False, True]
    down, up = texts(caplog)[:2]
    assert down == "the broker is lost, reconnecting: ConnectionResetError: reset"
    assert re.fullmatch(
        r"the broker is back after 0\.\d s and 1 attempts; topics: 2; calls that failed: 0", up
    )
    assert len(texts(caplog)) == 6


async def test_an_outage_is_told_once_each_way(backend: Scripted, caplog: pytest.LogCaptureFixture):
    process = Process(backend, **FAST)
    async with running(process):
        backend.will("connect", *[ConnectionError("still down")] * 7)
        backend.lose(ConnectionError("down"))
        await wait_until(lambda: process.changes == [True, False, True])
    down, up = texts(caplog)
    assert down.endswith("ConnectionError: down")
    assert "8 attempts" in up


async def test_reading_that_just_ends_is_a_loss(caplog: pytest.LogCaptureFixture):
    class Short(Attentive):
        async def listen(self, receive: Receive) -> None:
            await asyncio.sleep(0)

    process = Process(Short(), **FAST)
    async with running(process):
        await wait_until(lambda: len(process.changes) > 4)
    assert "ConnectionError: reading ended" in texts(caplog)[0]


async def test_a_reader_cancelled_by_its_backend_is_a_loss(caplog: pytest.LogCaptureFixture):
    class Confused(Attentive):
        async def listen(self, receive: Receive) -> None:
            raise asyncio.CancelledError

    process = Process(Confused(), **FAST)
    async with running(process):
        await wait_until(lambda: "reading ended" in caplog.text)


async def test_a_silent_death_is_suspected(backend: Scripted, caplog: pytest.LogCaptureFixture):
    process = Process(backend, **FAST)
    async with running(process):
        await process.broker.subscribe("room")
        process.broker.suspect("the heartbeat does not come back")
        assert not process.broker.up
        process.broker.suspect("told twice")
        await wait_until(lambda: process.broker.up)
        assert process.changes == [True, False, True]
        await process.publish("room", "x")
        assert await process.receives(1) == ["x"]
    assert texts(caplog)[0].endswith("ConnectionError: the heartbeat does not come back")
    assert "told twice" not in caplog.text


async def test_the_loss_while_resubscribing_begins_anew(backend: Scripted):
    process = Process(backend, **FAST)
    async with running(process):
        await process.broker.subscribe("room")
        backend.will("subscribe", ConnectionError("lost again"), ConnectionError("and again"))
        backend.lose(ConnectionError("lost"))
        await wait_until(lambda: process.changes == [True, False, True])
        assert backend.calls.count("connect") == 4
        assert backend.subscribed == {"room"}


async def test_a_reader_that_dies_while_resubscribing_begins_anew(backend: Scripted):
    process = Process(backend, **FAST)

    async def lose() -> None:
        backend.lose(ConnectionError("lost again"))
        await turns()

    async with running(process):
        await process.broker.subscribe("room")
        backend.will("subscribe", lose)
        backend.lose(ConnectionError("lost"))
        await wait_until(lambda: process.changes == [True, False, True])
        assert backend.calls.count("connect") == 3


async def test_resubscribing_that_hangs_is_bounded(backend: Scripted):
    process = Process(backend, **SHORT)
    async with running(process):
        await process.broker.subscribe("room")
        backend.will("subscribe", hang)
        backend.lose(ConnectionError("lost"))
        await wait_until(lambda: process.changes == [True, False, True])
        assert backend.calls.count("connect") == 3


async def test_what_is_left_while_resubscribing_is_unsubscribed(backend: Scripted):
    process = Process(backend, **FAST)
    go_on = asyncio.Event()
    async with running(process):
        await process.broker.subscribe("kept")
        await process.broker.subscribe("left")
        backend.will("subscribe", go_on.wait, go_on.wait)
        backend.lose(ConnectionError("lost"))
        await wait_until(
            lambda: backend.calls[-1].startswith("subscribe") and backend.calls.count("connect") == 2
        )
        await process.broker.unsubscribe("left")
        go_on.set()
        await wait_until(lambda: process.broker.up)
        assert backend.subscribed == {"kept"} == process.broker.topics


async def test_a_topic_that_is_left_while_down_stays_left(backend: Scripted):
    process = Process(backend, **FAST)
    async with running(process):
        await process.broker.subscribe("room")
        backend.will("connect", *[ConnectionError("down")] * 3)
        backend.lose(ConnectionError("lost"))
        await wait_until(lambda: not process.broker.up)
        await process.broker.unsubscribe("room")
        await wait_until(lambda: process.broker.up)
        assert backend.subscribed == set()


async def test_a_callback_that_fails_stops_nothing(backend: Scripted, caplog: pytest.LogCaptureFixture):
    def fail(up: bool) -> None:
        raise ValueError("a mistake")

    broker = Broker(backend, lambda publication: None, on_change=fail, backoff=(0.001, 0.002))
    await broker.start()
    assert broker.up
    backend.lose(ConnectionError("lost"))
    await wait_until(lambda: backend.calls.count("connect") == 2 and broker.up)
    await broker.stop()
    assert caplog.text.count("ValueError: a mistake") == 3


async def test_nobody_needs_to_be_told(backend: Scripted):
    broker = Broker(backend, lambda publication: None)
    await broker.start()
    await broker.stop()
    assert backend.calls == ["connect", "disconnect"]


async def test_attempts_are_spread_and_become_rare(backend: Scripted, monkeypatch: pytest.MonkeyPatch):
    pauses: list[tuple[float, float]] = []

    def at_once(least: float, most: float) -> float:
        pauses.append((least, most))
        return 0

    monkeypatch.setattr("random.uniform", at_once)
    backend.will("connect", *[ConnectionError("down")] * 30)
    process = Process(backend, backoff=(5.0, 100.0))
    async with running(process):
        await wait_until(lambda: process.broker.up)
        backend.lose(ConnectionError("lost soon after"))
        await wait_until(lambda: len(pauses) == 31)
    assert [most for _, most in pauses] == [10, 20, 40, 80] + [100] * 27
    assert {least for least, _ in pauses} == {0}


@timeless
async def test_a_session_that_lasted_is_not_held_against_the_next(
    backend: Scripted, monkeypatch: pytest.MonkeyPatch
):
    pauses: list[float] = []

    def at_once(least: float, most: float) -> float:
        pauses.append(most)
        return 0

    monkeypatch.setattr("random.uniform", at_once)
    backend.will("connect", *[ConnectionError("down")] * 5)
    process = Process(backend, backoff=(1.0, 10.0))
    async with running(process):
        await wait_until(lambda: process.broker.up)
        await asyncio.sleep(10.1)  # longer than the longest pause: that is what "lasted" means
        backend.lose(ConnectionError("lost"))
        await wait_until(lambda: len(pauses) == 6)
    assert pauses[-1] == 1.0


async def test_the_log_tells_no_password(backend: Scripted, caplog: pytest.LogCaptureFixture):
    backend.will("connect", ConnectionError("no route to redis://user:s3cr/et@p@host:1/0 today"))
    process = Process(backend, **SHORT)
    backend.will("publish", ValueError("postgres://me:hunter2@db"))
    async with running(process):
        await wait_until(lambda: process.broker.up)
        with pytest.raises(BrokerUnavailable) as caught:
            await process.publish("room", "x")
    assert "redis://host:1/0 today" in caplog.text
    assert "s3cr" not in caplog.text
    assert "hunter2" not in str(caught.value)


# Calls


async def test_calls_wait_for_the_connection(backend: Scripted):
    process = Process(backend, **FAST)
    async with running(process):
        await process.broker.subscribe("old")
        backend.will("connect", *[ConnectionError("down")] * 3)
        backend.lose(ConnectionError("lost"))
        await wait_until(lambda: not process.broker.up)
        await asyncio.gather(process.broker.subscribe("new"), process.publish("old", "x"))
        assert backend.subscribed == {"old", "new"}
        assert await process.receives(1) == ["x"]


async def test_calls_do_not_wait_for_ever(backend: Scripted):
    backend.will("connect", *[OSError("no route")] * 1000)
    process = Process(backend, **SHORT)
    async with asyncio.timeout(30), running(process):
        with pytest.raises(BrokerUnavailable, match="is down: OSError: no route") as caught:
            await process.publish("room", "x")
        assert isinstance(caught.value.__cause__, OSError)
        with pytest.raises(BrokerUnavailable, match="is down: OSError: no route"):
            await process.broker.subscribe("room")
        assert process.broker.topics == set()


async def test_a_server_that_takes_a_connection_and_says_nothing(backend: Scripted):
    """As a plain Redis that is spoken to in TLS."""
    backend.will("connect", *[hang] * 1000)
    process = Process(backend, **SHORT)
    async with asyncio.timeout(30), running(process):
        with pytest.raises(BrokerUnavailable, match=r"no connection within .* TLS"):
            await process.publish("room", "x")


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "2", True, None])
def test_a_deadline_that_is_none(seconds: Any):
    with pytest.raises(ConfigurationError, match="publish_timeout must be more than 0 seconds"):
        Broker(MemoryBackend(), print, publish_timeout=seconds)


async def test_a_call_that_hangs_ends_at_its_deadline(backend: Scripted):
    process = Process(backend, **SHORT)
    async with asyncio.timeout(30), running(process):
        backend.will("publish", hang)
        with pytest.raises(BrokerUnavailable, match="did not answer") as caught:
            await process.publish("room", "x")
        assert isinstance(caught.value.__cause__, TimeoutError)
        backend.will("subscribe", hang)
        with pytest.raises(BrokerUnavailable, match="did not answer"):
            await process.broker.subscribe("room")
        assert process.broker.topics == set()
        assert process.broker.up


async def test_a_silence_that_is_told_has_an_end_that_is_told(
    backend: Scripted, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """Also one that is too short to be an outage; and where the one is not told, the other is not either."""
    clock = [1000.0]
    monkeypatch.setattr("fastapi_channels.wire.log.time", SimpleNamespace(monotonic=lambda: clock[0]))
    process = Process(backend, **SHORT)
    silent, again = "the broker did not answer in time", "the broker answers again after"
    async with asyncio.timeout(30), running(process):
        for clock[0] in (1000.0, 1001.0, 1031.0):
            backend.will("publish", hang, hang)
            for _ in range(2):
                with pytest.raises(BrokerUnavailable, match=silent):
                    await process.publish("room", "x")
            for _ in range(2):
                await process.publish("room", "x")
    told = [line.partition(" 0.")[0] for line in texts(caplog)]
    assert told == [silent, again, f"{silent} (and 3 more before, that were not told of)", again]


async def test_a_silence_that_ends_with_the_connection_is_told_as_an_outage(
    backend: Scripted, caplog: pytest.LogCaptureFixture
):
    process = Process(backend, **SHORT)
    async with asyncio.timeout(30), running(process):
        backend.will("publish", hang)
        with pytest.raises(BrokerUnavailable):
            await process.publish("room", "x")
        process.broker.suspect("it is silent")
        await wait_until(lambda: process.broker.up)
        await process.publish("room", "x")
    begin = [line.partition(",")[0].partition(" after")[0] for line in texts(caplog)]
    assert begin == ["the broker did not answer in time", "the broker is lost", "the broker is back"]


async def test_a_call_that_fails_is_not_repeated(backend: Scripted):
    process = Process(backend, **FAST)
    async with running(process):
        await process.broker.subscribe("room")
        backend.will("publish", ConnectionError("broke in the middle"))
        with pytest.raises(BrokerUnavailable, match="ConnectionError: broke in the middle") as caught:
            await process.publish("room", "x")
        assert str(caught.value.__cause__) == "broke in the middle"
        assert backend.calls.count("publish room") == 1
        backend.will("subscribe", PermissionError("no"))
        with pytest.raises(BrokerUnavailable, match="PermissionError: no"):
            await process.broker.subscribe("secret")
        assert process.broker.topics == {"room"}


async def test_what_was_surely_not_sent_is_sent_again(backend: Scripted):
    process = Process(backend, **FAST)
    async with running(process):
        await process.broker.subscribe("room")
        backend.will("publish", NotSent("gone"), NotSent("gone again"))
        await process.publish("room", "x")
        assert await process.receives(1) == ["x"]
        assert backend.calls.count("connect") == 3
        backend.will("subscribe", NotSent("gone"))
        await process.broker.subscribe("other")
        assert backend.subscribed == {"room", "other"} == process.broker.topics


async def test_a_confirmation_from_a_lost_session_is_not_believed(backend: Scripted):
    process = Process(backend, **FAST)

    async def lose() -> None:
        process.broker.suspect("at the wrong moment")
        await wait_until(lambda: backend.calls.count("connect") == 2)

    async with running(process):
        backend.will("subscribe", lose)
        await process.broker.subscribe("room")
        assert process.broker.up
        await process.publish("room", "x")
        assert await process.receives(1) == ["x"]


async def test_an_unsubscribe_that_fails_is_no_news(backend: Scripted, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    process = Process(backend, **SHORT)
    async with asyncio.timeout(30), running(process):
        await process.broker.subscribe("room")
        backend.will("unsubscribe", KeyError("room"), hang)
        await process.broker.unsubscribe("room")
        await process.publish("room", "unheard")
        await process.broker.subscribe("other")
        await process.broker.unsubscribe("other")
        assert process.broker.topics == set()
    assert process.delivered == []
    assert caplog.text.count("could not be unsubscribed") == 2
    assert texts(caplog) == []


async def test_a_publish_that_is_cancelled(backend: Scripted):
    process = Process(backend)
    async with running(process):
        await process.broker.subscribe("room")
        backend.will("publish", hang)
        publishing = asyncio.create_task(process.publish("room", "given up"))
        await wait_until(lambda: backend.calls[-1] == "publish room")
        publishing.cancel()
        await asyncio.wait((publishing,))
        assert publishing.cancelled()
        await process.publish("room", "next")
        assert await process.receives(1) == ["next"]


@pytest.mark.parametrize(("kind", "most"), [(Scripted, 1), (Attentive, 10)])
async def test_only_a_backend_that_listens_is_called_by_several(kind: type[Scripted], most: int):
    backend = kind()
    running_calls, seen = 0, 0

    async def take_a_while() -> None:
        nonlocal running_calls, seen
        running_calls += 1
        seen = max(seen, running_calls)
        await turns()
        running_calls -= 1

    process = Process(backend, **FAST)
    backend.will("publish", *[take_a_while] * 5)
    backend.will("subscribe", *[take_a_while] * 10)
    async with running(process):
        await asyncio.gather(
            *(process.publish("room", "x") for _ in range(5)),
            *(process.broker.subscribe(str(number)) for number in range(5)),
        )
        assert seen == most
        seen = 0
        backend.lose(ConnectionError("lost"))
        await wait_until(lambda: process.changes == [True, False, True])
        assert seen == min(most, 5)


async def test_topics_come_back_some_at_a_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fastapi_channels.brokers.supervisor.AT_ONCE", 3)
    backend = Attentive()
    process = Process(backend, **FAST)
    now, most = 0, 0

    async def take_a_while() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await turns()
        now -= 1

    async with running(process):
        topics = {str(number) for number in range(10)}
        await asyncio.gather(*map(process.broker.subscribe, topics))
        backend.will("subscribe", *[take_a_while] * 10)
        backend.lose(ConnectionError("lost"))
        await wait_until(lambda: process.changes == [True, False, True])
        assert backend.subscribed == topics
    assert most == 3


async def test_reading_has_ended_when_the_backend_disconnects():
    class Slow(Attentive):
        ended = False

        async def listen(self, receive: Receive) -> None:
            try:
                await super().listen(receive)
            finally:
                await turns()
                self.ended = True

        async def disconnect(self) -> None:
            assert self.ended
            await super().disconnect()

    backend = Slow()
    async with running(Process(backend)):
        pass
    assert backend.calls == ["connect", "disconnect"]


async def test_what_nobody_wants_any_more_is_not_delivered(backend: Scripted):
    process = Process(backend)
    async with running(process):
        await process.broker.subscribe("room")
        backend.will("unsubscribe", KeyError("the server keeps it"))
        await process.broker.unsubscribe("room")
        assert backend.subscribed == {"room"}
        await process.publish("room", "unheard")
        await process.broker.subscribe("other")
        await process.drained("other")
        assert process.bodies == ["the last one"]


async def test_a_message_that_cannot_be_delivered(backend: Scripted, caplog: pytest.LogCaptureFixture):
    class Fragile(Process):
        def deliver(self, publication: Publication) -> None:
            if publication.body == "poison":
                raise ValueError("cannot deliver that")
            super().deliver(publication)

    process = Fragile(backend)
    async with running(process):
        await process.broker.subscribe("room")
        for body in ("poison", "next"):
            await process.publish("room", body)
        assert await process.receives(1) == ["next"]
        assert process.changes == [True]
    assert "a message for 'room' could not be delivered" in caplog.text
    assert "ValueError: cannot deliver that" in caplog.text


async def test_in_memory_nothing_is_packed():
    process = Process(MemoryBackend())
    assert process.broker.local
    async with running(process):
        await process.broker.subscribe("room")
        publication = Publication("room", b"\xff")
        await process.broker.publish(publication)
        assert process.delivered[0] is publication


async def test_publications_survive_the_text_in_between(backend: Scripted):
    process = Process(backend)
    assert not process.broker.local
    sent = Publication("room", b"\xff\x00", frozenset({"a.1"}), "kind")
    async with running(process):
        await process.broker.subscribe("room")
        await process.broker.publish(sent)
        await process.receives(1)
    assert process.delivered == [sent]


# Backends that go on where they were


class Remembering(Attentive):
    """It is told what to go on with."""

    def __init__(self) -> None:
        super().__init__()
        self.resumed: list[set[str]] = []

    def resume(self, topics: AbstractSet[str]) -> None:
        self.resumed.append(set(topics))


@pytest.mark.parametrize(("kind", "resumes"), [(Scripted, False), (Attentive, False), (Remembering, True)])
def test_what_resumes(kind: type[Scripted], resumes: bool):
    assert Process(kind()).broker.resumes is resumes


async def test_only_what_was_wanted_all_the_time_is_resumed():
    backend = Remembering()
    process = Process(backend, **FAST)
    async with running(process):
        for topic in ("kept", "left", "joined again"):
            await process.broker.subscribe(topic)
        backend.will("connect", *[ConnectionError("down")] * 3)
        backend.lose(ConnectionError("lost"))
        await wait_until(lambda: not process.broker.up)
        await process.broker.unsubscribe("left")
        await process.broker.unsubscribe("joined again")
        await process.broker.subscribe("joined again")
        assert backend.resumed == [set(), {"kept"}]
        assert backend.subscribed == {"kept", "joined again"}
    async with running(process):
        assert backend.resumed[2:] == [set()]


@pytest.mark.parametrize("told", [True, False])
async def test_what_was_missed_is_told_in_its_place(told: bool):
    backend, missed = Attentive(), list[tuple[str, int]]()
    gap: Any = MISSED
    process = Process(backend, **FAST)
    if told:
        process.broker._on_missed = lambda topic: missed.append((topic, len(process.delivered)))
    async with running(process):
        await process.broker.subscribe("room")
        await process.publish("room", "before")
        for topic in ("room", "nobody's"):
            backend._messages.put_nowait(Event(topic, gap))
        await process.publish("room", "after")
        assert await process.receives(2) == ["before", "after"]
        assert missed == ([("room", 1)] if told else [])
        assert process.changes == [True]


async def test_a_call_in_an_event_loop_that_ends_does_not_hold_it_up():
    backend = Scripted()
    broker = Broker(backend, lambda publication: None, publish_timeout=0.05)
    await broker.start()
    supervisor = broker._supervisor
    assert supervisor is not None
    supervisor.cancel()  # as `asyncio.run` does with all tasks
    await asyncio.wait({supervisor})
    backend.will("publish", *[NotSent("the connection is closed")] * 100)
    with pytest.raises(BrokerUnavailable):
        await broker.publish(Publication("room", "x"))
    await broker.stop()
