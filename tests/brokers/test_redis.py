"""The connections to Redis, and what answers where a Redis should."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from redis.asyncio import Connection

from fastapi_channels.brokers import Listening, NotSent, create_backend
from fastapi_channels.brokers.redis import RedisBackend
from fastapi_channels.brokers.redis.link import connection
from fastapi_channels.exceptions import BrokerUnavailable
from fastapi_channels.testing.clock import turns
from tests.support.brokers import PATIENT, Process, other_tasks, running
from tests.support.live import wait_until
from tests.support.servers import RedisServer, SentinelServer, free_port, required


def test_it_listens():
    assert isinstance(RedisBackend("redis://"), Listening)


async def test_before_it_is_connected():
    backend = RedisBackend("redis://")
    with pytest.raises(NotSent):
        await backend.publish("room", "x")
    with pytest.raises(NotSent):
        await backend.subscribe("room")
    await backend.disconnect()


async def test_after_it_is_disconnected(shared_redis: RedisServer):
    backend = RedisBackend(shared_redis.url)
    await backend.connect()
    await backend.disconnect()
    with pytest.raises(NotSent):
        await backend.publish("room", "x")
    with pytest.raises(NotSent):
        await backend.unsubscribe("room")
    with pytest.raises(ConnectionError):
        await backend.next_published()
    await backend.disconnect()
    assert other_tasks() == set()


async def test_what_is_published_at_once_goes_out_in_one_write(
    shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
):
    writes: list[int] = []
    backend = RedisBackend(shared_redis.url)
    await backend.connect()
    link = backend._publisher
    assert link is not None
    assert link._transport is not None
    real = link._transport

    def count(data: bytes) -> None:
        writes.append(data.count(b"PUBLISH"))
        real.write(data)

    # That of uvloop lets nobody replace its methods.
    monkeypatch.setattr(link, "_transport", SimpleNamespace(write=count, is_closing=real.is_closing))
    await asyncio.gather(*(backend.publish("room", str(number)) for number in range(100)))
    assert writes == [100]
    await backend.disconnect()


def test_no_connection_reads_files_of_redis_py_while_the_event_loop_waits(monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []
    monkeypatch.setattr("importlib.metadata.version", read.append)
    connection(Connection, {"host": "localhost"})
    assert read == []


@pytest.mark.filterwarnings("ignore:.*lib_name:DeprecationWarning")
def test_a_library_that_is_named_in_the_url_connects_by_that_name():
    made = connection(Connection, {"host": "localhost", "lib_name": "mine"})
    assert (made.driver_info.name if hasattr(made, "driver_info") else made.lib_name) == "mine"


async def test_what_waits_for_answers_is_bounded(mortal_redis: RedisServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fastapi_channels.brokers.redis.link.MAX_UNANSWERED", 10_000)
    process = Process(RedisBackend(mortal_redis.url))
    async with running(process):
        await process.broker.subscribe("room")
        mortal_redis.pause()
        bodies = [f"{number:02}" + "x" * 1000 for number in range(50)]
        publishing = [asyncio.create_task(process.publish("room", body)) for body in bodies]
        backend = process.broker._backend
        assert isinstance(backend, RedisBackend)
        link = backend._publisher
        assert link is not None
        await wait_until(lambda: link._size > 10_000)
        await turns()
        assert link._size < 12_000
        mortal_redis.resume()
        await asyncio.gather(*publishing)
        assert sorted(str(body) for body in await process.receives(50)) == bodies
        assert link._size == 0


async def test_those_that_wait_for_room_are_told_of_a_loss(
    mortal_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
):
    """They had sent nothing, so they go on with the next connection."""
    monkeypatch.setattr("fastapi_channels.brokers.redis.link.MAX_UNANSWERED", 1500)
    backend = RedisBackend(mortal_redis.url)
    process = Process(backend, publish_timeout=10)
    async with running(process):
        link = backend._publisher
        assert link is not None
        mortal_redis.pause()
        publishing = [asyncio.create_task(process.publish("room", "x" * 1000)) for _ in range(10)]
        await wait_until(lambda: link._size > 1500)
        process.broker.suspect("a test says so")
        await wait_until(lambda: link._error is not None)
        mortal_redis.resume()
        async with asyncio.timeout(30):
            outcomes = await asyncio.gather(*publishing, return_exceptions=True)
    assert [isinstance(outcome, BrokerUnavailable) for outcome in outcomes] == [True] * 2 + [False] * 8


async def test_what_its_caller_gave_up_before_it_was_sent_is_not_sent(shared_redis: RedisServer):
    process = Process(RedisBackend(shared_redis.url))
    async with running(process):
        await process.broker.subscribe("room")
        publishing = asyncio.create_task(process.publish("room", "given up"))
        await asyncio.sleep(0)
        publishing.cancel()
        await process.drained("room")
        assert publishing.cancelled()
        assert process.bodies == ["the last one"]


# Sentinel


async def test_the_server_that_a_sentinel_names(mortal_redis: RedisServer):
    from redis.asyncio.sentinel import Sentinel as Client

    with SentinelServer(mortal_redis) as sentinel:
        client = Client([("127.0.0.1", sentinel.port)])
        process = Process(RedisBackend(client=client.master_for("main")))
        async with running(process):
            await process.broker.subscribe("room")
            await process.publish("room", "x")
            assert await process.receives(1) == ["x"]
            await asyncio.to_thread(mortal_redis.kill)
            await wait_until(lambda: not process.broker.up)
            await asyncio.to_thread(mortal_redis.restart)
            await process.publish("room", "again")
            assert await process.receives(2) == ["x", "again"]
        for each in client.sentinels:
            await each.aclose()


# Other things at the other end


Answer = Callable[[bytes], bytes]


@asynccontextmanager
async def impostor(answer: Answer) -> AsyncIterator[int]:
    """Something that listens where a Redis should; its port."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(ConnectionResetError):
            while data := await reader.read(65536):
                writer.write(answer(data))
        writer.close()

    port = free_port()
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield port
    finally:
        server.close()
        for writer in writers:
            writer.close()
            with suppress(ConnectionResetError):
                await writer.wait_closed()


def hello(data: bytes) -> bytes:
    """Like a Redis for as long as the connection is made; then one answer too many."""
    if b"PING" in data:
        return b"+PONG\r\n" * data.count(b"PING") + b"+WELCOME\r\n"
    return b"+OK\r\n" * data.count(b"CLIENT")


@pytest.mark.parametrize(
    "answer",
    [
        hello,
        lambda data: b"HTTP/1.1 400 Bad Request\r\n\r\n",
        lambda data: b"-LOADING Redis is loading the dataset in memory\r\n",
        lambda data: b"-ERR max number of clients reached\r\n",
        lambda data: b"*-1\r\n",
        lambda data: b"",
    ],
    ids=["one answer too many", "http", "loading", "full", "nothing", "silence"],
)
async def test_what_is_no_redis_is_down(answer: Answer, caplog: pytest.LogCaptureFixture):
    async with impostor(answer) as port:
        process = Process(RedisBackend(f"redis://127.0.0.1:{port}"), publish_timeout=0.1)
        async with asyncio.timeout(30), running(process):
            with pytest.raises(BrokerUnavailable):
                await process.broker.subscribe("room")
        assert not process.broker.up
    assert "the broker " in caplog.text


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `key.pem` and `cert.pem`, for 127.0.0.1, signed by itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not on PATH")
    folder = tmp_path_factory.mktemp("tls")
    what = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    name = ["-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([openssl, *what, *name, *files], check=True, capture_output=True, timeout=300)
    return folder


@pytest.fixture
def tls_server(certificate: Path) -> Iterator[tuple[RedisServer, int]]:
    port = free_port()
    options = ["--tls-port", str(port), "--tls-auth-clients", "no"]
    for name, file in (("key", "key"), ("cert", "cert"), ("ca-cert", "cert")):
        options += [f"--tls-{name}-file", str(certificate / f"{file}.pem")]
    with RedisServer(*options) as server:
        yield server, port


@required(RedisServer)
async def test_tls(tls_server: tuple[RedisServer, int], certificate: Path):
    server, port = tls_server
    url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate / 'cert.pem'}"
    process = Process(create_backend(url), **PATIENT)
    async with running(process):
        await process.broker.subscribe("room")
        await process.publish("room", b"\xff" * 100_000)
        await process.receives(1)
        await asyncio.to_thread(server.kill)
        await wait_until(lambda: not process.broker.up)
        await asyncio.to_thread(server.restart)
        await wait_until(lambda: process.broker.up)
        await process.publish("room", "over TLS again")
        assert (await process.receives(2))[1] == "over TLS again"
    assert other_tasks() == set()


@required(RedisServer)
async def test_a_certificate_that_is_not_trusted(
    tls_server: tuple[RedisServer, int], caplog: pytest.LogCaptureFixture
):
    _, port = tls_server
    process = Process(create_backend(f"rediss://127.0.0.1:{port}"))
    async with running(process):
        await wait_until(lambda: "CERTIFICATE_VERIFY_FAILED" in caplog.text)
        assert not process.broker.up
