"""What an action replies: its return annotation, or `response_model`, validates and filters it."""

import dataclasses
from collections.abc import AsyncIterator, Callable
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from fastapi_channels import Channel, ConfigurationError, action
from tests.support.wire import dial, serving


class Person(BaseModel):
    name: Annotated[str, Field(max_length=5)]
    born: date = date(2000, 1, 1)


class Account(Person):
    password: str = "secret"  # noqa: S105


class Pet(BaseModel):
    legs: int = Field(serialization_alias="legCount")


@dataclasses.dataclass
class Point:
    x: int
    y: Decimal = Decimal("1.50")


class Options(TypedDict):
    name: str


class Color(Enum):
    RED = "red"


class Row:
    """As an ORM gives it: attributes, and more of them than a client may see."""

    name = "Ann"
    password = "secret"  # noqa: S105

    @property
    def born(self) -> date:
        return date(1990, 1, 2)


async def replied(func: Callable[..., Any], **options: Any) -> Any:
    """The frame that comes back from the function as an action."""
    channel = Channel()
    channel.action("run", **options)(func)
    async with serving(channel) as app, dial(app, "/r") as wire:
        wire.call("run", request_id=1)
        frame = await wire.receive()
        assert frame["request_id"] == 1
        return frame


def returning(value: Any, annotation: Any) -> Callable[..., Any]:
    """A handler that returns `value` and says that it returns `annotation`."""

    async def handler() -> Any:
        return value

    handler.__annotations__["return"] = annotation
    return handler


ANN = {"name": "Ann", "born": "1990-01-02"}
RESULTS = [
    (Account(name="Ann", born=date(1990, 1, 2)), Person, ANN),
    ({**ANN, "password": "secret"}, Person, ANN),
    (Row(), Person, ANN),
    ([Row(), Account(name="Ann", born=date(1990, 1, 2))], list[Person], [ANN, ANN]),
    ({"a": Row()}, dict[str, Person], {"a": ANN}),
    (Row(), Person | None, ANN),
    (Pet(legs=4), Pet, {"legCount": 4}),
    (Point(1), Point, {"x": 1, "y": "1.50"}),
    ({"x": "1"}, Point, {"x": 1, "y": "1.50"}),
    ({"name": "a", "more": 1}, Options, {"name": "a"}),
    (Color.RED, Color, "red"),
    ("5", int, 5),
    ("text", int | str, "text"),
    ((1, 2), tuple[int, int], [1, 2]),
]


@pytest.mark.parametrize(("value", "annotation", "data"), RESULTS)
async def test_a_reply_is_what_its_type_lets_through(value: Any, annotation: Any, data: Any):
    assert (await replied(returning(value, annotation)))["data"] == data


@pytest.mark.parametrize("annotation", [Person, list[Person]])
async def test_response_model_counts_more_than_the_annotation(annotation: Any):
    value = Row() if annotation is Person else [Row()]
    frame = await replied(returning(value, int), response_model=annotation)
    assert frame["data"] == (ANN if annotation is Person else [ANN])


async def test_without_a_type_everything_is_sent():
    for annotation in (Any, None, "Any"):
        frame = await replied(returning(Account(name="Ann"), annotation))
        assert frame["data"]["password"] == "secret"  # noqa: S105


@pytest.mark.parametrize(
    ("value", "annotation"),
    [({"name": "too long"}, Person), ({}, Person), ("x", int), (object(), Person), (object(), Any)],
)
async def test_a_reply_that_does_not_fit_is_our_fault(
    value: Any, annotation: Any, caplog: pytest.LogCaptureFixture
):
    frame = await replied(returning(value, annotation))
    assert (frame["status"], frame["code"], frame["data"]) == ("bad", "internal_error", None)
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert any(word in frame["errors"] for word in record.getMessage().replace(":", "").split())


async def test_none_is_no_reply_whatever_the_type():
    class Room(Channel):
        @action()
        async def nothing(self) -> Person | None:
            return None

        @action()
        async def last(self) -> str:
            return "last"

    async with serving(Room()) as app, dial(app, "/r") as wire:
        wire.call("nothing", request_id=1)
        wire.call("last", request_id=2)
        assert (await wire.receive())["request_id"] == 2


async def test_an_ack_is_for_who_sent_an_id():
    class Room(Channel):
        ack = True

        @action()
        async def nothing(self) -> Person | None:
            return None

    async with serving(Room()) as app, dial(app, "/r") as wire:
        wire.call("nothing")
        wire.call("nothing", request_id=0)
        frame = await wire.receive()
        assert (frame["request_id"], frame["status"], frame["data"]) == (0, "ok", None)


@pytest.mark.parametrize("value", [0, "", [], {}, False])
async def test_what_is_false_is_a_reply(value: Any):
    assert (await replied(returning(value, Any)))["data"] == value


async def test_a_plain_function_replies_too():
    def add() -> int:
        return "3"  # type: ignore[return-value]  # the type makes a number of it

    assert (await replied(add))["data"] == 3


async def test_a_stream_has_the_type_of_what_it_yields():
    async def people() -> AsyncIterator[Person]:
        yield Account(name="Ann")
        yield Person(name="Bob")

    frames: list[Any] = []
    channel = Channel()
    channel.action("run")(people)
    async with serving(channel) as app, dial(app, "/r") as wire:
        wire.call("run")
        while not frames or frames[-1]["more"]:
            frames.append(await wire.receive())
    assert [frame["data"] and set(frame["data"]) for frame in frames] == [
        {"name", "born"},
        {"name", "born"},
        None,
    ]


class Unknown: ...


@pytest.mark.parametrize("annotation", [Unknown, list[Unknown], Callable[..., int] | Unknown])
def test_a_type_that_cannot_be_validated_is_told_at_once(annotation: Any):
    for func, options in (
        (returning(1, annotation), {}),
        (returning(1, Any), {"response_model": annotation}),
    ):
        with pytest.raises(ConfigurationError, match=r"the response model of .*handler cannot be validated"):
            Channel().action(**options)(func)


def test_an_annotation_that_cannot_be_read_is_told_at_once():
    with pytest.raises(ConfigurationError, match=r"'Missing' .*handler cannot be read"):
        Channel().action()(returning(1, "Missing"))
