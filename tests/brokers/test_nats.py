"""What NATS alone asks for: subjects, parts, permissions."""

from __future__ import annotations

import asyncio
import random

import nats
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_channels.brokers import Listening, NotSent, create_backend
from fastapi_channels.brokers.nats import PART, NatsBackend, _Parts, _subject
from fastapi_channels.exceptions import BrokerUnavailable
from tests.support.brokers import Process, running
from tests.support.live import wait_until
from tests.support.servers import NatsServer, free_port, required


@pytest.mark.parametrize("topic", ["room", "a.b:c", "房间", "fastapi-channels:all", "it's/ok"])
def test_plain_names_are_subjects(topic: str):
    assert _subject(topic) == topic


@pytest.mark.parametrize("topic", ["a b", "a.*", ">", ".a", "a.", "a..b", "$SYS.x", "", "a\0", "r" * 256])
def test_other_names_are_hashed(topic: str):
    assert _subject(topic).startswith("fastapi-channels#")


def part(name: str, number: int, index: int, parts: int) -> bytes:
    return f"NATS/1.0\r\n{PART}: {name} {number} {index} {parts}\r\n\r\n".encode()


@given(
    st.randoms(use_true_random=False),
    st.lists(st.lists(st.binary(max_size=3), min_size=1, max_size=4), max_size=4),
)
def test_parts_of_several_senders_are_put_together(chance: random.Random, senders: list[list[bytes]]):
    waiting = {
        str(name): [
            (number, index, len(message), message[index : index + 1])
            for number, message in enumerate(messages)
            for index in range(len(message))
        ]
        for name, messages in enumerate(senders)
    }
    parts, whole = _Parts(), {name: list[bytes]() for name in waiting}
    while any(waiting.values()):
        name = chance.choice([name for name, rest in waiting.items() if rest])
        number, index, count, data = waiting[name].pop(0)
        message = parts.add(b"room", data, part(name, number, index, count))
        if message is not None:
            whole[name].append(message)
    assert parts._size == 0
    assert parts._unfinished == {}
    assert whole == {str(name): [m for m in messages if m] for name, messages in enumerate(senders)}


def test_a_message_whose_beginning_was_missed_is_not_delivered():
    parts = _Parts()
    assert parts.add(b"room", b"b", part("x", 1, 1, 3)) is None
    assert parts.add(b"room", b"c", part("x", 1, 2, 3)) is None
    assert parts.add(b"room", b"a", part("x", 2, 0, 2)) is None
    assert parts.add(b"room", b"b", part("x", 2, 1, 2)) == b"ab"


def test_unfinished_messages_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fastapi_channels.brokers.nats.MAX_UNFINISHED", 100)
    parts = _Parts()
    for number in range(50):
        parts.add(b"room", b"x" * 10, part(str(number), 0, 0, 2))
        assert parts._size <= 100
    assert parts.add(b"room", b"y", part("49", 0, 1, 2)) == b"x" * 10 + b"y"


def test_headers_of_strangers_are_nothing():
    assert _Parts().add(b"room", b"x", b"NATS/1.0\r\nOther: 1\r\n\r\n") == b"x"


async def test_before_it_is_connected():
    backend = NatsBackend("nats://127.0.0.1:1")
    assert isinstance(backend, Listening)
    for call in (backend.publish("room", "x"), backend.subscribe("room"), backend.unsubscribe("room")):
        with pytest.raises(NotSent):
            await call
    await backend.disconnect()


async def test_a_stranger_listens_and_publishes(shared_nats: NatsServer):
    stranger = await nats.connect(shared_nats.url)
    heard = await stranger.subscribe("room")
    await stranger.flush()
    process = Process(create_backend(shared_nats.url))
    async with running(process):
        await process.broker.subscribe("room")
        await stranger.publish("room", b"from outside", headers={"Any": "thing"})
        await process.receives(1)
        await process.publish("room", "from inside")
        assert await process.receives(2) == ["from outside", "from inside"]
        assert [(await heard.next_msg()).data for _ in range(2)] == [b"from outside", b"from inside"]
    await stranger.close()


async def test_several_servers_of_which_one_is_there(shared_nats: NatsServer):
    url = f"nats://127.0.0.1:{free_port()},127.0.0.1:{shared_nats.port}"
    for _ in range(5):
        process = Process(create_backend(url))
        async with running(process):
            await wait_until(lambda process=process: process.broker.up)


@required(NatsServer)
async def test_what_is_not_permitted_is_refused_and_harms_no_other():
    rules = 'permissions: {publish: {deny: "secret"}, subscribe: {deny: "secret"}}'
    with NatsServer(f"authorization {{ users: [{{user: a, password: b, {rules}}}] }}") as server:
        process = Process(create_backend(server.url.replace("//", "//a:b@")))
        async with running(process):
            await process.broker.subscribe("room")
            outcomes = await asyncio.gather(
                process.publish("room", "first"),
                process.publish("secret", "x"),
                process.broker.subscribe("secret"),
                process.publish("room", "second"),
                return_exceptions=True,
            )
            failed = [isinstance(outcome, BrokerUnavailable) for outcome in outcomes]
            assert failed == [False, True, True, False]
            assert "permissions violation" in str(outcomes[1])
            assert await process.receives(2) == ["first", "second"]
            assert process.changes == [True]
            assert process.broker.topics == {"room"}


@required(NatsServer)
async def test_a_wrong_password(caplog: pytest.LogCaptureFixture):
    with NatsServer("authorization { user: a, password: b }") as server:
        process = Process(create_backend(server.url.replace("//", "//a:hunter2@")), publish_timeout=0.5)
        async with running(process):
            assert not process.broker.up
    assert "Authorization Violation" in caplog.text
    assert "hunter2" not in caplog.text


@required(NatsServer)
async def test_the_server_decides_what_one_piece_is():
    with NatsServer("max_payload: 2000") as server:
        process = Process(create_backend(server.url))
        async with running(process):
            await process.broker.subscribe("room")
            bodies = ["x" * size for size in (1999, 2000, 2001, 1_000_000)]
            for body in bodies:
                await process.publish("room", body)
            assert await process.receives(4) == bodies
