"""A channel layer, beyond what tests/conformance/test_layers.py holds each to."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from fastapi_channels.brokers import MemoryBackend
from fastapi_channels.exceptions import BrokerUnavailable, ConfigurationError
from fastapi_channels.layers import ChannelLayer
from fastapi_channels.layers.groups import Groups
from fastapi_channels.testing.clock import timeless
from fastapi_channels.wire.messages import Publication
from tests.support.live import DEADLINE, wait_until
from tests.support.servers import RedisServer


async def test_a_prefix_with_a_mark_is_refused():
    layer = ChannelLayer()
    with pytest.raises(ConfigurationError, match="a prefix has no '!'"):
        await layer.new_channel("a!b")
    with pytest.raises(ConfigurationError, match="a prefix is a text, got 5"):
        await layer.new_channel(5)  # type: ignore[arg-type]  # that is what is told


async def test_a_backend_may_be_given_in_place_of_a_url():
    layer = ChannelLayer(backend=MemoryBackend())
    await layer.send("a", {"type": "x"})
    assert await layer.receive("a") == {"type": "x"}
    await layer.close()
    with pytest.raises(ConfigurationError, match="give one of url and backend, got both"):
        ChannelLayer("memory://", backend=MemoryBackend())
    with pytest.raises(ConfigurationError, match="backend= takes a broadcaster BroadcastBackend, got 7"):
        ChannelLayer(backend=7)  # type: ignore[arg-type]  # that is what is told


async def test_what_strangers_publish_is_ignored(caplog: pytest.LogCaptureFixture):
    """The broker is shared: nothing that comes from it stops the layer."""
    layer = ChannelLayer()
    channel = await layer.new_channel()
    strange = [("", ()), ("put", ("a",)), ("answer", ("9", "done")), ("group", ()), ("unknown", ("x",))]
    for kind, to in strange:
        layer._receive(Publication("t", "text", kind=kind, to=to))
    layer._receive(Publication("t", "no message", kind="put", to=(channel, layer.id, "9")))
    await layer.send(channel, {"type": "x"})
    assert await layer.receive(channel) == {"type": "x"}
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warned) == 1
    assert warned[0].startswith(f"a message in {channel!r} is ignored")
    await layer.close()


async def test_a_channel_that_is_forgotten_is_in_no_group():
    layer = ChannelLayer()
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    await layer.send(channel, {"type": "x"})
    await layer.forget(channel)
    await layer.group_send("g", {"type": "x"})
    assert channel not in layer._queues
    assert layer._broker.topics == {layer._topic(layer.id), layer._everybody}
    await layer.close()


async def test_who_comes_into_a_group_that_is_being_left_is_in_it(shared_redis: RedisServer):
    """One by one it takes a while to leave many."""
    layer = ChannelLayer(shared_redis.url)
    old, new = [await layer.new_channel() for _ in "12"]
    groups = [f"g{number}" for number in range(200)]
    for group in groups:
        await layer.group_add(group, old)
    leaving = asyncio.create_task(layer.forget(old))
    await wait_until(lambda: not layer._groups.names)
    await asyncio.gather(*(layer.group_add(group, new) for group in groups))
    await leaving
    for group in groups:
        await layer.group_send(group, {"type": group})
        async with asyncio.timeout(DEADLINE):
            assert await layer.receive(new) == {"type": group}
    await layer.close()


async def test_a_group_whose_channels_have_expired_is_left():
    layer, now = ChannelLayer(group_expiry=10.0), [100.0]
    layer._groups = Groups(10.0, lambda: now[0])
    channel = await layer.new_channel()
    own = {layer._topic(layer.id), layer._everybody}
    for group in "ghi":
        await layer.group_add(group, channel)
    now[0] += 10
    await layer.group_send("g", {"type": "x"})
    await wait_until(lambda: layer._broker.topics == own)
    await layer.group_add("g", channel)
    now[0] += 10
    layer._vacate(layer._groups.sweep())
    await layer.group_add("g", channel)
    await layer.group_send("g", {"type": "x"})
    assert await layer.receive(channel) == {"type": "x"}
    assert layer._broker.topics == {*own, layer._group("g")}, "it has come back before its topic was left"
    await layer.close()


@pytest.mark.filterwarnings("error")
def test_methods_are_coroutine_functions():
    """For what is none, this warns."""
    async_to_sync(ChannelLayer().group_send)


async def test_a_call_from_another_thread_runs_in_the_loop_of_the_layer():
    layer = ChannelLayer()
    channel = await layer.new_channel()
    await asyncio.to_thread(lambda: asyncio.run(layer.send(channel, {"type": "x"})))
    assert await layer.receive(channel) == {"type": "x"}
    await layer.close()


@timeless
async def test_an_answer_is_waited_for_as_long_as_was_asked():
    layer = ChannelLayer(timeout=7.0)
    own = await layer.new_channel()
    began = asyncio.get_running_loop().time()
    await layer.group_add("g", own.replace(layer.id, "0" * 12))  # of a process that has gone
    assert asyncio.get_running_loop().time() - began == pytest.approx(7.0, abs=0.1)
    await layer.close()


async def test_a_broker_that_is_away_is_said_and_comes_back(mortal_redis: RedisServer):
    layer = ChannelLayer(mortal_redis.url, timeout=1.0)
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    mortal_redis.kill()
    with pytest.raises(BrokerUnavailable):
        await layer.group_send("g", {"type": "lost"})
    mortal_redis.restart()
    async with asyncio.timeout(30):
        while True:
            try:
                await layer.group_send("g", {"type": "back"})
            except BrokerUnavailable:
                continue
            break
        assert await layer.receive(channel) == {"type": "back"}
    await layer.close()


def each(calls: list[Callable[[], Any]]) -> list[Any]:
    """What comes of calls that threads make at the same time."""
    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(lambda call: call(), calls))


@pytest.mark.parametrize("sync", [async_to_sync, lambda call: lambda *args: asyncio.run(call(*args))])
def test_any_number_of_threads_call_at_once_and_no_loop_of_theirs_ends_under_another(
    shared_redis: RedisServer, sync: Callable[..., Any]
):
    layer = ChannelLayer(shared_redis.url, namespace="threads:")
    channel = sync(layer.new_channel)()
    sync(layer.group_add)("g", channel)
    for round in range(5):
        each([partial(sync(layer.group_send), "g", {"type": "x", "n": 8 * round + n}) for n in range(8)])
    got = each([partial(sync(layer.receive), channel)] * 8 * 5)
    assert sorted(message["n"] for message in got) == list(range(8 * 5))
    sync(layer.close)()


def test_a_loop_that_ends_under_the_call_of_another_thread_has_the_next_one_do_it():
    layer, began = ChannelLayer(), threading.Event()
    channel = "nobodys"

    async def main() -> None:
        await layer.send("other", {"type": "x"})
        began.set()
        while not layer._queues.wanted:
            await asyncio.sleep(0)

    with ThreadPoolExecutor(1) as threads:
        received = threads.submit(lambda: began.wait(DEADLINE) and asyncio.run(layer.receive(channel)))
        asyncio.run(main())
        asyncio.run(layer.send(channel, {"type": "still"}))
        assert received.result(DEADLINE) == {"type": "still"}
    asyncio.run(layer.close())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only POSIX forks")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_the_child_of_a_fork_calls_in_a_loop_of_its_own(shared_redis: RedisServer):
    layer = ChannelLayer(shared_redis.url, namespace="threads:")

    def say(n: int) -> None:
        each([lambda: asyncio.run(layer.group_send("g", {"type": "x", "n": n}))])

    listener = ChannelLayer(shared_redis.url, namespace="threads:")
    channel = each([lambda: asyncio.run(listener.new_channel())])[0]
    each([lambda: asyncio.run(listener.group_add("g", channel))])
    say(1)
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            say(2)
        os._exit(0)
    os.waitpid(child, 0)
    say(3)
    got = [each([lambda: asyncio.run(listener.receive(channel))])[0]["n"] for _ in range(3)]
    assert got == [1, 2, 3]
    each([lambda: asyncio.run(listener.close()), lambda: asyncio.run(layer.close())])
