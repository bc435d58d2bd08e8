"""Mounting: what a route may depend on, whichever way it was added, and that nothing is skipped."""

from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, WebSocketException
from fastapi.routing import APIWebSocketRoute

from fastapi_channels import Channel, ConfigurationError, Connection, Socket, action, add_channel
from tests.support.live import serving


def only_members(x_member: Annotated[str, Header()] = "") -> None:
    if x_member != "yes":
        raise WebSocketException(code=1008)


class Room(Channel):
    @action()
    async def where(self, channel: str) -> str:
        return channel


async def is_guarded(app: FastAPI) -> bool:
    """Whether it takes a member to get in; members do in any case."""
    async with serving(app) as site:
        async with site.connect("/r", additional_headers={"x-member": "yes"}) as client:
            assert (await client.call("where"))["data"] == "r"
        try:
            return (await site.refusal("/r")).status == 403
        except AssertionError:
            return False


def is_short(app: FastAPI) -> bool:
    """Whether the route leads to the channel without FastAPI's resolver."""
    route = app.routes[-1]
    return isinstance(route, APIWebSocketRoute) and route.app.__module__.startswith("fastapi_channels.")


async def test_a_route_that_depends_on_nothing_is_short():
    app = FastAPI()
    add_channel(app)
    Room().mount(app, "/{channel}")
    assert is_short(app)
    assert not await is_guarded(app)


async def test_a_socket_that_depends_on_nothing_is_short():
    app = FastAPI()
    add_channel(app)
    Socket(Room()).mount(app, "/socket")
    assert is_short(app)
    async with serving(app) as site, site.connect("/socket") as client:
        await client.send({"type": "join", "channel": "r"})
        assert (await client.receive())["type"] == "joined"


async def test_dependencies_of_the_route_are_resolved():
    app = FastAPI()
    add_channel(app)
    Room().mount(app, "/{channel}", dependencies=[Depends(only_members)])
    assert not is_short(app)
    assert await is_guarded(app)


async def test_dependencies_of_the_application_are_resolved():
    app = FastAPI(dependencies=[Depends(only_members)])
    add_channel(app)
    Room().mount(app, "/{channel}")
    assert await is_guarded(app)


async def test_dependencies_of_a_router_are_resolved():
    router = APIRouter(dependencies=[Depends(only_members)])
    Room().mount(router, "/{channel}")
    app = FastAPI()
    add_channel(app)
    app.include_router(router)
    assert await is_guarded(app)


async def test_dependencies_that_a_router_is_included_with_are_resolved():
    router = APIRouter()
    Room().mount(router, "/{channel}")
    app = FastAPI()
    add_channel(app)
    app.include_router(router, dependencies=[Depends(only_members)])
    assert await is_guarded(app)


async def test_dependencies_that_an_applications_routes_are_included_with_are_resolved():
    inner = FastAPI()
    Room().mount(inner, "/{channel}")
    app = FastAPI()
    add_channel(app)
    app.include_router(inner.router, dependencies=[Depends(only_members)])
    assert await is_guarded(app)


async def test_the_value_of_a_dependency_is_the_user() -> None:
    def name_of(x_name: Annotated[str, Header()]) -> str:
        return x_name

    class Who(Channel):
        @action()
        async def who(self, connection: Connection) -> str:
            return f"{connection.user} in {connection.room}"

    app = FastAPI()
    add_channel(app)
    Who().mount(app, "/rooms/{channel}", user=name_of)
    Socket(Who()).mount(app, "/socket", user=name_of)
    headers = {"x-name": "ann"}
    async with serving(app) as site:
        async with site.connect("/rooms/r", additional_headers=headers) as client:
            assert (await client.call("who"))["data"] == "ann in r"
        assert (await site.refusal("/rooms/r")).status == 403
        async with site.connect("/socket", additional_headers=headers) as client:
            await client.send({"type": "join", "channel": "r"})
            assert (await client.receive())["type"] == "joined"
            assert (await client.call("who", channel="r"))["data"] == "ann in r"


async def test_any_convertor_may_read_the_room() -> None:
    app = FastAPI()
    add_channel(app)
    Room().mount(app, "/deep/{channel:path}")
    Room().mount(app, "/of/{tenant}/{channel}")
    async with serving(app) as site:
        async with site.connect("/deep/a/b") as client:
            assert (await client.call("where"))["data"] == "a/b"
        async with site.connect("/of/x/r") as client:
            assert (await client.call("where"))["data"] == "r"


@pytest.mark.parametrize("path", ["/rooms/{room}", "/{a}/{b:int}"])
def test_a_parameter_that_names_no_room_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="everybody into one room"):
        Room().mount(FastAPI(), path)


def test_where_there_is_a_pattern_it_is_named() -> None:
    class Numbered(Channel):
        room_pattern = "room:{n}"

    with pytest.raises(
        ConfigurationError, match=r"{channel}, which is the whole name of one of room_pattern = "
    ):
        Numbered().mount(FastAPI(), "/rooms/{n}")
