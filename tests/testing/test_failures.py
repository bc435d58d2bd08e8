"""What the application raises, in process and over a real server, for tests with a loop and without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Protocol

import pytest
from fastapi import FastAPI, HTTPException, WebSocket

from fastapi_channels import BaseChannel, Channel, Connection, Socket, WebSocketException, action, add_channel
from fastapi_channels.client import Client as RealClient
from fastapi_channels.testing import Site, SyncSite, refused, running, serving
from tests.support.live import wait_until


class Handled(Exception):
    """A handler of the application answers it."""


class Opening(Protocol):
    def __call__(self, app: Any, **options: Any) -> AbstractAsyncContextManager[Site]: ...


def shown(connection: Connection, frame: dict[str, Any]) -> Any:
    return 1 // 0


class Room(Channel):
    """Named by what fails in it."""

    for_each = [shown]

    async def authorize(self, connection: Connection) -> bool:
        return connection.room != "entry" or bool(1 / 0)

    @action()
    async def divide(self) -> float:
        return 1 / 0

    @action()
    async def raises(self, what: str, connection: Connection) -> None:
        if what == "cancelled":
            raise asyncio.CancelledError
        if what == "timeout":
            raise TimeoutError("of the application")
        if what == "show":
            await self.broadcast(connection.room, "said", 1, for_each=shown)
            return
        raise {"handled": Handled(), "http": HTTPException(503, "x"), "own": WebSocketException(4000)}[what]

    @action()
    async def stream(self) -> AsyncIterator[int]:
        yield 1
        yield 1 // 0

    @action(permission=lambda *_, **__: bool(1 / 0))
    async def guarded(self) -> None: ...


async def fails_in(room: str, channel: str) -> None:
    if room == channel:
        raise ZeroDivisionError(f"as it {room}s")


def create_app() -> FastAPI:
    app = FastAPI()
    add_channel(app)
    room = Room(
        on_join=lambda websocket, channel: fails_in("join", channel),
        on_leave=lambda websocket, channel: fails_in("leave", channel),
    )
    room.mount(app, "/rooms/{channel}")
    Socket(room).mount(app, "/many")
    BaseChannel().mount(app, "/relay/{channel}")

    @app.exception_handler(Handled)
    async def handled(websocket: Any, exc: Handled) -> dict[str, str]:
        return {"event": "handled"}

    @app.websocket("/refuses")
    async def refuses(websocket: WebSocket) -> None:
        assert "x-channels-testing" not in websocket.headers
        raise ZeroDivisionError

    @app.websocket("/breaks")
    async def breaks(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_text()
        raise ZeroDivisionError

    @app.websocket("/silent")
    async def silent(websocket: WebSocket) -> None:
        """Neither accept nor refuse."""

    @app.websocket("/login")
    async def login(websocket: WebSocket) -> None:
        raise HTTPException(401, "log in first")

    return app


@pytest.fixture(params=[running, serving])
def opening(request: pytest.FixtureRequest) -> Opening:
    found: Opening = request.param
    return found


@pytest.mark.parametrize("fluent", [True, False])
async def test_of_an_action_it_is_raised_where_the_reply_is_awaited(opening: Opening, fluent: bool):
    async with opening(create_app()) as site:
        ann, bob = [await site.client("/rooms/lobby", fluent=fluent) for _ in range(2)]
        with pytest.raises(ZeroDivisionError):
            await bob.call(Room.divide)
        with pytest.raises(TimeoutError, match="of the application"):
            await bob.call("raises", what="timeout")
        with pytest.raises(RuntimeError, match="CancelledError"):
            await refused(bob.call("raises", what="cancelled"))
        with pytest.raises(ZeroDivisionError):
            _ = [item async for item in bob.stream("stream")]
        with pytest.raises(ZeroDivisionError):  # and not that the permission is denied
            await refused(bob.call("guarded"))
        # The replies have come with what was raised; and nothing of it concerns who did not ask.
        await bob.expect_nothing()
        await ann.expect_nothing()


async def test_on_a_socket_it_is_that_of_the_client(opening: Opening):
    async with opening(create_app()) as site:
        ann, bob = await site.client("/many"), await site.client("/many")
        await ann.join("a")
        await bob.join("a")
        with pytest.raises(ZeroDivisionError):
            await bob.call("guarded", room="a")
        await bob.send({"type": "join", "channel": "join"})
        with pytest.raises(ZeroDivisionError, match="as it joins"):
            await bob.expect("said")
        await ann.send({"action": "raises", "what": "show", "channel": "a"})
        for client in (ann, bob):  # each was to be shown it
            with pytest.raises(ZeroDivisionError):
                await client.expect("said")


async def test_what_is_meant_for_the_client_is_not_raised(opening: Opening):
    async with opening(create_app()) as site:
        ann = await site.client("/rooms/lobby")
        assert (await refused(ann.call("raises", what="http"))).code == "http_error"
        await ann.send({"action": "raises", "what": "handled"})
        await ann.expect("handled")
        assert (await refused(ann.call("no such action"))).code == "unknown_action"
        assert (await refused(ann.call("raises"))).code == "invalid_payload"
        await ann.send({"action": "raises", "what": "own"})
        await ann.expect_close(4000)
        for path, status in (
            ("/silent", "HTTP 403" if opening is running else "HTTP 500"),
            ("/login", "HTTP 401"),
        ):
            assert status in str(await site.refusal(path))


async def test_of_a_handshake_and_of_an_endpoint(opening: Opening):
    async with opening(create_app()) as site:
        for path in ("/refuses", "/rooms/entry"):
            with pytest.raises(ZeroDivisionError):
                await site.client(path)
        client = await site.client("/breaks")
        await client.send("text")
        with pytest.raises(ZeroDivisionError):
            await client.expect("said")
        await client.expect_close()


async def test_of_a_join_handler(opening: Opening):
    async def join(site: Site) -> None:
        """Over a server it may be raised already while the client waits to be let in."""
        client = await site.client("/rooms/join")
        await client.expect_close()

    async with opening(create_app()) as site:
        with pytest.raises(ZeroDivisionError, match="as it joins"):
            await join(site)
        client = await site.client("/rooms/join", raise_server_exceptions=False)
        assert (await client.expect_close(1011)).code == 1011


async def test_of_a_leave_handler_at_the_end(opening: Opening):
    with pytest.raises(ZeroDivisionError, match="as it leaves"):
        async with opening(create_app()) as site, site.connect("/rooms/leave"):
            pass
    async with running(create_app()) as site:
        client = await site.client("/rooms/leave")
        with pytest.raises(ZeroDivisionError, match="as it leaves"):
            await client.close()


async def test_none_of_several_is_lost(opening: Opening):
    async def leave(number: int) -> None:
        async with opening(create_app()) as site:
            for _ in range(number):
                await site.client("/rooms/leave")

    with pytest.raises(ExceptionGroup) as raised:
        await leave(2)
    assert [type(exc) for exc in raised.value.exceptions] == [ZeroDivisionError] * 2


async def test_where_the_test_fails_it_says_what_was_raised(opening: Opening):
    async def fail() -> None:
        async with opening(create_app()) as site:
            ann, bob = await site.client("/rooms/lobby"), await site.client("/rooms/lobby")
            await bob.send({"action": "divide"})
            await wait_until(lambda: any("errors" in frame for frame in bob.received))
            await ann.expect("said", within=0)

    with pytest.raises(AssertionError, match="no event 'said'") as failed:
        await fail()
    assert isinstance(failed.value.__cause__, ZeroDivisionError)
    assert "ZeroDivisionError" in failed.value.__notes__[0]


async def test_who_wants_to_see_what_a_client_sees(opening: Opening):
    async with opening(create_app(), raise_server_exceptions=False) as site:
        ann = await site.client("/rooms/leave")
        assert (await refused(ann.call("divide"))).code == "internal_error"
        assert (await refused(ann.call("guarded"))).code == "permission_denied"
        assert "HTTP 500" in str(await site.refusal("/refuses"))
        await (await site.client("/rooms/join")).expect_close(1011)
        careful = await site.client("/rooms/lobby", raise_server_exceptions=True)
        with pytest.raises(ZeroDivisionError):
            await careful.call("divide")
    async with opening(create_app()) as site:
        ann = await site.client("/rooms/lobby", raise_server_exceptions=False)
        assert (await refused(ann.call("divide"))).code == "internal_error"


async def test_of_clients_that_are_not_of_the_kit_at_the_end():
    async def call() -> None:
        async with serving(create_app()) as site, RealClient(site.url) as client:
            assert (await refused(client.room("/rooms/{channel}", channel="lobby").call(Room.divide))).code

    with pytest.raises(ZeroDivisionError):
        await call()


@pytest.mark.parametrize("raises", [True, False])
async def test_of_a_task_that_nobody_awaits(opening: Opening, raises: bool):
    async def call() -> None:
        async with opening(create_app(), raise_server_exceptions=raises) as site:
            ann = await site.client("/rooms/lobby")
            begun = [asyncio.create_task(fails_in("task", "task"))]
            await asyncio.wait(begun)
            begun.clear()
            with pytest.raises(AssertionError) as raised:
                await ann.expect("said", within=0)
            assert isinstance(raised.value.__cause__, ZeroDivisionError) == raises

    heard: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: heard.append(context["exception"]))
    with pytest.raises(ZeroDivisionError) if raises else nullcontext():
        await call()
    assert [type(exc) for exc in heard] == [ZeroDivisionError]


def test_without_a_loop(opening: Opening):
    with SyncSite(opening(create_app())) as site:
        ann = site.client("/rooms/lobby")
        with pytest.raises(ZeroDivisionError):
            ann.call("divide")
        with pytest.raises(ZeroDivisionError):
            ann.refused("guarded")
        with pytest.raises(ZeroDivisionError):
            list(ann.stream("stream"))
        ann.expect_nothing()
        with pytest.raises(ZeroDivisionError):
            site.client("/refuses")
    with pytest.raises(ZeroDivisionError, match="as it leaves"), SyncSite(opening(create_app())) as site:
        site.client("/rooms/leave")
    with SyncSite(opening(create_app(), raise_server_exceptions=False)) as site:
        assert site.client("/rooms/lobby").refused("divide").code == "internal_error"
