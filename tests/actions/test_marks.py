import functools
from collections.abc import Callable
from typing import Any

import pytest

from fastapi_channels import ConfigurationError, limiter
from fastapi_channels.actions.marks import marks


async def _function(websocket: Any) -> None: ...


class Room:
    async def method(self) -> None: ...

    @staticmethod
    async def static() -> None: ...

    @classmethod
    async def of_class(cls) -> None: ...

    async def __call__(self) -> None: ...


class Narrow:
    __slots__ = ()

    async def __call__(self) -> None: ...


KINDS: list[Callable[..., Any]] = [
    *(_function, Room.method, Room.static, vars(Room)["static"], vars(Room)["of_class"]),
    *(functools.partial(_function, None), Room(), lambda: None),
]


@pytest.mark.parametrize("func", KINDS)
def test_marks_stay_with_their_function(func: Callable[..., Any]) -> None:
    found = marks(func)
    assert (found.limits, found.action) == ([], None)
    found.limits.append("a rate")
    assert marks(func) is found
    found.limits.clear()


def test_every_way_to_a_method_leads_to_the_same_marks() -> None:
    assert marks(Room().method) is marks(Room.method) is marks(vars(Room)["method"])
    assert marks(vars(Room)["static"]) is marks(Room.static)
    assert marks(vars(Room)["of_class"]) is marks(Room.of_class) is marks(Room().of_class)


def test_each_function_has_its_own() -> None:
    assert marks(Room.method) is not marks(Room.static)
    assert marks(functools.partial(_function)) is not marks(_function)
    assert marks(Room()) is not marks(Room())


def test_a_copy_of_a_functions_attributes_is_not_its_marks() -> None:
    """`functools.wraps` copies the attributes: the wrapper must not write into what it wraps."""

    @limiter(times=1, seconds=1)
    async def inner() -> None: ...

    @limiter(times=2, seconds=1)
    @functools.wraps(inner)
    async def outer() -> None: ...

    assert [limit.times for limit in marks(inner).limits] == [1]
    assert [limit.times for limit in marks(outer).limits] == [1, 2]
    assert marks(outer) is marks(outer)


@pytest.mark.parametrize("func", [Narrow(), print, len, str.upper])
def test_what_nothing_can_be_left_on(func: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match="cannot be an action"):
        marks(func)
