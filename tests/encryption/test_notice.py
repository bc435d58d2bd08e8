"""Who speaks without the keys of an application is told, where it has a store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cryptography.fernet import Fernet

from fastapi_channels import Channel, Publisher, SyncPublisher
from fastapi_channels.encryption import notice
from fastapi_channels.encryption.cipher import Cipher
from fastapi_channels.encryption.notice import Notice, check
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.stores import MemoryStore, StoreUnavailable
from tests.commands.test_over_the_broker import inside
from tests.encryption.test_applications import SERVERS, Kept, Passing, served
from tests.support.brokers import PATIENT
from tests.support.live import unique, wait_until
from tests.support.servers import NatsServer, RedisServer

OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))
MISSING = (
    r"^the application has encryption_keys=, and nobody there can read what is said without: .* nothing was"
)

NOWHERE = r"^no application with encryption_keys= has said in this store that it runs, .* nothing was sent"


class Seen(Channel):
    scope = "seen"
    presence = True


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest) -> str:
    server = request.getfixturevalue(SERVERS[request.param])
    url: str = server.url
    return f"{request.param}://{url.partition('://')[2]}"


async def said(url: str, namespace: str) -> None:
    """Return when an application has said that it encrypts."""
    async with Publisher(url, namespace=namespace, **PATIENT) as publisher:

        async def is_refused() -> bool:
            publisher._outside._checks_at = 0.0  # type: ignore[union-attr]  # it is no one of a route
            try:
                await publisher.broadcast("nowhere", "said")
            except ConfigurationError:
                return True
            return False

        await wait_until(is_refused)


async def test_without_keys_nothing_is_sent(url: str):
    namespace = unique()
    async with served(url, namespace, [NEW]) as site, site.connect("/passing/a") as client:
        await said(url, namespace)
        async with Publisher(url, namespace=namespace, **PATIENT) as publisher:
            for call in (
                publisher.broadcast("a", "said", "hi", channel=Passing),
                publisher.broadcast("a", "said", "hi", channel=Kept),
                publisher.send_to_user("ada", "said", "hi"),
                publisher.disconnect_user("ada"),
                publisher.revoke_user("ada"),
                publisher.people("a"),
            ):
                with pytest.raises(ConfigurationError, match=MISSING):
                    await call
        async with Publisher(url, namespace=namespace, **PATIENT, encryption_keys=[OTHER, NEW]) as publisher:
            with pytest.raises(ConfigurationError, match="other encryption_keys="):
                await publisher.broadcast("a", "said", "hi", channel=Passing)
        async with Publisher(url, namespace=namespace, **PATIENT, encryption_keys=NEW) as publisher:
            await publisher.broadcast("a", "said", "with the key", channel=Passing)
        assert (await client.receive())["data"] == "with the key"


async def test_a_script_and_a_command_are_told_too(
    shared_redis: RedisServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    namespace = unique()
    monkeypatch.delenv("CHANNELS_ENCRYPTION_KEYS", raising=False)
    async with served(shared_redis.url, namespace, [NEW]):
        await said(shared_redis.url, namespace)
        publisher = SyncPublisher(shared_redis.url, namespace=namespace, **PATIENT)
        with pytest.raises(ConfigurationError, match=MISSING):
            publisher.broadcast("a", "said")
        publisher.close()
        told = await inside(
            capsys, "publish", "a", "x", "1", "--url", shared_redis.url, "--namespace", namespace
        )
        assert (told.status, told.out) == (2, "")
        assert "has encryption_keys=" in told.err


async def test_with_keys_nothing_is_sent_where_the_application_has_none(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Nor where it does not run yet; what is sent once it does is taken, by the same publisher."""
    namespace = unique()
    async with (
        served(url, namespace, None) as site,
        site.connect("/passing/a") as client,
        Publisher(url, namespace=namespace, **PATIENT, encryption_keys=NEW) as publisher,
    ):
        for call in (
            publisher.broadcast("a", "said", "hi", channel=Passing),
            publisher.broadcast("a", "said", "hi", channel=Kept),
            publisher.send_to_user("ada", "said", "hi"),
            publisher.disconnect_user("ada"),
            publisher.people("a"),
            publisher.count_people("a"),
        ):
            with pytest.raises(ConfigurationError, match=NOWHERE):
                await call
        monkeypatch.setenv("CHANNELS_ENCRYPTION_KEYS", NEW)
        told = await inside(capsys, "publish", "a", "x", "1", "--url", url, "--namespace", namespace)
        assert (told.status, told.out) == (2, "")
        assert "no application with encryption_keys=" in told.err
        async with Publisher(url, namespace=namespace, **PATIENT) as plain:
            await plain.broadcast("a", "said", "as it is", channel=Passing)
        assert (await client.receive())["data"] == "as it is", "nothing came before that, and no resync"
        async with served(url, namespace, [NEW]) as begun, begun.connect("/passing/a") as reader:
            await publisher.broadcast("a", "said", "with the key", channel=Passing)
            assert (await reader.receive())["data"] == "with the key"


async def test_what_some_of_the_keys_do_not_read_is_no_empty_room(url: str):
    """What they encrypt is read, so it is sent. Who is counted needs no key."""
    namespace = unique()
    async with (
        served(url, namespace, [OLD, NEW], Seen) as site,
        site.connect("/seen/a") as client,
        Publisher(url, namespace=namespace, **PATIENT, encryption_keys=NEW) as publisher,
        Publisher(url, namespace=namespace, **PATIENT, encryption_keys=[NEW, OLD]) as whole,
    ):
        await client.receive()
        await publisher.broadcast("a", "said", "hi", channel=Seen)
        await client.receive_until(lambda frame: frame.get("data") == "hi")
        await wait_until(lambda: whole.count_people("a", channel=Seen))
        with pytest.raises(
            ConfigurationError, match=r"^1 of 1 in the room cannot be read: .* give all that it has"
        ):
            await publisher.people("a", channel=Seen)
        assert await publisher.count_people("a", channel=Seen) == 1
        assert len(await whole.people("a", channel=Seen)) == 1


async def test_the_doctor_says_that_the_keys_differ(
    shared_redis: RedisServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    namespace = unique()
    words = ("doctor", "--url", shared_redis.url, "--namespace", namespace, "--wait", "0.1")
    async with served(shared_redis.url, namespace, [OLD, NEW]):
        for keys, why in (
            (NEW, "what its first one encrypts cannot be read with these: give all of them"),
            (OTHER, "the application has other encryption_keys="),
        ):
            monkeypatch.setenv("CHANNELS_ENCRYPTION_KEYS", keys)
            told = await inside(capsys, *words)
            assert (told.status, told.out) == (2, "")
            assert why in told.err


async def test_a_command_looks_in_the_store_that_it_is_told_of(
    shared_redis: RedisServer,
    shared_nats: NatsServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("CHANNELS_ENCRYPTION_KEYS", NEW)
    monkeypatch.setattr("fastapi_channels.cluster.outside.PATIENCE", 30)  # however busy the machine is
    words = ("--url", shared_nats.url, "--namespace", unique(), "--store-url", shared_redis.url)
    for command in (("kick", "ada"), ("publish", "a", "x", "1"), ("doctor", "--wait", "0")):
        told = await inside(capsys, *command, *words)
        assert (told.status, told.out) == (2, "")
        assert "no application with encryption_keys=" in told.err


async def test_an_application_without_keys_says_nothing(shared_redis: RedisServer):
    namespace = unique()
    async with (
        served(shared_redis.url, namespace, None) as site,
        served(shared_redis.url, unique(), [NEW]),
        site.connect("/passing/a") as client,
        Publisher(shared_redis.url, namespace=namespace, **PATIENT) as publisher,
    ):
        await publisher.broadcast("a", "said", "hi", channel=Passing)
        assert (await client.receive())["data"] == "hi"


async def test_the_store_is_asked_once_and_its_connection_not_kept(shared_redis: RedisServer):
    asked: list[float] = []
    async with Publisher(shared_redis.url, namespace=unique(), **PATIENT) as publisher:
        outside: Any = publisher._outside
        make = outside._make_store

        def make_counted() -> Any:
            store = make()
            get, close = store.get, store.close

            async def counted(key: str) -> str | None:
                asked.append(1)
                found: str | None = await get(key)
                return found

            async def closed() -> None:
                asked.append(-1)
                await close()

            store.get, store.close = counted, closed
            return store

        outside._make_store = make_counted
        await asyncio.gather(*(publisher.broadcast("a", "said") for _ in range(5)))
        await publisher.broadcast("a", "said")
        assert asked == [1, -1]


async def test_a_store_that_does_not_say_holds_nothing_up(shared_redis: RedisServer, shared_nats: NatsServer):
    """Nor does a broker that has none."""
    for url, store_url in (
        (shared_redis.url, "redis://127.0.0.1:1"),
        (shared_nats.url, "redis://127.0.0.1:1"),
        (shared_nats.url, None),
    ):
        async with asyncio.timeout(30), Publisher(url, store_url=store_url, publish_timeout=2.0) as publisher:
            await publisher.broadcast("a", "said")


# The notice itself


def noticed(keys: list[str]) -> Notice:
    return Notice(MemoryStore(), "", Cipher(keys))


async def test_every_process_in_a_rotation_is_understood():
    """What the first key of the one encrypts, the other reads."""
    for theirs, ours, is_read in (
        ([OLD], [OLD], True),
        ([OLD, NEW], [OLD], True),
        ([NEW, OLD], [OLD, NEW], True),
        ([OLD], [NEW, OLD], False),
        ([NEW], [OLD, NEW], False),
        ([NEW], [OTHER], False),
    ):
        one = noticed(theirs)
        await one.start()
        if is_read:
            await check(one._store, "", Cipher(ours))
        else:
            with pytest.raises(ConfigurationError, match="other encryption_keys="):
                await check(one._store, "", Cipher(ours))
        await one.stop()


async def test_who_listens_reads_what_is_encrypted_there():
    for theirs, ours, is_read in (
        ([OLD, NEW], [NEW, OLD], True),
        ([NEW, OLD], [NEW], True),
        ([OLD, NEW], [NEW], False),
    ):
        one = noticed(theirs)
        await one.start()
        await check(one._store, "", Cipher(ours))
        if is_read:
            await check(one._store, "", Cipher(ours), listens=True)
        else:
            with pytest.raises(ConfigurationError, match="give all of them"):
                await check(one._store, "", Cipher(ours), listens=True)
        await one.stop()


async def test_what_somebody_else_wrote_there_is_no_key():
    for written in ("", "?", Cipher([OLD]).seal("another place", b"")):
        store = MemoryStore()
        await store.put("fastapi-channels:encryption", written, 60)
        with pytest.raises(ConfigurationError, match="other encryption_keys="):
            await check(store, "", Cipher([OLD]))


async def test_it_is_said_again_also_when_the_store_was_away(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(notice, "RENEWAL", 0.001)
    one, puts = noticed([OLD]), 0

    async def put(key: str, value: str, seconds: float) -> None:
        nonlocal puts
        puts += 1
        if puts == 1:
            raise StoreUnavailable("away")

    store: Any = one._store
    store.put = put
    await one.start()
    await wait_until(lambda: puts >= 3)
    await one.stop()
    await one.stop()
