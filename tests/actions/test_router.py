"""Actions that are written apart from their channel, and names that catch what has no action of its own."""

import inspect
from typing import Any

import pytest
from fastapi import WebSocket

from fastapi_channels import (
    ActionRouter,
    BasePermission,
    Channel,
    ConfigurationError,
    Connection,
    action,
    limiter,
)
from tests.support.wire import Wire, dial, serving


async def outcomes(channel: Channel, *names: str) -> list[Any]:
    """What comes back for a call of each name: the data of a reply, the code of an error."""
    async with serving(channel) as app, dial(app, "/r") as wire:
        return [await outcome(wire, name) for name in names]


async def outcome(wire: Wire, name: str) -> Any:
    wire.call(name, request_id=name)
    frame = await wire.receive()
    if "request_id" not in frame:
        return frame
    assert frame["request_id"] == name
    return frame.get("code", frame["data"])


def router_of(*names: str, prefix: str = "", **options: Any) -> ActionRouter:
    """A router with actions that reply with their names."""
    router = ActionRouter(prefix, **options)
    for name in names:

        async def reply(action: str) -> str:
            return action

        router.action(name)(reply)
    return router


# Where a router's actions are


async def test_a_class_has_the_actions_of_its_routers():
    class Room(Channel):
        routers = (router_of("a", prefix="x."), router_of("a", "b"))

        @action()
        async def own(self) -> str:
            return "own"

    class Sub(Room): ...

    class Other(Room):
        routers = ()

    assert Room().actions == ["own", "x.a", "a", "b"]
    assert await outcomes(Room(), "own", "x.a", "a", "b", "x.b") == ["own", "x.a", "a", "b", "unknown_action"]
    assert await outcomes(Sub(), "own", "x.a") == ["own", "x.a"]
    assert await outcomes(Other(), "own", "x.a") == ["own", "unknown_action"]


async def test_an_instance_may_include_more():
    class Room(Channel):
        routers = (router_of("a"),)

    one, other = Room(), Room()
    one.include_router(router_of("b", prefix="late."))
    assert (one.actions, other.actions) == (["a", "late.b"], ["a"])
    assert await outcomes(one, "a", "late.b") == ["a", "late.b"]


async def test_routers_may_be_nested():
    inner, middle, outer = router_of("a", prefix="inner."), router_of("b", prefix="middle/"), router_of("c")
    middle.include_router(inner)
    outer.include_router(middle)
    room = Channel()
    room.include_router(outer)
    # The same router may be included in several places.
    room.include_router(inner)
    assert room.actions == ["c", "middle/b", "middle/inner.a", "inner.a"]
    assert await outcomes(room, *room.actions) == room.actions


async def test_functions_take_what_those_of_a_channel_take():
    router = ActionRouter()

    @router.action("add")
    def plain(a: int, b: int = 1) -> int:
        return a + b

    @router.action(description="who asks")
    async def who(connection: Connection, number: int) -> Any:
        return [type(connection.channel).__name__, number]

    assert plain(1, 2) == 3

    class Room(Channel):
        routers = (router,)
        room_pattern = "room:{number:int}"

    async with serving(Room()) as app, dial(app, "/room:5") as wire:
        wire.call("add", a=1)
        assert (await wire.receive())["data"] == 2
        wire.call("who")
        assert (await wire.receive())["data"] == ["Room", 5]


async def test_a_limit_of_an_action():
    router = ActionRouter("x.")

    @router.action()
    @limiter(times=1, seconds=3600)
    async def above() -> str:
        return "ok"

    @limiter(times=1, seconds=3600)
    @router.action()
    async def below() -> str:
        return "ok"

    room = Channel()
    room.include_router(router)
    expected = ["ok", "rate_limited"]
    assert await outcomes(room, "x.above", "x.above", "x.below", "x.below") == expected * 2


# What a router adds to its actions


class Named(BasePermission):
    def __init__(self, name: str, asked: list[str]) -> None:
        self.name = name
        self.asked = asked

    def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> bool:
        self.asked.append(self.name)
        return self.name != "never"


async def test_permissions_are_asked_from_the_outside_in():
    asked: list[str] = []
    inner = ActionRouter(permission=Named("inner", asked))
    outer = ActionRouter(permission=Named("outer", asked))

    @inner.action(permission=Named("action", asked))
    async def run() -> str:
        return "ran"

    @inner.action(permission=Named("never", asked))
    async def never() -> str:
        return "ran"

    outer.include_router(inner)
    room = Channel()
    room.include_router(outer)
    assert await outcomes(room, "run", "never") == ["ran", "permission_denied"]
    assert asked == ["outer", "inner", "action", "outer", "inner", "never"]


def test_tags_add_up():
    inner, outer = router_of("a", tags=["inner"]), router_of("b", tags=["outer"])
    outer.include_router(inner)
    assert {spec.name: spec.tags for spec in outer.specs()} == {"b": ("outer",), "a": ("outer", "inner")}


def answering(scope: Any, name: str, *kinds: type[Exception]) -> None:
    """Let a router or a channel answer for exceptions with its name."""

    async def answer(websocket: WebSocket, exc: Exception) -> Any:
        return {"by": name}

    for kind in kinds:
        scope.exception_handler(kind)(answer)


async def test_exception_handlers_are_asked_from_the_inside_out():
    inner, outer = ActionRouter("inner."), ActionRouter("outer.")
    for router in (inner, outer):
        for kind in (KeyError, ValueError, RuntimeError):

            async def fail(kind: type[Exception] = kind) -> None:
                raise kind

            fail.__signature__ = inspect.Signature()
            router.action(kind.__name__)(fail)
    answering(inner, "inner", LookupError)
    answering(outer, "outer", LookupError, ValueError)
    outer.include_router(inner)
    room = Channel()
    answering(room, "channel", LookupError, ValueError, RuntimeError)
    room.include_router(outer)
    expected = {
        "outer.inner.KeyError": "inner",
        "outer.inner.ValueError": "outer",
        "outer.inner.RuntimeError": "channel",
        "outer.KeyError": "outer",
        "outer.RuntimeError": "channel",
    }
    assert await outcomes(room, *expected) == [{"by": name} for name in expected.values()]


async def test_a_handler_of_a_router_answers_for_its_actions_alone():
    mine, theirs = ActionRouter("mine."), ActionRouter("theirs.")
    answering(mine, "mine", LookupError)

    for router in (mine, theirs):

        @router.action()
        async def find() -> None:
            raise LookupError("there")

    class Room(Channel):
        routers = (mine, theirs)

    assert await outcomes(Room(), "mine.find", "theirs.find") == [{"by": "mine"}, "internal_error"]


# Names that catch others


async def test_an_action_that_catches_what_has_none():
    class Room(Channel):
        routers = (router_of("own", "*", "deep.*", prefix="user."),)

        @action("*")
        async def rest(self, action: str, data: dict[str, Any]) -> Any:
            return ["rest", action]

        @action()
        async def own(self) -> str:
            return "own"

    names = ["own", "user.own", "user.x", "user.", "user.deep.x", "user", "anything", "*", ""]
    assert await outcomes(Room(), *names) == [
        *("own", "user.own", "user.x", "user.", "user.deep.x"),
        *(["rest", name] for name in ("user", "anything", "*", "")),
    ]


async def test_without_one_an_unknown_action_is_an_error():
    room = Channel()
    room.include_router(router_of("*", prefix="user."))
    assert await outcomes(room, "user.x", "other") == ["user.x", "unknown_action"]


# What cannot work is told at once


def test_a_name_is_given_once():
    router = router_of("a")
    with pytest.raises(ConfigurationError, match="the router has an action named 'a' already"):
        router.include_router(router_of("a"))
    with pytest.raises(ConfigurationError, match="the router has an action named 'a' already"):
        router.action("a")(lambda: None)
    room = Channel()
    room.include_router(router)
    with pytest.raises(ConfigurationError, match="an action named 'a' already"):
        room.include_router(router)
    with pytest.raises(ConfigurationError, match="an action named 'a' already"):
        type("Room", (Channel,), {"routers": (router_of("a"), router_of("a"))})


def test_an_action_that_cannot_be_bound_is_told_when_it_is_included():
    router = ActionRouter()

    @router.action()
    async def run(thing) -> None: ...

    with pytest.raises(ConfigurationError, match=r"the parameter 'thing' of .*run"):
        Channel().include_router(router)
    with pytest.raises(ConfigurationError, match=r"the parameter 'thing' of .*run"):
        type("Room", (Channel,), {"routers": (router,)})


def test_parentheses_are_needed():
    with pytest.raises(ConfigurationError, match="needs action\\(\\) with parentheses"):
        ActionRouter().action(test_parentheses_are_needed)  # type: ignore[arg-type]
