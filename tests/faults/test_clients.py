"""The clients of each language go through what a deployment, and its accidents, do to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from fastapi_channels.client import Client, Room
from tests.client.driven import Driven, in_chromium, in_node, in_python
from tests.support.live import process, wait_until
from tests.support.proxy import Proxy
from tests.support.servers import RedisServer, free_port
from tests.support.servers import running as a_server

SERVED = ("tests.client.served:create_app", "--factory")
CLIENTS = 200
LIVED_THROUGH = 5.0
"""Seconds of a cut that is not noticed."""


@pytest.fixture
def lasting_redis() -> Iterator[RedisServer]:
    """A server that has written down what it has confirmed."""
    yield from a_server(RedisServer, "--appendonly", "yes", "--appendfsync", "always")


async def say(client: Driven, text: str, room: str = "a") -> None:
    """Until it is known that it was said."""
    while "reply" not in await client.call(room, "say", text=text):
        await asyncio.sleep(0.1)


def once_and_in_order(clients: Sequence[Driven], spoken: Sequence[str]) -> None:
    """A text that was said again, because the reply to the first was lost, stands twice for everybody."""
    heard = [[said["text"] for said in client.of("a", "said")] for client in clients]
    assert all(each == heard[0] for each in heard)
    assert list(dict.fromkeys(heard[0])) == list(spoken)


@asynccontextmanager
async def without_network(
    url: str, cables: Sequence[Proxy], seconds: float
) -> AsyncIterator[dict[str, Room]]:
    """Cut the cables for so long, with rooms of a client that is not behind them. Where that is long, no
    connection outlives it."""
    async with Client(url, proxy=None) as client:
        outside = {
            name: await client.room(f"/{name}/{{channel}}", channel="lobby").ready()
            for name in ("rooms", "brief")
        }
        for cable in cables:
            cable.freeze()
        ends = asyncio.get_running_loop().time() + seconds
        yield outside
        await asyncio.sleep(ends - asyncio.get_running_loop().time())
        for cable in cables:
            if seconds > LIVED_THROUGH:
                cable.cut()
            cable.thaw()


async def test_one_script_in_a_browser_in_node_and_in_python(lasting_redis: RedisServer):
    """A text that was said again, as the reply to the first was lost, stands twice for everybody."""
    environment = {"CHANNELS_URL": lasting_redis.url}
    port = str(free_port())
    spoken: list[str] = []
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(process(*SERVED, environment=environment))
        cables = [await stack.enter_async_context(Proxy(at)) for at in (int(port), other.site.port)]
        clients: list[Driven] = []

        async def speak(text: str) -> None:
            for number, client in enumerate(clients):
                spoken.append(f"{text} {number}")
                await say(client, spoken[-1])

        async def all_have_heard() -> None:
            last = spoken[-1]
            await wait_until(
                lambda: all({"text": last} in client.of("a", "said") for client in clients), within=60
            )

        async with process(*SERVED, "--port", port, environment=environment) as mortal:
            home, away = (f"http://127.0.0.1:{cable.port}" for cable in cables)
            for language, url in ((in_chromium, home), (in_node, away), (in_python, home)):
                client = await stack.enter_async_context(language(url))
                for id, address in (("a", "/rooms/{channel}"), ("brief", "/brief/{channel}")):
                    client.do("room", id=id, address=address, parameters={"channel": "lobby"})
                    await client.until(lambda told, id=id: told == {"id": id, "state": "joined"})
                clients.append(client)
            await speak("at first")
            await all_have_heard()
            await mortal.kill()
        await say(clients[1], "while one is away")
        spoken.append("while one is away")
        async with process(*SERVED, "--port", port, environment=environment):
            await speak("one was killed")
            await asyncio.to_thread(lasting_redis.kill)
            await asyncio.to_thread(lasting_redis.restart)
            await speak("redis is back")
            # Each room has a socket of its own, and a time of its own to come back.
            await say(clients[0], "brief is back", room="brief")
            for client in clients:
                await client.until(lambda told: told == {"id": "brief", "said": {"text": "brief is back"}})
            for cut in (1, 10):
                async with without_network(other.site.http, cables, cut) as outside:
                    spoken.append(f"cut for {cut} s")
                    await outside["rooms"].call("say", {"text": spoken[-1]}, timeout=30.0)
                    for number in range(5):
                        text = {"text": f"brief {number} of {cut}"}
                        await outside["brief"].call("say", text, timeout=30.0)
                await speak(f"back after {cut} s")
                await all_have_heard()
            once_and_in_order(clients, spoken)
            assert [client.of("a", "gap") for client in clients] == [[], [], []]
            # What was not reset lives on, and misses nothing. The long cut was longer than that history: who
            # was away is told so, and hears what comes then.
            for client in clients:
                await client.until(lambda told: told.get("gap") in ("expired", "limit"))
            await say(clients[0], "brief again", room="brief")
            for client in clients:
                await client.until(lambda told: told == {"id": "brief", "said": {"text": "brief again"}})
                heard = [said["text"] for said in client.of("brief", "said")]
                assert heard[:6] == ["brief is back", *(f"brief {number} of 1" for number in range(5))]
                assert heard[-1] == "brief again"
                assert len(heard) == len(set(heard)) < 6 + 5 + 1
            gaps = [client.of("brief", "gap") for client in clients]
            assert [len(each) for each in gaps] == [1, 1, 1], gaps


@pytest.mark.parametrize("language", [in_node, in_python])
async def test_two_hundred_clients_go_through_a_deploy(lasting_redis: RedisServer, language: Any):
    port = str(free_port())
    served = (*SERVED, "--port", port)
    environment = {"CHANNELS_URL": lasting_redis.url}
    ids = [str(number) for number in range(CLIENTS)]
    async with language(f"http://127.0.0.1:{port}") as client:
        async with process(*served, environment=environment) as server:
            for id in ids:
                client.do("room", id=id, address="/rooms/{channel}", parameters={"channel": "lobby"})
            await wait_until(lambda: all("joined" in client.of(id, "state") for id in ids), within=60)
            assert (await client.call("0", "say", text="before"))["reply"] == 6
            await wait_until(lambda: all(client.of(id, "said") for id in ids), within=60)
            assert await server.terminate() == 0
        async with process(*served, environment=environment):
            assert (await client.call("0", "say", text="after"))["reply"] == 5
            await wait_until(lambda: all(len(client.of(id, "said")) == 2 for id in ids), within=60)
        assert all(client.of(id, "said") == [{"text": "before"}, {"text": "after"}] for id in ids)
        assert all(client.of(id, "gap") == [] for id in ids)
        left: dict[str, float] = {}
        for told, at in zip(client.told, client.at, strict=True):
            if told.get("state") == "joining":
                left.setdefault(told["id"], at)
        instants = sorted(left.values())
        window = instants[-1] - instants[0]
        assert len(instants) == CLIENTS
        assert window >= 0.5, "of a drain of one second"
        assert sum(at < instants[0] + window / 5 for at in instants) <= CLIENTS / 2
