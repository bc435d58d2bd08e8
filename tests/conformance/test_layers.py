"""What every channel layer does, on every broker; among it what the tests of Django Channels say.

Their tests of the layer in memory, and channels_redis' of its core layer, are here in words of this project:
the names are theirs. docs/migration/django-channels.md says which of them cannot hold here, and why.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from broadcaster import BroadcastBackend

from fastapi_channels.exceptions import (
    BrokerUnavailable,
    ChannelFull,
    ConfigurationError,
    MessageTooLarge,
    ParseError,
)
from fastapi_channels.layers import ChannelLayer
from tests.conformance.test_brokers import BACKENDS, SERVERS
from tests.support.live import DEADLINE, wait_until

SOON = 0.05
"""Seconds in which nothing comes."""

Make = Callable[..., ChannelLayer]


async def making(backend: Callable[[], BroadcastBackend]) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        def make(**settings: Any) -> ChannelLayer:
            options: dict[str, Any] = {"capacity": 3, "timeout": DEADLINE, **settings}
            layer = ChannelLayer(backend=backend(), **options)
            stack.push_async_callback(layer.close)
            return layer

        yield make


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.__name__)
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    async for made in making(request.param(request)):
        yield made


@pytest.fixture
def layer(make: Make) -> ChannelLayer:
    return make()


@pytest.fixture(params=SERVERS, ids=lambda backend: backend.__name__)
async def make_shared(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    async for made in making(request.param(request)):
        yield made


class Clock:
    """In place of a layer's own."""

    def __init__(self, layer: ChannelLayer) -> None:
        self.now = 0.0
        layer._queues._clock = layer._groups._clock = lambda: self.now


async def nothing(layer: ChannelLayer, channel: str) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SOON):
            await layer.receive(channel)


async def types(layer: ChannelLayer, channel: str, count: int) -> list[str]:
    async with asyncio.timeout(30):
        return [(await layer.receive(channel))["type"] for _ in range(count)]


# Those of Django Channels and of channels_redis


async def test_send_receive(layer: ChannelLayer):
    for _ in range(2):
        await layer.send("test-channel-1", {"type": "test.message", "text": "Ahoy-hoy!"})
    for _ in range(2):
        assert await layer.receive("test-channel-1") == {"type": "test.message", "text": "Ahoy-hoy!"}
    assert "test-channel-1" not in layer._queues


def test_double_receive(make: Make):
    """From two event loops, one after the other."""
    layer = make()
    one, two = (asyncio.run(layer.new_channel()) for _ in range(2))
    asyncio.run(layer.send(one, {"type": "test.message.1"}))
    asyncio.run(layer.send(two, {"type": "test.message.2"}))
    assert asyncio.run(layer.receive(two))["type"] == "test.message.2"
    assert asyncio.run(layer.receive(one))["type"] == "test.message.1"
    asyncio.run(layer.close())


def test_a_group_from_one_event_loop_to_the_next(make: Make):
    """As a script that calls `asyncio.run` for each."""
    layer = make()
    channel = asyncio.run(layer.new_channel())
    asyncio.run(layer.group_add("test-group", channel))
    asyncio.run(layer.group_send("test-group", {"type": "test.message"}))
    assert asyncio.run(layer.receive(channel)) == {"type": "test.message"}
    asyncio.run(layer.close())


async def test_send_capacity(layer: ChannelLayer):
    for _ in range(3):
        await layer.send("test-channel-1", {"type": "test.message"})
    with pytest.raises(ChannelFull, match="'test-channel-1' is full: it takes 3 messages, of 8388608 bytes"):
        await layer.send("test-channel-1", {"type": "test.message"})


async def test_send_specific_capacity(make: Make):
    layer = make(channel_capacity={re.compile("on."): 1, "one": 2})
    await layer.send("one", {"type": "test.message"})
    with pytest.raises(ChannelFull):
        await layer.send("one", {"type": "test.message"})


async def test_a_message_that_is_too_large(make: Make):
    layer = make(max_message_size=1000)
    just, over = ({"type": "x", "text": "é" * 489}, {"type": "x", "text": "é" * 490})
    for send in (layer.send, layer.group_send):
        await send("test-channel-1", just)
        with pytest.raises(MessageTooLarge, match="A message may have 1000 bytes"):
            await send("test-channel-1", over)


async def test_process_local_send_receive(layer: ChannelLayer):
    channel = await layer.new_channel()
    await layer.send(channel, {"type": "test.message", "text": "Local only please"})
    assert (await layer.receive(channel))["text"] == "Local only please"


async def test_multi_send_receive(layer: ChannelLayer):
    for number in "123":
        await layer.send("test-channel-3", {"type": f"message.{number}"})
    assert await types(layer, "test-channel-3", 3) == ["message.1", "message.2", "message.3"]


@pytest.mark.parametrize("name", ["", "a\x00b", "a\nb", "x" * 10_000])
async def test_reject_bad_channel(layer: ChannelLayer, name: str):
    """A TypeError there, for all but letters, digits and `-_.`; the names here are those of rooms."""
    for refused in (
        layer.send(name, {"type": "foom"}),
        layer.receive(name),
        layer.group_add(name, "a"),
        layer.group_add("a", name),
        layer.group_discard(name, "a"),
        layer.group_send(name, {"type": "foom"}),
    ):
        with pytest.raises(ParseError):
            await refused


async def test_reject_bad_client_prefix(layer: ChannelLayer):
    """An AssertionError there."""
    with pytest.raises(ConfigurationError, match="a channel of another process"):
        await layer.receive("not-client-prefix!local_part")


async def test_groups_basic(layer: ChannelLayer):
    one, two, three = [await layer.new_channel(prefix=f"test-gr-chan-{number}") for number in "123"]
    for channel in (one, two, three, "test-gr-chan-4"):
        await layer.group_add("test-group", channel)
    await layer.group_discard("test-group", two)
    await layer.group_send("test-group", {"type": "message.1"})
    for channel in (one, three, "test-gr-chan-4"):
        assert await types(layer, channel, 1) == ["message.1"]
    await nothing(layer, two)


async def test_groups_same_prefix(layer: ChannelLayer):
    channels = [await layer.new_channel(prefix="test-gr-chan") for _ in range(3)]
    for channel in channels:
        await layer.group_add("test-group", channel)
    await layer.group_send("test-group", {"type": "message.1"})
    for channel in channels:
        assert await types(layer, channel, 1) == ["message.1"]


async def test_groups_channel_full_and_group_send_capacity_multiple_channels(
    layer: ChannelLayer, caplog: pytest.LogCaptureFixture
):
    """Who is full misses it; nobody else does, and the sender is not told."""
    one, two = [await layer.new_channel() for _ in range(2)]
    for channel in (one, two):
        await layer.group_add("test-group", channel)
    await layer.send(two, {"type": "message.0"})
    for number in "123":
        await layer.group_send("test-group", {"type": f"message.{number}"})
    assert await types(layer, one, 3) == ["message.1", "message.2", "message.3"]
    assert await types(layer, two, 3) == ["message.0", "message.1", "message.2"]
    await nothing(layer, two)
    [said] = [record for record in caplog.records if record.name == "fastapi_channels"]
    assert said.levelno == logging.WARNING
    assert said.getMessage() == (
        "a message to the group 'test-group' was dropped for 1 of 2 channels, which are full"
    )


def test_repeated_group_send_with_async_to_sync(make: Make):
    layer = make()

    async def send(group: str) -> None:
        await layer.group_send(group, {"type": "test.message"})
        await layer.close()

    for number in "12":
        asyncio.run(send(f"channel_name_{number}"))


async def test_who_waits_learns_that_the_layer_was_closed(layer: ChannelLayer):
    channels = [await layer.new_channel(), await layer.new_channel(), "test-channel-1"]
    waiting = [asyncio.create_task(layer.receive(channel)) for channel in channels]
    await wait_until(lambda: len(layer._queues.wanted) == len(waiting))
    await layer.close()
    for task in waiting:
        with pytest.raises(BrokerUnavailable, match="the channel layer was closed"):
            async with asyncio.timeout(30):
                await task


async def test_receive_cancel(layer: ChannelLayer):
    """One after the other, at each step of a receive: nothing hangs, and nothing is lost."""
    channel = await layer.new_channel()
    got = 0
    for steps in range(20):
        await layer.send(channel, {"type": "test.message"})
        task = asyncio.create_task(layer.receive(channel))
        for _ in range(steps % 5):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
            got += 1
        while channel in layer._queues:
            await layer.receive(channel)
            got += 1
    assert got == 20


async def test_random_reset(make: Make):
    layer = make()
    random.seed(1)
    one = await layer.new_channel()
    random.seed(1)
    assert one != await layer.new_channel()
    random.seed(1)
    assert make().id != layer.id


async def test_message_expiry__earliest_message_expires(layer: ChannelLayer):
    clock = Clock(layer)
    channel = await layer.new_channel()
    await layer.group_add("test-group", channel)
    await layer.send(channel, {"type": "first"})
    clock.now = 40.0
    await layer.group_send("test-group", {"type": "second"})
    clock.now = 80.0
    await layer.group_send("test-group", {"type": "third"})
    assert await types(layer, channel, 2) == ["second", "third"]
    await nothing(layer, channel)


async def test_message_expiry__all_messages_under_expiration_time(layer: ChannelLayer):
    clock = Clock(layer)
    channel = await layer.new_channel()
    for at in (0.0, 20.0, 40.0):
        clock.now = at
        await layer.send(channel, {"type": f"at {at:g}"})
    assert await types(layer, channel, 3) == ["at 0", "at 20", "at 40"]


async def test_message_expiry__group_send__one_channel_expires_message(layer: ChannelLayer):
    clock = Clock(layer)
    one, two = [await layer.new_channel() for _ in range(2)]
    for channel in (one, two):
        await layer.group_add("test-group", channel)
    await layer.send(one, {"type": "zero"})
    for at, name in ((40.0, "first"), (60.0, "second"), (70.0, "third")):
        clock.now = at
        await layer.group_send("test-group", {"type": name})
    for channel in (one, two):
        assert await types(layer, channel, 3) == ["first", "second", "third"]


async def test_expiry_single(layer: ChannelLayer):
    clock = Clock(layer)
    await layer.send("test-channel-1", {"type": "message.1"})
    clock.now = 61.0
    await nothing(layer, "test-channel-1")
    assert len(layer._queues) == 0


async def test_expiry_multi(layer: ChannelLayer):
    clock = Clock(layer)
    for number in "123":
        await layer.send("test-channel-1", {"type": f"message.{number}"})
    assert await types(layer, "test-channel-1", 1) == ["message.1"]
    clock.now = 61.0
    await layer.send("test-channel-1", {"type": "message.4"})
    assert await types(layer, "test-channel-1", 1) == ["message.4"]
    await nothing(layer, "test-channel-1")
    assert len(layer._queues) == 0


async def test_expiry_unread(layer: ChannelLayer):
    clock = Clock(layer)
    await layer.send("test-channel-1", {"type": "message.1"})
    clock.now = 61.0
    await layer.send("test-channel-2", {"type": "message.2"})
    assert len(layer._queues) == 1


# Over processes


async def test_a_channel_is_reached_from_another_process(make_shared: Make):
    here, there = make_shared(), make_shared()
    channel = await here.new_channel()
    for number in "123":
        await there.send(channel, {"type": number, "body": b"\x00"})
    with pytest.raises(ChannelFull):
        await there.send(channel, {"type": "4"})
    assert await here.receive(channel) == {"type": "1", "body": b"\x00"}
    await there.send(channel, {"type": "5"})
    assert await types(here, channel, 3) == ["2", "3", "5"]


async def test_a_channel_is_full_of_bytes_whoever_sends(make_shared: Make, caplog: pytest.LogCaptureFixture):
    """What waits for a reader that does not come is bounded."""
    settings: dict[str, Any] = {"capacity": 100, "max_message_size": 2_000_000, "capacity_bytes": 5_000_000}
    here, there = make_shared(**settings), make_shared(**settings)
    channel, large = await here.new_channel(), {"type": "x", "text": "x" * 1_900_000}
    await here.group_add("large", channel)
    for sender in (there, here):
        await sender.send(channel, large)
    for sender, said in ((there, "its process takes no more"), (here, "of 5000000 bytes together")):
        with pytest.raises(ChannelFull, match=said):
            await sender.send(channel, large)
        await sender.group_send("large", large)
    await wait_until(lambda: here._dropped._more == 1)
    assert caplog.text.count("to the group 'large' was dropped for 1 of 1 channels") == 1
    await there.send(channel, {"type": "small"})
    assert await types(here, channel, 3) == ["x", "x", "small"]
    await nothing(here, channel)
    await there.group_send("large", large)
    assert await types(here, channel, 1) == ["x"]


async def test_a_group_is_over_all_processes(make_shared: Make):
    """A channel is put in, and taken out, by any of them."""
    one, two, script = make_shared(), make_shared(), make_shared()
    a, b = await one.new_channel(), await two.new_channel()
    await one.group_add("room:demo", a)
    await script.group_add("room:demo", b)
    await script.group_send("room:demo", {"type": "1"})
    assert [await types(one, a, 1), await types(two, b, 1)] == [["1"], ["1"]]
    await one.group_discard("room:demo", b)
    await script.group_send("room:demo", {"type": "2"})
    assert await types(one, a, 1) == ["2"]
    await nothing(two, b)


async def test_one_full_member_keeps_nothing_from_the_others(make_shared: Make):
    one, two = make_shared(capacity=1), make_shared()
    full, free = await one.new_channel(), await two.new_channel()
    for layer, channel in ((one, full), (two, free)):
        await layer.group_add("g", channel)
    for number in "123":
        await one.group_send("g", {"type": number})
    assert await types(two, free, 3) == ["1", "2", "3"]
    assert await types(one, full, 1) == ["1"]


async def test_of_a_channel_that_is_nobodys_each_message_is_received_once(make_shared: Make):
    """By workers that waited before, and by one that came after."""
    sender, *workers = (make_shared() for _ in range(3))
    await sender.send("thumbnails", {"type": "early"})
    got: list[str] = []

    async def work(layer: ChannelLayer) -> None:
        while True:
            got.append((await layer.receive("thumbnails"))["type"])

    tasks = [asyncio.create_task(work(worker)) for worker in workers]
    await wait_until(lambda: got == ["early"])
    for number in range(20):
        while True:
            with suppress(ChannelFull):
                await sender.send("thumbnails", {"type": str(number)})
                break
            await asyncio.sleep(0.002)
    await wait_until(lambda: len(got) >= 21)
    assert sorted(got) == sorted(["early", *map(str, range(20))])
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_is_sent_to_a_process_that_has_gone(make_shared: Make, caplog: pytest.LogCaptureFixture):
    here, gone = make_shared(), make_shared()
    channel = await gone.new_channel()
    await gone.close()
    await here.new_channel()  # it connects, which may take longer
    here._timeout = 0.1
    await asyncio.gather(here.send(channel, {"type": "1"}), here.group_add("g", channel))
    assert caplog.text.count(f"the process of {channel!r} has gone: nothing was done") == 1


async def test_flush_empties_every_process(make_shared: Make):
    one, two = make_shared(), make_shared()
    channel = await two.new_channel()
    await two.group_add("g", channel)
    await two.send(channel, {"type": "1"})
    await one.flush()
    await wait_until(lambda: not len(two._queues) and not two._groups.names)
    await one.group_send("g", {"type": "2"})
    await two.send(channel, {"type": "3"})
    assert await types(two, channel, 1) == ["3"]


async def test_namespaces_share_a_server_and_nothing_else(make_shared: Make):
    one, two = make_shared(namespace="a:"), make_shared(namespace="b:")
    channel = await two.new_channel()
    await two.group_add("g", channel)
    await one.group_send("g", {"type": "1"})
    await nothing(two, channel)
