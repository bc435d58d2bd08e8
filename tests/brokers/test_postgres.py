"""What PostgreSQL alone asks for: notifications that are texts, distinct, and short; and a table."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_channels.brokers import Listening, NotSent, create_backend
from fastapi_channels.brokers.postgres import (
    MARK,
    MAX_INLINE,
    TABLE,
    PostgresBackend,
    _Notifications,
    _read,
    _Stored,
)
from fastapi_channels.exceptions import BrokerUnavailable, ConfigurationError
from tests.support.brokers import Process, running
from tests.support.live import wait_until
from tests.support.servers import PostgresServer

BODIES = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=20).map(lambda text: text.encode(errors="replace")),
    st.sampled_from(
        [b"", b"same", MARK.encode(), f"{MARK}r0 {uuid.UUID(int=1).hex}".encode(), b"\0", b"\xff"]
    ),
    st.integers(MAX_INLINE - 20, MAX_INLINE + 2).map(lambda size: b"x" * size),
    st.integers(MAX_INLINE - 20, MAX_INLINE + 2).map(lambda size: MARK.encode() + b"x" * size),
    st.integers(2990, 3010).map(lambda count: "é€".encode() * count),
)


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), BODIES)))
def test_any_messages_are_distinct_notifications(messages: list[tuple[str, bytes]]):
    made = _Notifications()
    for channel, body in messages:
        made.add(channel, body)
    pairs = list(zip(made.channels, made.payloads, strict=True))
    assert len(pairs) == len(set(pairs)) == len(messages)
    assert all(len(payload.encode()) <= MAX_INLINE and "\0" not in payload for payload in made.payloads)
    assert [(channel, _back(payload, made.stored)) for channel, payload in pairs] == messages


def _back(payload: str, stored: dict[uuid.UUID, bytes]) -> bytes:
    message = _read(payload)
    if isinstance(message, _Stored):
        return stored[message.key]
    return message.encode() if isinstance(message, str) else message


@pytest.mark.parametrize("rest", ["", "t", "r0", "x0 text", "b0 not base64", "r0 no key", "tt text", " 0 x"])
def test_what_a_stranger_wrote_with_the_mark_is_a_text(rest: str):
    assert _read(MARK + rest) == MARK + rest


async def test_before_it_is_connected():
    backend = PostgresBackend("postgres://127.0.0.1:1/")
    assert isinstance(backend, Listening)
    for call in (backend.publish("room", "x"), backend.subscribe("room"), backend.unsubscribe("room")):
        with pytest.raises(NotSent):
            await call
    await backend.disconnect()


async def ask(server: PostgresServer, query: str, *arguments: Any) -> Any:
    connection = await asyncpg.connect(server.url)
    try:
        return await connection.fetchval(query, *arguments)
    finally:
        await connection.close()


async def test_a_stranger_listens_and_notifies(shared_postgres: PostgresServer):
    heard: list[str] = []
    stranger = await asyncpg.connect(shared_postgres.url)
    await stranger.add_listener("room", lambda *words: heard.append(words[-1]))
    process = Process(create_backend(shared_postgres.url))
    async with running(process):
        await process.broker.subscribe("room")
        await stranger.execute("NOTIFY room, 'from outside'")
        await process.publish("room", "from inside")
        assert await process.receives(2) == ["from outside", "from inside"]
        await wait_until(lambda: heard == ["from outside", "from inside"])
    await stranger.close()


async def test_it_has_two_connections_and_leaves_none(shared_postgres: PostgresServer):

    async def is_left(count: int) -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'fastapi-channels'"
        return bool(await ask(shared_postgres, query) == count)

    process = Process(create_backend(shared_postgres.url))
    async with running(process):
        await process.publish("room", "x")
        assert await is_left(2)
    await wait_until(lambda: is_left(0))


async def test_one_turn_is_one_transaction(shared_postgres: PostgresServer):
    process = Process(create_backend(shared_postgres.url))
    async with running(process):
        await process.publish("room", "x")
        before = await ask(shared_postgres, "SELECT pg_current_xact_id()::text::bigint")
        await asyncio.gather(*(process.publish("room", str(number)) for number in range(500)))
        after = await ask(shared_postgres, "SELECT pg_current_xact_id()::text::bigint")
        assert after - before == 2


async def test_long_messages_wait_for_a_minute(
    mortal_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fastapi_channels.brokers.link.PING_INTERVAL", 0.5)
    monkeypatch.setattr("fastapi_channels.brokers.postgres.PRUNE_INTERVAL", 0.1)
    process = Process(create_backend(mortal_postgres.url))

    async def is_left(count: int) -> bool:
        return bool(await ask(mortal_postgres, f"SELECT count(*) FROM {TABLE}") == count)  # noqa: S608

    async with running(process):
        await process.broker.subscribe("room")
        await asyncio.gather(*(process.publish("room", str(n) * 10_000) for n in range(5)))
        await process.receives(5)
        one = f"(SELECT id FROM {TABLE} LIMIT 1)"  # noqa: S608
        await ask(mortal_postgres, f"UPDATE {TABLE} SET at = at - interval '61 seconds' WHERE id = {one}")  # noqa: S608
        await wait_until(lambda: is_left(4))
        await ask(mortal_postgres, f"UPDATE {TABLE} SET at = at - interval '61 seconds'")  # noqa: S608
        await wait_until(lambda: is_left(0))
        assert process.changes == [True]


async def test_a_long_message_that_is_gone_is_a_gap(mortal_postgres: PostgresServer):
    process = Process(create_backend(mortal_postgres.url))
    async with running(process):
        await process.broker.subscribe("room")
        await process.publish("room", "x" * 10_000)
        await ask(mortal_postgres, "SELECT pg_notify('room', $1)", f"{MARK}r0 {uuid.uuid4().hex}")
        await wait_until(lambda: process.changes == [True, False, True])
        await process.publish("room", "again")
        await wait_until(lambda: process.bodies[-1:] == ["again"])


async def test_a_user_that_may_not_create_tables(mortal_postgres: PostgresServer):
    """Short messages work, and long ones as soon as somebody has made the table."""
    await ask(mortal_postgres, "CREATE ROLE guest LOGIN")
    process = Process(create_backend(mortal_postgres.url.replace("//postgres@", "//guest@")))
    async with running(process):
        await process.broker.subscribe("room")
        outcomes = await asyncio.gather(
            process.publish("room", "short"),
            process.publish("room", "x" * 10_000),
            process.publish("room", "also short"),
            return_exceptions=True,
        )
        assert isinstance(outcomes[1], BrokerUnavailable)
        assert "permission denied" in str(outcomes[1])
        assert await process.receives(2) == ["short", "also short"]
        owner = Process(create_backend(mortal_postgres.url))
        async with running(owner):
            await owner.publish("elsewhere", "x" * 10_000)
        await ask(mortal_postgres, f"GRANT ALL ON {TABLE} TO guest")
        await process.publish("room", "x" * 10_000)
        assert (await process.receives(3))[2] == "x" * 10_000
        assert process.changes == [True]


async def test_a_database_that_is_not_utf8(shared_postgres: PostgresServer, caplog: pytest.LogCaptureFixture):
    await ask(shared_postgres, "CREATE DATABASE latin ENCODING LATIN1 LOCALE 'C' TEMPLATE template0")
    url = shared_postgres.url.removesuffix("postgres") + "latin"
    async with running(Process(create_backend(url))):
        pass
    assert "must be UTF8, and is LATIN1" in caplog.text


async def test_an_option_of_the_url_that_nobody_knows_is_told_when_it_starts(shared_postgres: PostgresServer):
    process = Process(create_backend(f"{shared_postgres.url}?bogus=1"))
    with pytest.raises(ConfigurationError, match=r'option that the URL has: unrecognized .* "bogus"'):
        await process.broker.start()
