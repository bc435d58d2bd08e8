"""Topics over two processes and a broker, from outside of both, heard by clients that come back."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI

from fastapi_channels import Channel, Connection, Publisher, Socket, SyncPublisher, action, add_channel
from fastapi_channels.client import Client
from fastapi_channels.client.room import Room
from fastapi_channels.cluster.node import Node
from tests.support.live import DEADLINE, serving, unique, wait_until
from tests.support.wire import node_of


class Prices(Channel):
    topics = True
    room_pattern = "price/{paper}/{what}"

    def may_receive(self, connection: Connection, paper: str, what: str) -> bool:
        return what != "hidden"

    @action()
    async def count(self, filter: str) -> int:
        return await self.get_connection_count(filter)


SERVERS = {"redis": "shared_redis", "postgresql": "shared_postgres"}


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(SERVERS[request.param]).url
    return found


def application(url: str, namespace: str) -> FastAPI:
    app = FastAPI()
    add_channel(app, url=url, namespace=namespace, publish_timeout=10.0)
    Socket(Prices()).mount(app, "/socket")
    return app


def hearing(room: Room) -> list[Any]:
    heard: list[Any] = []
    room.on_any(lambda data, about: heard.append((about.channel, data)))
    return heard


def space_of(node: Node, namespace: str) -> str:
    (space,) = [topic for topic in node.broker.topics if topic.startswith(namespace + "Prices")]
    return space


async def test_filters_are_reached_from_outside_and_come_back(url: str):
    namespace = unique()
    apps = [application(url, namespace) for _ in range(2)]
    async with (
        serving(apps[0]) as one,
        serving(apps[1]) as two,
        Publisher(url, namespace=namespace) as publisher,
        Client(one.http) as ada,
        Client(two.http) as bob,
    ):
        narrow = await ada.socket("/socket").room("price/+/last").ready()
        wide, twice = bob.socket("/socket").room("price/#"), bob.socket("/socket").room("price/acme/+")
        heard = [hearing(each) for each in (narrow, wide, twice)]
        await asyncio.gather(wide.ready(), twice.ready())
        nodes = [node_of(app) for app in apps]
        assert len({space_of(node, namespace) for node in nodes}) == 1
        for topic in ("price/acme/last", "price/acme/hidden", "price/b/first"):
            await publisher.broadcast(topic, "said", topic, channel=Prices)
        await wait_until(lambda: [len(each) for each in heard] == [1, 2, 1])
        last, first = [(topic, topic) for topic in ("price/acme/last", "price/b/first")]
        assert heard == [[last], [last, first], [last]]  # the client tells both of its rooms of one frame
        async with asyncio.timeout(DEADLINE):  # who is where is written down beside the joining
            while await narrow.call("count", {"filter": "price/#"}) != 1:
                await asyncio.sleep(0.01)
        for writer in [client.writer for client in nodes[1].sessions]:  # type: ignore[attr-defined]
            await writer.close(1012, "")
        await wait_until(lambda: wide.state == twice.state == "joining")
        await asyncio.gather(wide.ready(), twice.ready())
        with SyncPublisher(url, namespace=namespace) as plain:
            await asyncio.to_thread(plain.broadcast, "price/acme/last", "said", 2, channel=Prices)
        await wait_until(lambda: [len(each) for each in heard] == [2, 3, 2])
        assert [each[-1] for each in heard] == [("price/acme/last", 2)] * 3
