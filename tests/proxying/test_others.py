"""A proxy in front of servers of other frameworks and of another language, each in a process of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.asgi import AsgiServer
from tests.support.live import DEADLINE, Client, Close, Site, serving
from tests.support.npm import NODE, installed
from tests.support.servers import Server, required

from .echo import ON_NODE
from .gateway import MB, Large, gateway

pytestmark = required(AsgiServer)

WS: Final = "8.23.0"


class Node(Server):
    """The package `ws` of npm."""

    binary = NODE

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._packages = folder / "node_modules"

    def command(self) -> Sequence[str]:
        return (NODE, "--eval", ON_NODE, str(self.port))

    def environment(self) -> dict[str, str]:
        return {"NODE_PATH": str(self._packages)}

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), DEADLINE):
            return True


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    try:
        folder = installed("ws", {"ws": WS})
    except (OSError, subprocess.SubprocessError) as exc:
        pytest.skip(f"npm cannot install ws: {exc}")
    with Node(folder) as started:
        yield started


@pytest.fixture(scope="module", params=["hypercorn", "daphne", "ws"])
def other(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param == "ws":
        yield request.getfixturevalue("node")
        return
    with AsgiServer(request.param, "tests.proxying.echo:app") as started:
        yield started


def name(other: Server) -> str:
    return other.name if isinstance(other, AsgiServer) else "ws"


@asynccontextmanager
async def in_front(other: Server, **settings: Any) -> AsyncIterator[Site]:
    """A gateway to `other`, that nothing is left in."""
    app = gateway(Large(f"ws://127.0.0.1:{other.port}/", **settings))
    async with serving(app) as site, site.unharmed():
        yield site


async def test_large_messages_pass_both_ways_whole_and_in_parts(other: Server):
    size = MB if name(other) == "daphne" else 16 * MB  # it takes no larger frame
    empty = () if name(other) == "daphne" else ("", b"")  # it sends none
    async with in_front(other) as site, site.connect("/") as client:
        for message in (*empty, "grüß dich", b"\0\xff", "x" * 100_000):
            await client.send(message)
            assert await client.read() == message
        for large in (b"\1" * size, "y" * size):
            for sent in (large, [large[at : at + size // 16] for at in range(0, size, size // 16)]):
                await client.socket.send(sent)
                # Nobody wants to read how two of these differ.
                assert (await client.read() == large) is True


AS_TOLD: Final = {"hypercorn": [1006, ""], "daphne": [4000, ""], "ws": [4000, "why"]}
"""What an application is told of a client that closes with 4000, "why"."""


async def test_codes_and_reasons_pass_both_ways(other: Server):
    async with in_front(other) as site:
        async with site.connect("/") as client:
            await client.send("close 4321 why")
            assert await client.closed() == Close(4321, "" if name(other) == "daphne" else "why")
        async with site.connect("/") as client:
            await client.close(4000, "why")
        async with site.connect("/") as client:
            assert await left(client) == AS_TOLD[name(other)]


async def left(client: Client) -> Any:
    """How the client before has left, as soon as the other server knows: the one before that was told to."""
    async with asyncio.timeout(DEADLINE):
        while True:
            await client.send("left")
            found = json.loads(await client.read())
            if found is not None and found[0] != 4321:
                return found


async def test_the_subprotocol_is_what_the_other_server_takes(other: Server):
    async with (
        in_front(other, pass_subprotocols=["v1", "v2"]) as site,
        site.connect("/", subprotocols=["v3", "v2", "v1"]) as client,
    ):
        assert client.socket.subprotocol == "v2"


async def test_a_ping_of_the_other_server_is_answered(node: Node):
    async with in_front(node) as site, site.connect("/") as client:
        await client.send("ping there?")
        assert await client.read() == "pong there?"
