"""`@action` and `@limiter`: in either order, on every kind of method, and the function stays what it is."""

from collections.abc import Callable
from typing import Any

import pytest

from fastapi_channels import Channel, action, limiter
from tests.actions.test_spec import ask, connected

Decorator = Callable[[Any], Any]


class Room(Channel):
    @limiter(times=1, seconds=60)
    @action()
    async def above(self) -> str:
        return "done"

    @action()
    @limiter(times=1, seconds=60)
    async def below(self) -> str:
        return "done"

    @limiter(times=2, seconds=60)
    @action()
    @limiter(times=1, seconds=60)
    async def around(self) -> str:
        return "done"

    @staticmethod
    @limiter(times=1, seconds=60)
    @action()
    async def static() -> str:
        return "done"

    @action()
    @limiter(times=1, seconds=60)
    @classmethod
    async def of_class(cls) -> str:
        return "done"

    @limiter(times=1, seconds=60)
    @staticmethod
    @action()
    async def mixed() -> str:
        return "done"


class Child(Room):
    @action()
    async def above(self) -> str:
        return f"child {await super().above()}"


LIMITED = ["above", "below", "around", "static", "of_class", "mixed"]


@pytest.mark.parametrize("name", LIMITED)
async def test_either_order_on_every_kind_of_method(name: str) -> None:
    async with connected(Room()) as wire:
        wire.call(name)
        assert (await wire.receive())["data"] == "done"
        wire.call(name)
        assert (await wire.receive())["code"] == "rate_limited"


async def test_an_override_has_the_limits_that_it_says_itself() -> None:
    async with connected(Child()) as wire:
        for _ in range(3):
            wire.call("above")
            assert (await wire.receive())["data"] == "child done"
        wire.call("below")
        wire.call("below")
        assert [(await wire.receive()).get("code") for _ in range(2)] == [None, "rate_limited"]


async def test_a_function_of_an_instance_is_limited_in_either_order() -> None:
    channel = Channel()

    @limiter(times=1, seconds=60)
    @channel.action()
    async def above() -> str:
        return "done"

    @channel.action()
    @limiter(times=1, seconds=60)
    async def below() -> str:
        return "done"

    async with connected(channel) as wire:
        for name in ("above", "below"):
            wire.call(name)
            wire.call(name)
            assert [(await wire.receive()).get("code") for _ in range(2)] == [None, "rate_limited"]


async def _func(cls: object = None) -> str:
    return "called"


@pytest.mark.parametrize("decorator", [action(), action("renamed"), limiter(times=1, seconds=1)])
@pytest.mark.parametrize("kind", [lambda func: func, staticmethod, classmethod])
async def test_what_is_decorated_comes_back_as_it_is(decorator: Decorator, kind: Decorator) -> None:
    vars(_func).clear()
    given = kind(_func)
    assert decorator(given) is given
    assert await _func() == "called"


async def test_a_function_of_an_instance_comes_back_as_it_is() -> None:
    assert Channel().action()(_func) is _func


async def test_the_method_can_be_called_as_any_other() -> None:
    assert await Room().above() == await Room.static() == await Room.of_class() == "done"
    assert (await ask(Room(), "above"))["data"] == "done"
