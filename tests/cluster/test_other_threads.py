"""What is broadcast from a thread that has an event loop of its own, as `asyncio.run` gives it one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from fastapi import FastAPI

from fastapi_channels import Channel, Connection, action, add_channel
from tests.support.live import Client, Site, each_implementation, serving, wait_until
from tests.support.redis import RedisServer


class Room(Channel):
    @action()
    async def echo(self, data: dict[str, Any]) -> Any:
        return data["text"]


def application(url: str | None = None) -> tuple[FastAPI, Room]:
    app, room = FastAPI(), Room()
    add_channel(app, url=url)
    room.mount(app, "/{channel}")
    room.bind(app)

    @app.get("/say")
    def say() -> dict[str, Any]:
        asyncio.run(room.broadcast("lobby", "said", "from a thread"))
        return {"count": asyncio.run(room.get_connection_count("lobby"))}

    return app, room


async def in_a_thread(work: Callable[[], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        return await work()

    return await asyncio.to_thread(lambda: asyncio.run(run()))


async def answers(client: Client) -> bool:
    await client.send({"action": "echo", "request_id": 1, "text": "still here"})
    return (await client.receive_until(lambda frame: frame["type"] == "response"))["data"] == "still here"


@pytest.fixture(params=["memory", "redis"])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Site, Room]]:
    url = None
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("shared_redis")
        url = redis.url
    app, room = application(url)
    async with serving(app) as site:
        yield site, room


async def test_everybody_gets_it_and_the_room_goes_on(site: tuple[Site, Room]):
    served, room = site
    async with served.connect("/lobby") as ada, served.connect("/lobby") as bob:
        for turn in range(3):
            await in_a_thread(lambda turn=turn: room.broadcast("lobby", "said", turn))
            assert [(await client.receive())["data"] for client in (ada, bob)] == [turn, turn]
        assert await answers(ada)
        assert await answers(bob)


async def test_all_that_a_channel_asks_of_its_node_may_come_from_there(site: tuple[Site, Room]):
    served, room = site
    connections: list[Connection] = []

    async def remember(connection: Connection) -> None:
        connection.user = "ada"
        connections.append(connection)

    room.add_event_handler("join", remember)
    async with served.connect("/lobby") as ada:
        assert await answers(ada)
        (connection,) = connections
        assert await in_a_thread(lambda: room.get_connection_count("lobby")) == 1
        assert len(await in_a_thread(lambda: room.members("lobby"))) == 1
        if not served.node.broker.local:
            await wait_until(lambda: served.node.broker.topics >= set(served.node.rooms.topics))
        await in_a_thread(lambda: room.send_to_user("ada", "said", 1))
        assert (await ada.receive())["data"] == 1
        await in_a_thread(lambda: room.send_to_connection(connection.id, "said", 2))
        assert (await ada.receive())["data"] == 2
        await in_a_thread(lambda: room.broadcast_to_channel("lobby", {"data": 3}))
        assert (await ada.receive())["data"] == 3
        assert await answers(ada)


@each_implementation
async def test_a_plain_route_may_run_a_loop_of_its_own(ws: str):
    app, _ = application()
    async with serving(app, ws=ws) as site, site.connect("/lobby") as ada:
        async with site.client() as http:
            assert (await http.get("/say")).json() == {"count": 1}
        assert (await ada.receive())["data"] == "from a thread"
        assert await answers(ada)


async def test_many_threads_at_once_lose_nothing(site: tuple[Site, Room]):
    served, room = site
    start = threading.Barrier(8)

    def shout(thread: int) -> None:
        async def say() -> None:
            for number in range(20):
                await room.broadcast("lobby", "said", [thread, number])

        start.wait()
        asyncio.run(say())

    async with served.connect("/lobby") as ada:
        threads = [threading.Thread(target=shout, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        heard = [(await ada.receive())["data"] for _ in range(8 * 20)]
        for thread in threads:
            await asyncio.to_thread(thread.join)
        for number in range(8):
            assert [n for thread, n in heard if thread == number] == list(range(20)), "each in its order"
