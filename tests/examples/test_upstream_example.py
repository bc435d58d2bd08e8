"""The upstream package's own example, unchanged, on this package: every socket, every action."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.live import ROOT, Client, ServerProcess, Site, process
from tests.support.servers import RedisServer, required

EXAMPLE = Path(__file__).parents[1] / "data" / "upstream_example.py.txt"
PORT = 6379
"""Where the example expects its Redis."""

pytestmark = required(RedisServer)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            pytest.skip(f"somebody else's server has the port {PORT}, which the example names")
    server = RedisServer()
    server.port = PORT
    with server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The example as a user has it: with its neighbour, from the folder it is run in."""
    (tmp_path / "main.py").write_bytes(EXAMPLE.read_bytes())
    (tmp_path / "path.py").write_text(f"TemplatePath = {str(tmp_path)!r}\n")
    return tmp_path


async def test_it_serves_its_three_sockets_twice_in_a_row(redis: RedisServer, folder: Path):
    async with serving(folder) as server:
        await chat_base(server.site)
        await chat_person(server.site)
        await chat_group(server.site)
        assert_quiet(server)
    async with serving(folder) as server:
        async with server.site.connect("/person") as client:
            assert (await client.call("count", user="ann"))["code"] == "rate_limited"
        redis.ask("FLUSHALL")
        await chat_base(server.site)
        await chat_person(server.site)
        await chat_group(server.site)
        await server.terminate()
        assert_quiet(server)


def serving(folder: Path) -> Any:
    return process("main:app", folder=folder, environment={"PYTHONPATH": str(ROOT)})


def assert_quiet(server: ServerProcess) -> None:
    assert not [line for line in server.lines if "Traceback" in line or "Warning" in line]


async def chat_base(site: Site) -> None:
    async with site.clients("/base", "/base") as (one, other):
        for frame in ("hello", '{"any": "thing"}', b"\x00\x01"):
            await one.send(frame)
            assert [await one.read(), await other.read()] == [frame, frame]


async def chat_person(site: Site) -> None:
    async with site.clients("/person", "/person") as (ann, bob):
        assert (await site.refusal("/person")).status == 503
        for client in (ann, bob):
            assert await client.call("count", user="x", message="", request_id=7) == {
                "action": "count",
                "user": "x",
                "message": 2,
                "status": "ok",
                "request_id": 7,
            }
        limited = await ann.call("count", user="ann", request_id=8)
        assert is_error(limited, "rate_limited", 8)
        assert 2900 < limited["retry_after"] <= 3000

        said = {"action": "message", "user": "ann", "message": "你好", "status": "ok", "request_id": 1}
        await ann.send({"action": "message", "user": "ann", "message": "你好"})
        assert [await ann.receive(), await bob.receive()] == [said, said]

        for action, code in [
            ("deprecated_action", "deprecated"),
            ("permission_denied", "permission_denied"),
            ("error", "permission_denied"),
            ("nothing", "unknown_action"),
        ]:
            assert is_error(await ann.call(action, user="ann", request_id=9), code, 9)
        await ann.send({"action": "close"})
        assert (await ann.closed()).code == 1000
        await bob.send({"action": "message", "user": "bob", "message": "alone"})
        assert (await bob.receive())["message"] == "alone"


async def chat_group(site: Site) -> None:
    async with site.clients("/group", "/group", "/group") as (ann, bob, eve):
        for client in (ann, bob, eve):
            assert await client.read() == "Join successfully"
        await ann.send({"action": "message", "user": "ann", "message": "hello"})
        for client in (ann, bob, eve):
            assert (await client.receive())["message"] == "hello"
        limited = await ann.call("message", user="ann", message="again", request_id=2)
        assert is_error(limited, "rate_limited", 2)
        assert 0 < limited["retry_after"] <= 3
        assert is_error(await ann.call("error_false", request_id=3), "permission_denied", 3)

        assert is_error(await eve.call("error_true", request_id=4), "permission_denied", 4)
        assert (await eve.closed()).code == 1008
        assert [await ann.read(), await bob.read()] == ["leave successfully"] * 2
        await bob.send({"action": "close"})
        assert (await bob.closed()).code == 1000
        assert await ann.read() == "leave successfully"

        async with asyncio.timeout(30):
            while is_error(frame := await again(ann), "rate_limited", 5):
                await asyncio.sleep(frame["retry_after"])
        assert frame["message"] == "later"


async def again(client: Client) -> Any:
    return await client.call("message", user="ann", message="later", request_id=5)


def is_error(frame: Any, code: str, request_id: int) -> bool:
    """Whether `frame` is an error of that code, in the form that upstream's clients know."""
    if frame["status"] != "bad":
        return False
    assert frame["type"] == "response"
    assert frame["data"] is None
    assert frame["errors"]
    return (frame["code"], frame["request_id"]) == (code, request_id)
