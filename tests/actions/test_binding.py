"""How a message becomes the arguments of a handler, and what cannot become one."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, NewType, NotRequired, SupportsInt, TypeVar
from uuid import UUID

import pytest
from fastapi import WebSocket
from pydantic import BaseModel, ConfigDict, Field, RootModel
from typing_extensions import TypeAliasType, TypedDict

from fastapi_channels import Channel, ConfigurationError, Connection, Envelope, RequestId, action
from fastapi_channels.actions.binding import MAX_LISTED
from fastapi_channels.signatures.dependencies import MAX_ERRORS
from tests.support.wire import dial, serving

Handler = Callable[..., Any]
Item = TypeVar("Item")


async def answer(handler: Handler, **payload: Any) -> Any:
    """The frame that comes back when `handler`, as an action, is called with `payload`."""
    channel = Channel()
    channel.action("run")(handler)
    async with serving(channel) as app, dial(app, "/r") as wire:
        wire.call("run", **payload)
        return await wire.receive()


async def faults(handler: Handler, **payload: Any) -> list[tuple[Any, str]]:
    """Where something is wrong with `payload`, and what."""
    frame = await answer(handler, **payload)
    assert (frame["status"], frame["code"]) == ("bad", "invalid_payload")
    assert all(set(fault) == {"loc", "msg", "type"} for fault in frame["data"])
    return [(fault["loc"], fault["type"]) for fault in frame["data"]]


# The payload: one model takes it whole


class Say(BaseModel):
    text: str
    day: datetime.date = datetime.date(2020, 1, 1)


@dataclass
class Point:
    x: int
    y: int = 0
    seen: list[int] = field(default_factory=list[int])


class Options(TypedDict):
    name: str
    limit: NotRequired[int]


class Page(BaseModel, Generic[Item]):
    items: list[Item]


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]
Alias = TypeAliasType("Alias", Pet)


async def model(payload: Say) -> Any:
    return [type(payload).__name__, payload.text, payload.day]


async def model_named_data(data: Say) -> Any:
    return data.text


async def point(at: Point) -> Any:
    return [type(at).__name__, at.x, at.y]


async def typed_dict(options: Options) -> Any:
    return options


async def generic(page: Page[int]) -> Any:
    return page.items


async def union(value: Point | Say) -> Any:
    return type(value).__name__


async def pet(pet: Pet) -> Any:
    return type(pet).__name__


async def alias(pet: Alias) -> Any:
    return type(pet).__name__


async def described(payload: Annotated[Say, Field(description="what is said")]) -> Any:
    return payload.text


async def root(payload: RootModel[dict[str, int]]) -> Any:
    return payload.root


async def root_of_models(pet: RootModel[Pet]) -> Any:
    return type(pet.root).__name__


async def root_of_a_list(tags: RootModel[list[str]]) -> Any:
    return tags.root


@pytest.mark.parametrize(
    ("handler", "payload", "data"),
    [
        (model, {"text": "hi"}, ["Say", "hi", "2020-01-01"]),
        (model, {"text": "hi", "day": "2021-02-03", "further": 1}, ["Say", "hi", "2021-02-03"]),
        (model_named_data, {"text": "hi"}, "hi"),
        (point, {"x": 1}, ["Point", 1, 0]),
        (typed_dict, {"name": "a"}, {"name": "a"}),
        (typed_dict, {"name": "a", "limit": "3"}, {"name": "a", "limit": 3}),
        (generic, {"items": ["1", 2]}, [1, 2]),
        (union, {"x": 1}, "Point"),
        (union, {"text": "hi"}, "Say"),
        (pet, {"kind": "cat", "lives": 9}, "Cat"),
        (alias, {"kind": "dog", "name": "Rex"}, "Dog"),
        (described, {"text": "hi"}, "hi"),
        (root, {"a": 1}, {"a": 1}),
        (root_of_models, {"kind": "cat", "lives": 9}, "Cat"),
        (root_of_a_list, {"tags": ["a"]}, ["a"]),
    ],
)
async def test_one_model_takes_the_whole_payload(handler: Handler, payload: Any, data: Any):
    frame = await answer(handler, **payload)
    assert (frame["status"], frame["data"]) == ("ok", data)


@pytest.mark.parametrize(
    ("handler", "payload", "expected"),
    [
        (model, {}, [(["text"], "missing")]),
        (
            model,
            {"text": 1, "day": "x"},
            [(["text"], "string_type"), (["day"], "date_from_datetime_parsing")],
        ),
        (point, {"x": "many"}, [(["x"], "int_parsing")]),
        (typed_dict, {"name": None}, [(["name"], "string_type")]),
        (generic, {"items": [1, "x"]}, [(["items", 1], "int_parsing")]),
        (pet, {"kind": "cow"}, [([], "union_tag_invalid")]),
        (pet, {"lives": 9}, [([], "union_tag_not_found")]),
        (pet, {"kind": "cat"}, [(["cat", "lives"], "missing")]),
    ],
)
async def test_what_does_not_fit_a_model(handler: Handler, payload: Any, expected: Any):
    assert await faults(handler, **payload) == expected


async def test_a_model_may_forbid_what_it_does_not_know():
    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid")
        text: str

    async def strict(payload: Strict) -> str:
        return payload.text

    assert (await answer(strict, text="hi", request_id=1))["data"] == "hi"
    assert await faults(strict, text="hi", further=1) == [(["further"], "extra_forbidden")]


# The payload: several parameters are its fields


async def fields(
    text: str,
    limit: Annotated[int, Field(ge=1)] = 20,
    when: datetime.date | None = None,
    tags: list[str] = Field(default_factory=lambda: ["none"]),  # noqa: B008  as pydantic has it
    count: int = Field(default=5, le=9),
    named: str = Field(alias="other-name", default="unnamed"),
    pet: Pet | None = None,
) -> Any:
    return [text, limit, when, tags, count, named, type(pet).__name__]


async def test_parameters_are_fields_of_the_payload():
    defaults = ["hi", 20, None, ["none"], 5, "unnamed", "NoneType"]
    assert (await answer(fields, text="hi", further=1))["data"] == defaults
    given = {"limit": 2, "when": "2021-02-03", "tags": ["a"], "count": 6, "other-name": "x"}
    frame = await answer(fields, text="hi", **given, pet={"kind": "cat", "lives": 9})
    assert frame["data"] == ["hi", 2, "2021-02-03", ["a"], 6, "x", "Cat"]


async def test_what_does_not_fit_a_field():
    assert await faults(fields) == [(["text"], "missing")]
    assert await faults(fields, text=1, limit=0, count=10, pet={"kind": "cow"}) == [
        (["text"], "string_type"),
        (["limit"], "greater_than_equal"),
        (["count"], "less_than_equal"),
        (["pet"], "union_tag_invalid"),
    ]


async def test_a_model_beside_others_is_a_field():
    async def both(said: Say, limit: int) -> Any:
        return [said.text, limit]

    assert (await answer(both, said={"text": "hi"}, limit=1))["data"] == ["hi", 1]
    assert await faults(both, text="hi", limit=1) == [(["said"], "missing")]


async def test_what_is_no_model_is_a_field():
    async def one(kind: Literal["cat", "dog"]) -> Any:
        return kind

    async def several(pets: list[Pet]) -> Any:
        return [type(pet).__name__ for pet in pets]

    assert (await answer(one, kind="cat"))["data"] == "cat"
    assert (await answer(several, pets=[{"kind": "cat", "lives": 9}]))["data"] == ["Cat"]


async def test_a_nested_payload():
    class Nested(Channel):
        envelope = Envelope(payload="payload")

    channel = Nested()
    channel.action("run")(model)
    async with serving(channel) as app, dial(app, "/r") as wire:
        wire.call("run", payload={"text": "hi"}, text="not this")
        assert (await wire.receive())["data"][1] == "hi"
        wire.call("run", text="hi")
        assert (await wire.receive())["data"][0]["loc"] == ["text"]


async def numbers(values: list[int]) -> int:
    return len(values)


async def test_no_more_than_so_many_faults_are_listed():
    assert len(await faults(numbers, values=["x"] * MAX_LISTED)) == MAX_ERRORS
    frame = await answer(numbers, values=["x"] * (MAX_LISTED + 1))
    problem = f"{MAX_LISTED + 1} faults are too many to list"
    assert frame["data"] == [{"loc": [], "msg": problem, "type": "too_many_errors"}]


# What the framework knows


async def by_annotation(ws: WebSocket, me: Connection, number: RequestId, maybe: Connection | None) -> Any:
    return [ws is me.websocket, number, me is maybe]


async def by_text(ws: "WebSocket", me: "Connection", number: "RequestId", text: "str") -> Any:
    return [ws is me.websocket, number, text]


async def annotated(me: Annotated[Connection, "who asks"], number: RequestId = None) -> Any:
    return [me.room, number]


async def by_name(websocket, channel, data, action, request_id, connection):
    return [websocket is connection.websocket, channel, data["x"], action, request_id]


async def by_name_and_type(channel: str, data: dict[str, Any], action: object, request_id: int | str) -> Any:
    return [channel, data["x"], action, request_id]


async def unread(websocket: "Missing", **kwargs: "Missing") -> Any:  # type: ignore[name-defined] # noqa: F821
    return sorted(kwargs)


async def everything(text: str, *args: Any, **kwargs: Any) -> Any:
    return [text, *args, *sorted(kwargs)]


@pytest.mark.parametrize(
    ("handler", "data"),
    [
        (by_annotation, [True, 7, True]),
        (by_text, [True, 7, "hi"]),
        (annotated, ["r", 7]),
        (by_name, [True, "r", 1, "run", 7]),
        (by_name_and_type, ["r", 1, "run", 7]),
        (unread, ["action", "channel", "connection", "data", "request_id"]),
        (everything, ["hi", "action", "channel", "connection", "data", "request_id", "websocket"]),
    ],
)
async def test_what_the_framework_passes(handler: Handler, data: Any):
    assert (await answer(handler, x=1, text="hi", request_id=7))["data"] == data


async def test_parameters_of_the_rooms_name():
    class Room(Channel):
        room_pattern = "room:{number:int}:{topic}"

    async def run(number: int, topic: str, text: str) -> Any:
        return [number, topic, text]

    channel = Room()
    channel.action()(run)
    async with serving(channel) as app, dial(app, "/room:5:chess") as wire:
        # What the client says of them does not count.
        wire.call("run", text="hi", number=6, topic="x")
        assert (await wire.receive())["data"] == [5, "chess", "hi"]


UserId = NewType("UserId", int)


@pytest.mark.parametrize(
    "annotation",
    [int, float, object, Any, int | None, Annotated[int, Field(ge=1)], Literal[5], UserId, SupportsInt, None],
)
async def test_a_parameter_of_the_rooms_name_may_be_annotated_as_what_it_is(annotation: Any):
    async def run(number: Any) -> Any:
        return number

    run.__annotations__ = {} if annotation is None else {"number": annotation}
    channel = Numbered()
    channel.action()(run)
    async with serving(channel) as app, dial(app, "/room:5") as wire:
        wire.call("run")
        assert (await wire.receive())["data"] == 5


class Numbered(Channel):
    room_pattern = "room:{number:int}"


async def as_int(name: int) -> None: ...
async def as_number(name: Annotated[int | None, "a number"]) -> None: ...
async def as_uuid(name: UUID) -> None: ...
async def as_date(name: "datetime.date") -> None: ...


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (as_int, r"is annotated as int, .* gives it as str: room_pattern may say \{name:int\}"),
        (as_number, r"is annotated as .*int \| None.*, .* gives it as str: one of the two is wrong"),
        (as_uuid, r"is annotated as UUID, .* gives it as str: room_pattern may say \{name:uuid\}"),
        (as_date, r"is annotated as date, .* gives it as str: one of the two is wrong"),
    ],
)
@pytest.mark.parametrize("pattern", ["room:{name}", "room:{name:path}"])
def test_a_parameter_of_the_rooms_name_that_is_annotated_as_what_it_is_not(
    handler: Handler, told: str, pattern: str
):
    channel: Any = type("Room", (Channel,), {"room_pattern": pattern})()
    with pytest.raises(ConfigurationError, match=rf"the parameter 'name' of .*{handler.__name__} {told}$"):
        channel.action()(handler)


def test_that_is_told_of_methods_too():
    with pytest.raises(ConfigurationError, match=r"annotated as str, .* gives it as int.*\{number:str\}"):

        class Room(Numbered):
            @action()
            async def run(self, number: str) -> None: ...


# What cannot be bound is told when it is written


class Unknown:
    """Something that pydantic knows nothing of."""


async def unannotated(text: str, limit=20): ...
async def positional(text: str, /) -> None: ...
async def positional_room(channel: str, /) -> None: ...
async def unknown(text: str, thing: Unknown) -> None: ...
async def unknown_alone(thing: Unknown) -> None: ...
async def unknown_member(pet: Pet, things: list[Unknown]) -> None: ...
async def connections(several: list[Connection]) -> None: ...
async def unreadable(text: "Missing") -> None: ...  # type: ignore[name-defined] # noqa: F821
async def no_room(channel: Channel) -> None: ...
async def no_name(action: int) -> None: ...
async def no_payload(data: list[int]) -> None: ...


@pytest.mark.parametrize(
    ("handler", "name", "problem"),
    [
        (unannotated, "limit", "it has no annotation"),
        (positional, "text", "it is positional-only"),
        (positional_room, "channel", "it is positional-only"),
        (unknown, "thing", "Unknown"),
        (unknown_alone, "thing", "Unknown"),
        (unknown_member, "things", "Unknown"),
        (connections, "several", "Connection"),
        (unreadable, "text", "name 'Missing' is not defined"),
        (no_room, "channel", "that name stands for a str, not a Channel"),
        (no_name, "action", "that name stands for a str, not a int"),
        (no_payload, "data", "that name stands for a dict, not a list"),
    ],
)
def test_what_cannot_be_bound_is_told_at_once(handler: Handler, name: str, problem: str):
    with pytest.raises(
        ConfigurationError, match=rf"the parameter '{name}' of .*{handler.__name__}.*{problem}"
    ):
        Channel().action()(handler)


def test_the_error_says_what_would_be_accepted():
    with pytest.raises(ConfigurationError) as caught:
        Channel().action()(unannotated)
    assert str(caught.value).endswith(
        "A handler may take websocket, channel, data, action, request_id, connection, **kwargs, a payload "
        "model, annotated fields of the message, and whatever FastAPI resolves"
    )


@pytest.mark.parametrize("signature", ["()", "(*, text)"])
def test_a_method_takes_its_self(signature: str):
    scope: dict[str, Any] = {"Channel": Channel, "action": action}
    with pytest.raises(ConfigurationError, match=r"run is a method but takes no self"):
        exec(f"class Room(Channel):\n    @action()\n    async def run{signature}: ...", scope)  # noqa: S102


def test_a_payload_that_cannot_be_made_is_told_at_once():
    async def twice(
        a: Annotated[int, Field(alias="same")], b: Annotated[int, Field(discriminator="x")]
    ) -> None: ...

    with pytest.raises(ConfigurationError, match=r"the parameter 'b' of .*twice"):
        Channel().action()(twice)


async def test_a_connection_that_names_its_user_is_the_connection():
    async def both(client: Connection[Say], other: Connection[Say] | None) -> Any:
        return client is other and client.room

    assert (await answer(both))["data"] == "r"
