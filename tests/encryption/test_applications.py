"""Applications whose broker and store have ciphertext, and whose keys change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cryptography.fernet import Fernet
from fastapi import FastAPI
from redis.asyncio import Redis

from fastapi_channels import Channel, Connection, Publisher, SyncPublisher, action, add_channel
from tests.commands.test_over_the_broker import command, inside, line
from tests.support.live import Site, serving, unique, wait_until
from tests.support.servers import NatsServer, RedisServer

OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))
SAID = "the treasure is under the oak"
PASSING = "tests.encryption.test_applications:Passing"
SERVERS = {"redis": "shared_redis", "redis-stream": "shared_redis", "postgresql": "shared_postgres"}


class Kept(Channel):
    scope = "kept"
    history = 100

    @action()
    async def say(self, connection: Connection, text: str) -> None:
        await self.broadcast(connection.room, "said", text)

    @action(idempotent=True)
    async def look(self) -> str:
        return SAID


class Passing(Channel):
    scope = "passing"

    @action()
    async def say(self, connection: Connection, text: str) -> None:
        await self.broadcast(connection.room, "said", text)


@asynccontextmanager
async def served(
    url: str, namespace: str, keys: list[str] | None, *more: type[Channel]
) -> AsyncIterator[Site]:
    app = FastAPI()
    add_channel(app, url=url, namespace=namespace, encryption_keys=keys)
    Kept().mount(app, "/kept/{channel}")
    Passing().mount(app, "/passing/{channel}")
    for channel in more:
        channel().mount(app, f"/{channel.scope}/{{channel}}")
    async with serving(app) as site:
        await wait_until(lambda: site.node.rooms.pulse._tasks._running)
        yield site


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest) -> str:
    server = request.getfixturevalue(SERVERS[request.param])
    url: str = server.url
    return f"{request.param}://{url.partition('://')[2]}"


async def test_keys_are_rotated_while_processes_have_them_in_different_order(url: str):
    """One process still encrypts with the old key, and one already with the new one."""
    namespace = unique()
    async with (
        served(url, namespace, [OLD, NEW]) as before,
        served(url, namespace, [NEW, OLD]) as after,
        before.connect("/kept/a") as ada,
        after.connect("/kept/a") as bob,
    ):
        since = (await ada.receive())["position"]
        await bob.receive()
        for client, text in ((ada, "old key"), (bob, "new key"), (ada, "old again")):
            await client.send({"action": "say", "text": text})
            for reader in (ada, bob):
                assert (await reader.receive_until(lambda frame: frame["type"] == "event"))["data"] == text
        async with after.connect(f"/kept/a?since={since}") as back:
            assert (await back.receive())["recovered"] is True
            assert [(await back.receive())["data"] for _ in range(3)] == ["old key", "new key", "old again"]
    # The old key is taken away before what it has encrypted has expired: that is told, and the rest is there.
    async with served(url, namespace, [NEW]) as last, last.connect(f"/kept/a?since={since}") as late:
        joined = await late.receive()
        assert (joined["recovered"], joined["reason"]) == (False, "expired")
        await late.send({"action": "say", "text": "on"})
        assert (await late.receive_until(lambda frame: frame["type"] == "event"))["data"] == "on"


async def test_nothing_that_was_said_can_be_read_on_the_server(shared_redis: RedisServer):
    namespace = unique()
    async with (
        Redis.from_url(shared_redis.url) as redis,
        redis.monitor() as watched,
        served(shared_redis.url, namespace, [NEW]) as site,
        Publisher(shared_redis.url, namespace=namespace, encryption_keys=NEW) as publisher,
        site.connect("/kept/a") as client,
    ):
        await client.receive()
        await client.send({"action": "say", "text": SAID})
        assert (await client.receive_until(lambda frame: frame["type"] == "event"))["data"] == SAID
        await client.send({"action": "look", "request_id": "a" * 16})
        assert (await client.receive_until(lambda frame: frame["type"] == "response"))["data"] == SAID
        await publisher.send_to_user(SAID, "said", SAID)
        await publisher.broadcast("a", "said", SAID, channel=Passing)
        await publisher.broadcast("a", "said", "the last", channel=Kept)
        assert (await client.receive_until(lambda frame: frame["type"] == "event"))["data"] == "the last"
        await redis.echo(f"{namespace} is done")
        seen: list[str] = []
        async with asyncio.timeout(30):
            async for each in watched.listen():
                if f"{namespace} is done" in each["command"]:
                    break
                if namespace in each["command"]:
                    seen.append(each["command"])
    assert len([text for text in seen if "PUBLISH" in text]) >= 4
    assert not [text for text in seen if SAID in text or "the last" in text]
    assert any("kept\\x1fa" in text for text in seen), "the names of rooms stay readable"


@pytest.mark.parametrize("keys", [[OTHER], None], ids=["another key", "no key"])
async def test_a_process_that_cannot_read_a_message_tells_that_one_is_missing(
    url: str, keys: list[str] | None, caplog: pytest.LogCaptureFixture
):
    namespace = unique()
    async with (
        served(url, namespace, [NEW]) as one,
        served(url, namespace, keys) as stranger,
        one.connect("/passing/a") as speaker,
        stranger.connect("/passing/a") as listener,
        one.connect("/kept/a") as keeper,
        stranger.connect("/kept/a") as reader,
    ):
        for client in (keeper, reader):
            await client.receive()
        with caplog.at_level(logging.WARNING):
            for text in ("one", "two"):
                await speaker.send({"action": "say", "text": text})
                assert (await speaker.receive_until(lambda frame: frame["type"] == "event"))["data"] == text
                assert (await listener.receive())["type"] == "resync"
        told = [record.getMessage() for record in caplog.records if "cannot be read" in record.getMessage()]
        assert len(told) == 1
        assert f"a message for '{namespace}" in told[0]
        # What it says itself reaches its own clients, and both go on.
        for client in (listener, speaker):
            await client.send({"action": "say", "text": "three"})
            assert (await client.receive_until(lambda frame: frame["type"] == "event"))["data"] == "three"
        for client in (keeper, reader):
            await client.send({"action": "say", "text": "kept"})
            said = await client.receive_until(lambda frame: frame.get("data") == "kept")
            assert said["type"] == "event"


async def test_who_listens_without_the_keys_is_told_so(
    shared_redis: RedisServer, shared_nats: NatsServer, capsys: pytest.CaptureFixture[str]
):
    """At once where there is a store, which says so, and else with what cannot be read."""
    namespace = unique()
    where = ("listen", "a", "--namespace", namespace, "--channel", PASSING)
    async with served(shared_redis.url, namespace, [NEW]):
        for broker in (shared_redis, shared_nats):
            words = (*where, "--url", broker.url, "--store-url", shared_redis.url)
            refused = await inside(capsys, *words)
            assert (refused.status, refused.out) == (2, "")
            assert "the application has encryption_keys=" in refused.err
    async with command(*where, "--url", shared_nats.url) as listener:
        assert await line(listener.stderr) == "listening"
        async with Publisher(shared_nats.url, namespace=namespace, encryption_keys=[NEW]) as publisher:
            await publisher.broadcast("a", "said", SAID, channel=Passing)
        assert "cannot be read: it is encrypted" in await line(listener.stderr)


@pytest.mark.parametrize("kind", [Publisher, SyncPublisher])
async def test_a_publisher_has_the_keys_too(shared_redis: RedisServer, kind: type[Any]):
    namespace = unique()
    async with served(shared_redis.url, namespace, [NEW, OLD]) as site, site.connect("/kept/a") as client:
        await client.receive()
        publisher = kind(shared_redis.url, namespace=namespace, encryption_keys=[OLD, NEW])
        sent = publisher.broadcast("a", "said", "hi", channel=Kept)
        published = await sent if kind is Publisher else sent
        assert (await client.receive())["position"] == published.position
        closed = publisher.close()
        if kind is Publisher:
            await closed


async def test_commands_have_the_keys_from_the_environment(
    shared_redis: RedisServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    namespace = unique()
    where = ("--namespace", namespace)
    monkeypatch.setenv("CHANNELS_URL", shared_redis.url)
    monkeypatch.setenv("CHANNELS_ENCRYPTION_KEYS", f"{OLD},{NEW}")
    async with (
        served(shared_redis.url, namespace, [NEW, OLD]) as site,
        site.connect("/passing/a") as client,
        command("listen", "a", *where, "--channel", PASSING) as listener,
    ):
        assert await line(listener.stderr) == "listening"
        words = ("publish", "a", "said", f'"{SAID}"', *where, "--channel", PASSING)
        assert await inside(capsys, *words) == (0, "", "")
        assert (await client.receive())["data"] == SAID
        assert SAID in await line(listener.stdout)
        assert "processes: 1 heard it" in (await inside(capsys, "doctor", *where, "--wait", "2")).out
        monkeypatch.setenv("CHANNELS_ENCRYPTION_KEYS", "hunter2")
        without = await inside(capsys, *words)
        assert (without.status, without.out) == (2, "")
        assert "encryption_keys[0] is no key" in without.err
        assert "hunter2" not in without.err
