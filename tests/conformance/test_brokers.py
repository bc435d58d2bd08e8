"""What every backend does for the broker that drives it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from broadcaster import Broadcast, BroadcastBackend
from fastapi import FastAPI

from fastapi_channels import Channel, add_channel, topics_router
from fastapi_channels.brokers import MemoryBackend, adopt, create_backend
from fastapi_channels.brokers.link import MAX_MESSAGE
from fastapi_channels.exceptions import BrokerUnavailable
from fastapi_channels.testing import running as site
from fastapi_channels.wire.messages import Body, Publication
from fastapi_channels.wire.packing import MARK
from tests.support.brokers import PATIENT, Process, other_tasks, running
from tests.support.live import DEADLINE
from tests.support.servers import RedisServer

Make = Callable[[], BroadcastBackend]


def memory(_: pytest.FixtureRequest) -> Make:
    return MemoryBackend


def stock_memory(_: pytest.FixtureRequest) -> Make:
    return lambda: adopt(Broadcast("memory://"))


def redis(request: pytest.FixtureRequest) -> Make:
    url = request.getfixturevalue("shared_redis").url
    return lambda: create_backend(url)


def redis_of_a_client(request: pytest.FixtureRequest) -> Make:
    """A client that decodes, speaks RESP3, and is impatient."""
    url = request.getfixturevalue("shared_redis").url
    return lambda: _of_a_client(url)


def redis_in_python(request: pytest.FixtureRequest) -> Make:
    """The same, with the parser that is used where hiredis is not installed."""
    from redis._parsers import _AsyncRESP3Parser

    url = request.getfixturevalue("shared_redis").url
    return lambda: _of_a_client(url, parser_class=_AsyncRESP3Parser)


def _of_a_client(url: str, **options: Any) -> BroadcastBackend:
    from redis.asyncio import Redis

    from fastapi_channels.brokers.redis import RedisBackend

    common: dict[str, Any] = {"protocol": 3, "decode_responses": True, "socket_timeout": 0.01}
    return RedisBackend(client=Redis.from_url(url, health_check_interval=1, **common, **options))


def redis_socket(request: pytest.FixtureRequest) -> Make:
    path = request.getfixturevalue("shared_redis").socket_path
    return lambda: create_backend(f"unix://{path}?db=3")


def adopted_redis(request: pytest.FixtureRequest) -> Make:
    url = request.getfixturevalue("shared_redis").url
    return lambda: adopt(Broadcast(url))


def redis_sentinel(request: pytest.FixtureRequest) -> Make:
    url = request.getfixturevalue("shared_failover").url
    return lambda: create_backend(url)


def redis_cluster(request: pytest.FixtureRequest) -> Make:
    url = request.getfixturevalue("shared_cluster").url
    return lambda: create_backend(url)


def redis_stream(request: pytest.FixtureRequest) -> Make:
    server = request.getfixturevalue("shared_redis")
    server.ask("FLUSHALL")
    return lambda: create_backend(server.url.replace("redis://", "redis-stream://"))


ONE_REDIS = (redis, redis_of_a_client, redis_in_python, redis_socket, adopted_redis)


def postgres(request: pytest.FixtureRequest) -> Make:
    url = request.getfixturevalue("shared_postgres").url
    return lambda: create_backend(url)


def adopted_postgres(request: pytest.FixtureRequest) -> Make:
    url = request.getfixturevalue("shared_postgres").url
    return lambda: adopt(Broadcast(url))


def nats(request: pytest.FixtureRequest) -> Make:
    url = request.getfixturevalue("shared_nats").url
    return lambda: create_backend(url)


def rabbitmq(request: pytest.FixtureRequest) -> Make:
    url = request.getfixturevalue("shared_rabbit").url
    return lambda: create_backend(url)


TOTAL = (*ONE_REDIS, redis_sentinel, redis_cluster, redis_stream, postgres, adopted_postgres)
"""Whose server has one order of all messages, that every process sees."""
SERVERS = (*TOTAL, nats, rabbitmq)
BACKENDS = (memory, stock_memory, *SERVERS)


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.__name__)
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param(request)
    return made


@pytest.fixture(params=SERVERS, ids=lambda backend: backend.__name__)
def make_shared(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param(request)
    return made


@pytest.fixture(params=TOTAL, ids=lambda backend: backend.__name__)
def make_total(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param(request)
    return made


@pytest.fixture(params=ONE_REDIS, ids=lambda backend: backend.__name__)
def make_on_one(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param(request)
    return made


@pytest.fixture
async def process(make: Make) -> AsyncIterator[Process]:
    process = Process(make(), **PATIENT)
    async with running(process):
        yield process


@pytest.fixture(autouse=True)
def nothing_fails(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No backend loses its connection, and no message is undeliverable, unless a test says so."""
    yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= 30] == []


async def test_start_and_stop_leave_nothing(make: Make):
    process = Process(make(), **PATIENT)
    await process.broker.start()
    assert process.broker.up
    await process.broker.subscribe("room")
    await process.broker.stop()
    assert not process.broker.up
    assert process.broker.topics == set()
    assert other_tasks() == set()


async def test_start_again(make: Make):
    process = Process(make(), **PATIENT)
    async with running(process):
        await process.broker.subscribe("room")
    async with running(process):
        assert process.broker.topics == set()
        await process.broker.subscribe("room")
        await process.publish("room", "again")
        assert await process.receives(1) == ["again"]


async def test_delivers_in_order(process: Process):
    await process.broker.subscribe("room")
    sent = [str(number) for number in range(200)]
    for body in sent:
        await process.publish("room", body)
    assert await process.receives(200) == sent


async def test_keeps_the_order_of_each_task(process: Process):
    await process.broker.subscribe("room")

    async def publish(name: str) -> None:
        for number in range(50):
            await process.publish("room", f"{name}{number}")

    await asyncio.gather(*(publish(name) for name in "abcdefgh"))
    bodies = await process.receives(400)
    for name in "abcdefgh":
        assert [body for body in bodies if str(body)[0] == name] == [
            f"{name}{number}" for number in range(50)
        ]


async def test_the_first_own_message_arrives(process: Process):
    for number in range(200):
        topic = f"room {number}"
        await process.broker.subscribe(topic)
        await process.publish(topic, topic)
    assert await process.receives(200) == [f"room {number}" for number in range(200)]


async def test_many_topics(process: Process):
    topics = [f"room {number}" for number in range(1000)]
    await asyncio.gather(*(process.broker.subscribe(topic) for topic in topics))
    assert process.broker.topics == set(topics)
    await asyncio.gather(*(process.publish(topic, topic) for topic in topics))
    await process.receives(1000)
    assert sorted((publication.topic, publication.body) for publication in process.delivered) == sorted(
        (topic, topic) for topic in topics
    )


ODD_TOPICS = (
    "房间 №1 🚀",
    'it\'s a "room"; DROP TABLE rooms; --',
    "*",
    "room?",
    "[abc]",
    "{room}",
    "a:b/c\\d%20",
    " ",
    "line\r\nbreak",
    "\x00",
    "r" * 255,
    "🚀" * 255,
)


async def test_odd_topics_are_only_names(process: Process):
    for topic in ODD_TOPICS:
        await process.broker.subscribe(topic)
        for other in ("a", "room1", "b:c", *ODD_TOPICS):
            await process.publish(other, other)
        await process.drained(topic)
        assert process.bodies == [topic, "the last one"]
        assert {publication.topic for publication in process.delivered} == {topic}
        await process.broker.unsubscribe(topic)
        process.delivered.clear()


BODIES: tuple[Body, ...] = (
    "",
    "text",
    "\x00\r\n",
    "你好 🚀",
    b"",
    b"\xff\xfe\x00",
    b"bytes that are text",
    bytes(range(256)) * 4096,
    "1 MB " * 200_000,
    MARK,
    f'{MARK}{{"kind":"forged"}}\nbody',
    f"{MARK}not a header",
)


async def test_bodies_arrive_as_they_are(process: Process):
    await process.broker.subscribe("room")
    for body in BODIES:
        await process.publish("room", body)
        assert await process.receives(1) == [body]
        process.delivered.clear()


@pytest.mark.parametrize("body", [f"{MARK}text", b"\xff"])
async def test_the_header_arrives(process: Process, body: Body):
    await process.broker.subscribe("room")
    sent = Publication("room", body, frozenset({"a.1", "b.2"}), "kind")
    await process.broker.publish(sent)
    await process.receives(1)
    assert process.delivered == [sent]


async def test_concurrent_first_subscribers(process: Process):
    await asyncio.gather(*(process.broker.subscribe("room") for _ in range(50)))
    await process.publish("room", "once")
    await process.drained("room")
    assert process.bodies == ["once", "the last one"]


async def test_unsubscribing_stops_delivery(process: Process):
    await process.broker.subscribe("room")
    await process.broker.subscribe("other")
    await process.broker.unsubscribe("room")
    await process.publish("room", "unheard")
    await process.drained("other")
    assert process.bodies == ["the last one"]
    await process.broker.subscribe("room")
    await process.publish("room", "heard")
    assert await process.receives(2) == ["the last one", "heard"]


async def test_unsubscribing_what_is_not_subscribed(process: Process):
    await process.broker.unsubscribe("room")
    await process.broker.subscribe("room")
    await asyncio.gather(*(process.broker.unsubscribe("room") for _ in range(3)))
    await process.broker.unsubscribe("room")
    assert process.broker.topics == set()


async def test_joins_and_leaves_at_random(process: Process):
    """Whatever callers do at the same time, and cancel, the last word of each topic counts."""
    for seed in range(5):
        await join_and_leave(process, seed)


async def join_and_leave(process: Process, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    topics = [f"{seed} {name}" for name in "abc"]

    async def wander() -> None:
        for _ in range(20):
            topic = chance.choice(topics)
            change = process.broker.subscribe if chance.random() < 0.5 else process.broker.unsubscribe
            with suppress(TimeoutError):
                await asyncio.wait_for(change(topic), chance.choice([0.0002, None]))
            await asyncio.sleep(chance.choice([0, 0.001]))

    await asyncio.gather(*(wander() for _ in range(8)))
    wanted = chance.sample(topics, seed % 3 + 1)
    for topic in topics:
        await process.broker.unsubscribe(topic)
    for topic in wanted:
        await process.broker.subscribe(topic)
    process.delivered.clear()
    for topic in topics:
        await process.publish(topic, topic)
    await process.drained(wanted[0])
    assert sorted(process.bodies[:-1]) == sorted(wanted), seed


class Fragile(Process):
    def deliver(self, publication: Publication) -> None:
        if publication.body == "poison":
            raise ValueError("cannot deliver that")
        super().deliver(publication)


async def test_a_message_that_cannot_be_delivered(make: Make, caplog: pytest.LogCaptureFixture):
    process = Fragile(make(), **PATIENT)
    async with running(process):
        await process.broker.subscribe("room")
        for body in ("before", "poison", "after"):
            await process.publish("room", body)
        assert await process.receives(2) == ["before", "after"]
        assert process.broker.up
    assert "could not be delivered" in caplog.text
    assert "cannot deliver that" in caplog.text
    caplog.clear()


async def test_restarts_when_it_is_suspected(process: Process, caplog: pytest.LogCaptureFixture):
    await process.broker.subscribe("room")
    process.broker.suspect("a test says so")
    assert not process.broker.up
    await process.publish("room", "later")
    assert await process.receives(1) == ["later"]
    assert process.changes == [True, False, True]
    assert "a test says so" in caplog.text
    caplog.clear()


# Several processes at one server


async def test_two_processes(make_shared: Make):
    one, two = Process(make_shared(), **PATIENT), Process(make_shared(), **PATIENT)
    async with running(one, two):
        await one.broker.subscribe("room")
        await two.broker.subscribe("room")
        await two.broker.subscribe("elsewhere")
        await one.publish("room", "from one")
        await two.receives(1)
        await two.publish("room", "from two")
        await one.publish("elsewhere", "from one to two")
        assert await two.receives(3) == ["from one", "from two", "from one to two"]
        assert await one.receives(2) == ["from one", "from two"]


class Prices(Channel):
    topics = True
    routers = (topics_router,)


async def test_filters_in_another_process_are_reached(make_shared: Make):
    """Topics want nothing of a server but that it carries one topic, whatever the filters are."""
    here, there, apps = Prices(), Prices(), [FastAPI(), FastAPI()]
    for app, channel in zip(apps, (here, there), strict=True):
        add_channel(app, backend=make_shared(), publish_timeout=DEADLINE)
        channel.mount(app, "/prices")
        channel.bind(app)
    async with site(apps[0]), site(apps[1], within=DEADLINE) as other:
        client = await other.client("/prices")
        for filter in ("price/+/last", "price/acme/#", "$SYS/+"):
            await client.call("subscribe", filter=filter)
        topics = ["price/acme/last", "price/acme", "price/b/last", "price/b/first", "news", "$SYS/load"]
        for topic in [*topics, "$SYS/end"]:
            await here.broadcast(topic, "said", topic)
        await client.expect_frame(lambda frame: frame.get("channel") == "$SYS/end")
        heard = [frame["data"] for frame in client.received if frame.get("event") == "said"]
        assert heard == ["price/acme/last", "price/acme", "price/b/last", "$SYS/load", "$SYS/end"]


async def test_every_process_sees_the_same_order(make_total: Make):
    processes = [Process(make_total(), **PATIENT) for _ in range(3)]
    async with running(*processes):
        for process in processes:
            await process.broker.subscribe("room")
        await asyncio.gather(
            *(
                process.publish("room", f"{index}.{number}")
                for number in range(100)
                for index, process in enumerate(processes)
            )
        )
        first, *others = [await process.receives(300) for process in processes]
        assert all(bodies == first for bodies in others)


async def test_every_process_sees_the_order_of_each(make_shared: Make):
    processes = [Process(make_shared(), **PATIENT) for _ in range(3)]
    async with running(*processes):
        for process in processes:
            await process.broker.subscribe("room")
        await asyncio.gather(
            *(
                process.publish("room", f"{index}.{number}")
                for number in range(100)
                for index, process in enumerate(processes)
            )
        )
        for process in processes:
            bodies = [str(body).split(".") for body in await process.receives(300)]
            for index in "012":
                assert [n for i, n in bodies if i == index] == [str(number) for number in range(100)]


async def test_the_same_text_many_times_at_once(make_shared: Make):
    """PostgreSQL, left alone, makes one of what is equal within a transaction."""
    process = Process(make_shared(), **PATIENT)
    async with running(process):
        await process.broker.subscribe("room")
        await asyncio.gather(*(process.publish("room", "same") for _ in range(50)))
        await process.drained("room")
        assert process.bodies == ["same"] * 50 + ["the last one"]


async def test_large_and_small_keep_their_order(make_shared: Make):
    """Larger than some servers take in one piece; from several processes at once."""
    one, two = Process(make_shared(), **PATIENT), Process(make_shared(), **PATIENT)
    bodies = [f"{number} {'x' * size}" for number, size in enumerate((10, 8000, 3_000_000, 10, 1 << 20, 10))]
    async with running(one, two):
        await one.broker.subscribe("room")
        await two.broker.subscribe("room")
        await asyncio.gather(
            *(
                process.publish("room", f"{name} {body}")
                for body in bodies
                for name, process in (("1", one), ("2", two))
            )
        )
        for process in (one, two):
            received = [str(body).split(" ", 1) for body in await process.receives(2 * len(bodies))]
            for name in "12":
                assert [body for sender, body in received if sender == name] == bodies


async def test_the_largest_message(make_shared: Make):
    process = Process(make_shared(), **PATIENT)
    async with running(process):
        await process.broker.subscribe("room")
        await process.publish("room", "x" * MAX_MESSAGE)
        assert await process.receives(1) == ["x" * MAX_MESSAGE]


@pytest.mark.parametrize("backend", [postgres, nats, rabbitmq], ids=lambda backend: backend.__name__)
async def test_what_is_too_large_is_refused(request: pytest.FixtureRequest, backend: Any):
    process = Process(backend(request)(), **PATIENT)
    async with running(process):
        await process.broker.subscribe("room")
        with pytest.raises(BrokerUnavailable, match="at most 16777216 can be published"):
            await process.publish("room", "x" * (MAX_MESSAGE + 1))
        await process.drained("room")
        assert process.changes == [True]


async def test_a_plain_broadcast(make_shared: Make):
    async with (
        asyncio.timeout(30),
        Broadcast(backend=make_shared()) as broadcast,
        broadcast.subscribe("room") as subscriber,
    ):
        for message in ("text", b"\xff\xfe", "\0" * 10_000):
            await broadcast.publish("room", message)
            assert (await subscriber.get()).message == message
    assert other_tasks() == set()


async def test_a_stranger_publishes(make_on_one: Make, shared_redis: RedisServer):
    process = Process(make_on_one(), **PATIENT)
    async with running(process):
        await process.broker.subscribe("room")
        shared_redis.ask("PUBLISH", "room", "from outside")
        assert await process.receives(1) == ["from outside"]


async def test_stop_leaves_no_connection(make_on_one: Make, shared_redis: RedisServer):
    process = Process(make_on_one(), **PATIENT)
    async with running(process):
        await process.broker.subscribe("room")
        await process.publish("room", "x")
        assert shared_redis.clients("pubsub") == 1
        assert shared_redis.clients("normal") == 1
        assert shared_redis.channels() == {"room"}
    await asyncio.sleep(0)
    assert (shared_redis.clients("pubsub"), shared_redis.clients("normal")) == (0, 0)


async def test_the_server_holds_what_is_wanted(make_on_one: Make, shared_redis: RedisServer):
    process = Process(make_on_one(), **PATIENT)
    async with running(process):
        await asyncio.gather(*(process.broker.subscribe(topic) for topic in ODD_TOPICS[:4]))
        await process.broker.unsubscribe(ODD_TOPICS[0])
        assert shared_redis.channels() == set(ODD_TOPICS[1:4])
