"""The commands that speak over an application's broker: publish, listen, doctor."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest

from fastapi_channels.__main__ import main
from tests.channels.test_publisher import Auction, two_processes
from tests.support.live import ROOT, unique
from tests.support.servers import NatsServer, RedisServer, free_port

AUCTION = f"{Auction.__module__}:{Auction.__name__}"


class Done(NamedTuple):
    status: int
    out: str
    err: str


@asynccontextmanager
async def command(*words: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fastapi_channels", *words),
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # A shell that runs the tests in the background has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def run(*words: str, **environment: str) -> Done:
    async with command(*words, **environment) as process, asyncio.timeout(30):
        out, err = await process.communicate()
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), err.decode())


async def line(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None
    async with asyncio.timeout(30):
        return (await stream.readline()).decode().rstrip("\n")


async def test_publish_sends_to_a_room(shared_redis: RedisServer):
    namespace = unique()
    where = ("--namespace", namespace, "--url", shared_redis.url)
    async with (
        two_processes(shared_redis.url, namespace) as (here, there),
        here.connect("/rooms/a") as client,
        there.connect("/auctions/7") as bidder,
    ):
        assert await run("publish", "a", "said", '{"text": "hi"}', *where) == (0, "", "")
        assert await client.receive() == {
            "type": "event",
            "event": "said",
            "channel": "a",
            "data": {"text": "hi"},
        }
        bid = ("publish", "auction:7", "bid", "--channel", AUCTION, *where)
        assert await run(*bid, '{"amount": 5}') == (0, "", "")
        assert (await bidder.receive())["data"] == {"amount": 5}
        refused = await run(*bid, '{"amount": "much"}')
        assert (refused.status, refused.out) == (2, "")
        assert "the data does not fit the event" in refused.err


async def test_listen_prints_what_is_sent_until_it_is_interrupted(shared_redis: RedisServer):
    namespace = unique()
    environment = {"CHANNELS_URL": shared_redis.url}
    async with command("listen", "a", "--namespace", namespace, **environment) as listener:
        assert await line(listener.stderr) == "listening"
        for text in ("one", "two"):
            assert (await run("publish", "a", "said", f'"{text}"', "--namespace", namespace, **environment))[
                0
            ] == 0
            assert json.loads(await line(listener.stdout))["data"] == text
        listener.send_signal(signal.SIGINT)
        async with asyncio.timeout(10):
            assert await listener.wait() == 0
        assert listener.stderr is not None
        assert await listener.stderr.read() == b""


async def test_listen_ends_when_nobody_reads_any_more(shared_redis: RedisServer):
    namespace = unique()
    where = ("--namespace", namespace, "--url", shared_redis.url)
    read, write = os.pipe()
    listener = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fastapi_channels", "listen", "a", *where),
        cwd=ROOT,
        stdout=write,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(write)
    assert await line(listener.stderr) == "listening"
    os.close(read)
    assert (await run("publish", "a", "said", "1", *where)).status == 0
    async with asyncio.timeout(10):
        assert await listener.wait() == 0
    assert listener.stderr is not None
    assert await listener.stderr.read() == b""


async def test_the_doctor_says_which_processes_heard_it(shared_redis: RedisServer):
    namespace = unique()
    words = ("doctor", "--url", shared_redis.url, "--namespace", namespace)
    async with two_processes(shared_redis.url, namespace) as (here, there), here.connect("/rooms/a"):
        done = await run(*words)
    assert (done.status, done.err) == (0, "")
    for number, site in ((1, here), (0, there)):
        assert f"process {site.node.id} (host " in done.out
        assert f"pid {os.getpid()}): ready, {number} connections in {number} rooms" in done.out
    assert "broker: a message came back in" in done.out
    assert "store: answered in" in done.out
    assert "processes: 2 heard it within 1 s" in done.out
    alone = await run(*words)
    assert alone.status == 1
    assert "processes: 0 heard it" in alone.out


async def test_the_doctor_says_that_there_is_no_store(shared_redis: RedisServer, shared_nats: NatsServer):
    away = f"redis://127.0.0.1:{free_port()}"
    done = await run("doctor", "--url", shared_redis.url, "--store-url", away)
    assert done.status == 2
    assert "fastapi-channels: Redis did not answer within" in done.err
    without = await run("doctor", "--url", shared_nats.url, "--namespace", unique())
    assert (without.status, without.err) == (1, "")
    assert "store: none" in without.out


@pytest.mark.parametrize("words", [("publish", "a", "said", "1"), ("listen", "a"), ("doctor",)])
def test_a_broker_that_is_not_there_is_an_error(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]):
    url = f"redis://ada:s3cret@127.0.0.1:{free_port()}"
    assert main([*words, "--url", url]) == 2
    printed = capsys.readouterr()
    assert "fastapi-channels: the broker is down: " in printed.err
    assert "s3cret" not in printed.err + printed.out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("publish", "a", "said", "1"), "say where the broker is: --url, or CHANNELS_URL"),
        (("publish", "a", "said", "hello", "--url", "redis://x"), "the data is no JSON (a text is in quotes"),
        (("publish", "a", "said", "1", "--url", "memory://"), "memory:// never leaves its process"),
        (("doctor", "--url", "memory://"), "memory:// never leaves its process"),
        (("listen", "", "--url", "redis://x"), "A room name must have"),
        (("listen", "x", "--url", "redis://x", "--channel", AUCTION), "no room of Auction is named 'x'"),
        (("listen", "x", "--url", "redis://x", "--channel", "json:loads"), "'json:loads' is no channel"),
        (
            ("listen", "x", "--url", "redis://x", "--channel", "nowhere:X"),
            "there is no module 'nowhere' here",
        ),
    ],
)
def test_what_cannot_work_is_said(
    words: tuple[str, ...],
    problem: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.delenv("CHANNELS_URL", raising=False)
    assert main(words) == 2
    assert problem in capsys.readouterr().err
