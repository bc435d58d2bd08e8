"""Groups and channels that are shared with Django Channels, of which a process runs on the same Redis."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import httpx
import msgpack
import pytest
from channels_redis.serializers import registry
from fastapi import FastAPI
from redis.asyncio import Redis

from fastapi_channels import add_channel
from fastapi_channels.exceptions import BrokerUnavailable, ConfigurationError, MessageTooLarge, ParseError
from fastapi_channels.layers import AsyncJsonWebsocketConsumer
from fastapi_channels.layers.django import DjangoChannelLayer
from fastapi_channels.wire.messages import Publication
from tests.support.brokers import persistently
from tests.support.live import DEADLINE, process, serving, unique, wait_until
from tests.support.servers import RedisServer


@pytest.fixture
async def layer(shared_redis: RedisServer) -> AsyncIterator[DjangoChannelLayer]:
    layer = DjangoChannelLayer(shared_redis.url, prefix=unique("asgi"), capacity=2)
    yield layer
    await layer.close()


class Chat(AsyncJsonWebsocketConsumer):
    """Django's consumer of tests/layers/django_site.py, moved here."""

    async def connect(self) -> None:
        self.group = self.scope["url_route"]["kwargs"]["group"]
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()
        await self.send_json({"channel": self.channel_name})

    async def receive_json(self, content: Any) -> None:
        message = {"type": "chat.said", "by": "fastapi", "body": content["text"].encode()}
        if "to" in content:
            await self.channel_layer.send(content["to"], message)
        else:
            await self.channel_layer.group_send(self.group, message)

    async def chat_said(self, event: dict[str, Any]) -> None:
        await self.send_json({"by": event["by"], "text": event["body"].decode()})


async def test_django_and_fastapi_share_groups_and_channels(shared_redis: RedisServer):
    """As it is during a migration: a process of each, and clients that are with one or the other."""
    app, layer, group = FastAPI(), DjangoChannelLayer(shared_redis.url), unique("group")
    add_channel(app)
    app.add_api_websocket_route("/ws/{group}", Chat.as_route(layer=layer))
    django = process(
        "tests.layers.django_site:application",
        "--lifespan",
        "off",
        environment={"REDIS_URL": shared_redis.url},
    )
    path = f"/ws/{group}"
    async with django as there, serving(app) as here, AsyncExitStack() as clients:
        ada, bob = [await clients.enter_async_context(each.connect(path)) for each in (there.site, here)]
        to_ada, to_bob = [(await client.receive())["channel"] for client in (ada, bob)]

        async def both_hear(by: str, text: str) -> None:
            assert [await client.receive() for client in (ada, bob)] == [{"by": by, "text": text}] * 2

        await ada.send({"text": "hello from Django"})
        await both_hear("django", "hello from Django")
        await bob.send({"text": "hello from FastAPI"})
        await both_hear("fastapi", "hello from FastAPI")
        async with httpx.AsyncClient() as http:
            await http.post(f"{there.site.http}/announce/{group}", content="from a view")
        await both_hear("a view", "from a view")
        await layer.group_send(group, {"type": "chat.said", "by": "a script", "body": b"from a script"})
        await both_hear("a script", "from a script")

        await ada.send({"text": "to Bob alone", "to": to_bob})
        assert await bob.receive() == {"by": "django", "text": "to Bob alone"}
        await bob.send({"text": "to Ada alone", "to": to_ada})
        assert await ada.receive() == {"by": "fastapi", "text": "to Ada alone"}
    await layer.close()


async def test_on_the_wire_is_what_channels_redis_puts_there(
    layer: DjangoChannelLayer, shared_redis: RedisServer
):
    """Byte for byte: the topic, and one MessagePack map."""
    channel = await layer.new_channel()
    assert channel.startswith(f"{layer._prefix}specific.")
    async with Redis.from_url(shared_redis.url) as redis, redis.pubsub() as listener:
        await listener.subscribe(channel, f"{layer._prefix}__group__room")
        message = {
            "type": "said",
            "n": 1,
            "at": datetime(2026, 1, 2, tzinfo=UTC),
            "raw": b"\xff",
            "of": [None],
        }
        sent = {**message, "at": "2026-01-02T00:00:00Z"}
        await layer.send(channel, message)
        await layer.group_send("room", message)
        heard: list[tuple[str, Any]] = []
        async with asyncio.timeout(30):
            while len(heard) < 2:
                got: Any = await listener.get_message(ignore_subscribe_messages=True, timeout=10)
                if got is not None:
                    heard.append((got["channel"].decode(), got["data"]))
    packed = msgpack.packb(sent)
    assert heard == [(channel, packed), (f"{layer._prefix}__group__room", packed)]
    assert await layer.receive(channel) == sent


async def test_a_channel_is_in_groups_until_it_is_forgotten(layer: DjangoChannelLayer):
    one, two = await layer.new_channel(), await layer.new_channel()
    for channel in (one, two):
        await layer.group_add("g", channel)
    await layer.group_discard("g", one)
    await layer.group_send("g", {"type": "1"})
    assert await layer.receive(two) == {"type": "1"}
    assert one not in layer._queues
    await layer.forget(two)
    assert layer._broker.topics == {one}
    await layer.group_add("g", one)
    await layer.flush()
    assert layer._broker.topics == {one}


async def test_a_message_for_a_channel_is_for_no_group_of_its_name():
    layer = DjangoChannelLayer()
    layer._channels.add("inbox")
    layer._groups.add("tasks", "inbox")
    body: Any = msgpack.packb({"type": "x"})
    layer._receive(Publication("tasks", body))
    assert "inbox" not in layer._queues
    layer._receive(Publication(layer._group("tasks"), body))
    assert "inbox" in layer._queues


async def test_what_comes_before_a_channel_is_confirmed_waits_in_it(
    layer: DjangoChannelLayer, monkeypatch: pytest.MonkeyPatch
):
    body: Any = msgpack.packb({"type": "x"})
    subscribe = layer._broker.subscribe

    async def at_once(topic: str) -> None:
        await subscribe(topic)
        layer._receive(Publication(topic, body))

    async def never(topic: str) -> None:
        raise BrokerUnavailable("it was not confirmed")

    monkeypatch.setattr(layer._broker, "subscribe", at_once)
    assert await layer.receive(layer._prefix + "tasks") == {"type": "x"}
    monkeypatch.setattr(layer._broker, "subscribe", never)
    with pytest.raises(BrokerUnavailable):
        await layer.receive(layer._prefix + "others")
    assert layer._channels == {layer._prefix + "tasks"}


async def test_who_is_full_misses_it_and_the_log_says_so(
    layer: DjangoChannelLayer, caplog: pytest.LogCaptureFixture
):
    one, two = await layer.new_channel(), await layer.new_channel()
    for channel in (one, two):
        await layer.group_add("g", channel)
    for number in "12":
        await layer.send(one, {"type": number})
    await layer.send(one, {"type": "dropped"})
    await layer.group_send("g", {"type": "3"})
    assert [await layer.receive(one) for _ in "12"] == [{"type": "1"}, {"type": "2"}]
    assert await layer.receive(two) == {"type": "3"}
    [said] = [record for record in caplog.records if record.name == "fastapi_channels"]
    assert said.getMessage() == f"a message to {one!r} was dropped: it is full"
    assert said.levelno == logging.WARNING
    assert layer._dropped._more == 1, "the next warning says how many more there were"


async def test_bytes_are_bounded_whoever_sends(shared_redis: RedisServer):
    """What Django sends may have any size."""
    layer = DjangoChannelLayer(
        shared_redis.url, prefix=unique("asgi"), capacity_bytes=5000, max_message_size=4000
    )
    channel = await layer.new_channel()
    large: Any = msgpack.packb({"type": "large", "raw": bytes(6000)})
    async with Redis.from_url(shared_redis.url) as redis:
        await redis.publish(channel, large)
    for size in (3900, 1000, 2000):
        await layer.send(channel, {"type": str(size), "raw": bytes(size)})
    for send in (layer.send, layer.group_send):
        with pytest.raises(MessageTooLarge, match="4000 bytes"):
            await send(channel, {"type": "x", "raw": bytes(4000)})
    assert [await layer.receive(channel) for _ in "12"] == [
        {"type": str(size), "raw": bytes(size)} for size in (3900, 1000)
    ]
    await layer.close()


async def test_what_is_no_message_is_ignored(
    layer: DjangoChannelLayer, shared_redis: RedisServer, caplog: pytest.LogCaptureFixture
):
    """The server is shared: whatever is published to a channel stops nobody."""
    channel = await layer.new_channel()
    no_messages: list[Any] = [b"\xc1", b"", b"text", msgpack.packb([1]), msgpack.packb({1: 2}), b"\x81"]
    async with Redis.from_url(shared_redis.url) as redis:
        for strange in no_messages:
            await redis.publish(channel, strange)
            await layer.send(channel, {"type": "x"})
            assert await layer.receive(channel) == {"type": "x"}
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warned) == 6
    assert all(line.startswith(f"a message in {channel!r} is ignored: not ") for line in warned)


async def test_what_django_could_not_read_is_not_sent(layer: DjangoChannelLayer):
    deep: list[Any] = []
    for _ in range(2000):
        deep = [deep]
    messages: list[Any] = [{1: 2}, {"n": 2**64}, {"o": object()}, {"deep": deep}]
    for message in messages:
        with pytest.raises(ValueError, match="the message cannot be encoded"):
            await layer.group_send("g", message)


async def test_what_is_encrypted_is_what_channels_redis_reads_and_writes(
    shared_redis: RedisServer, caplog: pytest.LogCaptureFixture
):
    """With the first of its keys, and with an older one; what has no key, or another, is ignored."""
    old, new = (registry.get_serializer("msgpack", symmetric_encryption_keys=[key]) for key in ("old", "new"))
    layer = DjangoChannelLayer(
        shared_redis.url, prefix=unique("asgi"), symmetric_encryption_keys=["new", b"old"]
    )
    channel, sent = await layer.new_channel(), {"type": "said", "raw": b"\xff"}
    async with Redis.from_url(shared_redis.url) as redis, redis.pubsub() as listener:
        await listener.subscribe(channel)
        await layer.send(channel, sent)
        async with asyncio.timeout(30):
            while (got := await listener.get_message(ignore_subscribe_messages=True, timeout=10)) is None:
                pass
        assert new.deserialize(got["data"]) == await layer.receive(channel) == sent
        bare: Any = msgpack.packb(sent)
        for body in (bare, new.serialize({"type": "new"}), old.serialize({"type": "old"})):
            await redis.publish(channel, body)
        assert [await layer.receive(channel) for _ in "12"] == [{"type": "new"}, {"type": "old"}]
    assert "is ignored: not encrypted with one of the keys" in caplog.text
    await layer.close()


async def test_what_is_no_use_is_told(layer: DjangoChannelLayer):
    with pytest.raises(ConfigurationError, match="'elsewhere' is no channel of this process"):
        await layer.group_add("g", "elsewhere")
    with pytest.raises(ConfigurationError, match="a message is a mapping"):
        await layer.send("c", "text")  # type: ignore[arg-type]  # that is what is told
    for refused in (layer.group_send("a\x00", {"type": "x"}), layer.send("x" * 10_000, {"type": "x"})):
        with pytest.raises(ParseError):
            await refused
    keys: list[Any] = ["a text", b"bytes", [""], [7]]
    for wrong in keys:
        with pytest.raises(ConfigurationError, match="symmetric_encryption_keys is a list of texts"):
            DjangoChannelLayer(symmetric_encryption_keys=wrong)
    for url in ("memory://", "redis+cluster://localhost", "postgres://localhost"):
        with pytest.raises(ConfigurationError, match=r"a layer of Django's is known for; known are redis://"):
            DjangoChannelLayer(url)


# What the tests of channels_redis' pub/sub layer say, by their names


def test_send_receive_sync_and_multi_send_receive_sync(shared_redis: RedisServer):
    """Each call in an event loop of its own."""
    layer = DjangoChannelLayer(shared_redis.url, prefix=unique("asgi"))
    channel = asyncio.run(layer.new_channel())
    for number in "12":
        asyncio.run(layer.send(channel, {"type": number}))
    assert [asyncio.run(layer.receive(channel))["type"] for _ in "12"] == ["1", "2"]
    asyncio.run(layer.close())


async def test_receive_on_non_owned_general_channel(layer: DjangoChannelLayer, shared_redis: RedisServer):
    other = DjangoChannelLayer(shared_redis.url)
    name = unique("test-channel")
    receiving = asyncio.create_task(other.receive(name))
    await wait_until(lambda: name in other._queues.wanted)
    await layer.send(name, {"type": "message.1"})
    async with asyncio.timeout(DEADLINE):
        assert await receiving == {"type": "message.1"}
    await other.close()


async def test_receive_hang_and_random_reset__channel_name(layer: DjangoChannelLayer):
    random.seed(1)
    one = await layer.new_channel()
    random.seed(1)
    assert one != await layer.new_channel()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await layer.receive(one)


async def test_discard_before_add(layer: DjangoChannelLayer):
    await layer.group_discard("test-group", await layer.new_channel())


async def test_groups_same_prefix_groups_basic_and_auto_reconnect(mortal_redis: RedisServer):
    layer = DjangoChannelLayer(mortal_redis.url)
    one, two, three = [await layer.new_channel("test-gr-chan") for _ in "123"]
    for channel in (one, two):
        await layer.group_add("test-group", channel)
    mortal_redis.kill()
    mortal_redis.restart()
    await persistently(lambda: layer.group_add("test-group", three))
    await layer.group_discard("test-group", two)
    await persistently(lambda: layer.group_send("test-group", {"type": "message.1"}))
    async with asyncio.timeout(DEADLINE):
        assert await layer.receive(one) == await layer.receive(three) == {"type": "message.1"}
    assert two not in layer._queues
    await layer.close()
