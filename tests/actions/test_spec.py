"""Actions: which functions can be one, what they get, what they answer, and where they are found."""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal, NotRequired, Union

import pytest
from fastapi import Depends, WebSocket
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from fastapi_channels import (
    ActionRouter,
    Channel,
    ConfigurationError,
    Connection,
    Envelope,
    RequestId,
    action,
    limiter,
)
from fastapi_channels.actions.spec import is_action, make_spec
from tests.support.wire import Wire, dial, serving

Handler = Callable[..., Any]
TODAY = datetime.now(UTC).date()


@asynccontextmanager
async def connected(channel: Channel) -> AsyncIterator[Wire]:
    async with serving(channel) as app, dial(app, "/room") as wire:
        yield wire


async def ask(channel: Channel, name: str = "act", **fields: Any) -> dict[str, Any]:
    """The reply to one call."""
    async with connected(channel) as wire:
        wire.call(name, **{"request_id": 7, **fields})
        return await wire.receive()


async def answer(channel: Channel, name: str = "act", **fields: Any) -> Any:
    """The data of the reply, which must be one."""
    reply = await ask(channel, name, **fields)
    assert reply["status"] == "ok", reply
    return reply["data"]


def having(func: Handler, **options: Any) -> Channel:
    """A channel with one action."""
    channel = Channel()
    channel.action("act", **options)(func)
    return channel


class Say(BaseModel):
    text: Annotated[str, Field(max_length=5)]
    times: int = 1


@dataclass
class Point:
    x: int
    y: int = 0


class Word(TypedDict):
    word: str
    loud: NotRequired[bool]


class Circle(BaseModel):
    kind: Literal["circle"]
    r: float


class Square(BaseModel):
    kind: Literal["square"]
    side: float


Shape = Annotated[Circle | Square, Field(discriminator="kind")]


# What a handler gets


async def _names(
    websocket: Any, channel: Any, data: Any, action: Any, request_id: Any, connection: Any
) -> list[Any]:
    assert connection.websocket is websocket
    return [channel, data, action, request_id]


async def _some(data: Any, channel: Any) -> list[Any]:
    return [channel, data, "act", 7]


async def _keywords(**kwargs: Any) -> list[Any]:
    assert kwargs["connection"].websocket is kwargs["websocket"]
    return [kwargs["channel"], kwargs["data"], kwargs["action"], kwargs["request_id"]]


async def _name_and_keywords(channel: str, **kwargs: Any) -> list[Any]:
    assert "channel" not in kwargs
    return [channel, kwargs["data"], kwargs["action"], kwargs["request_id"]]


async def _only_keywords(*, channel: str, data: dict[str, Any], request_id: RequestId = None) -> list[Any]:
    return [channel, data, "act", request_id]


async def _arguments(channel: str, data: dict[str, Any], *args: Any) -> list[Any]:
    assert args == ()
    return [channel, data, "act", 7]


async def _annotated(
    ws: WebSocket, who: Connection, id_: RequestId, data: dict[str, Any], channel: str
) -> list[Any]:
    assert who.websocket is ws
    return [channel, data, "act", id_]


async def _optional(
    ws: WebSocket | None,
    who: Union[Connection, None],  # noqa: UP007  the other spelling
    data: dict[str, Any],
) -> list[Any]:
    assert ws is not None
    assert who is not None
    assert who.websocket is ws
    return [who.room, data, "act", 7]


async def _annotated_with_more(who: Annotated[Connection, "the one who asks"], data: Any) -> list[Any]:
    return [who.room, data, "act", 7]


async def _in_quotes(
    ws: "WebSocket", who: "Connection", id_: "RequestId", data: "dict[str, Any]", channel: "str"
) -> "list[Any]":
    assert who.websocket is ws
    return [channel, data, "act", id_]


async def _unreadable_but_known(data: "NoSuchName", **kwargs: "NoSuchName") -> list[Any]:  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
    return [kwargs["channel"], data, "act", 7]


async def _defaults(channel: str = "none", data: Any = None, request_id: RequestId = 0) -> list[Any]:
    return [channel, data, "act", request_id]


def _in_a_thread(channel: str, data: Any) -> list[Any]:
    assert threading.current_thread() is not threading.main_thread()
    return [channel, data, "act", 7]


class Shelf:
    """Functions that are not plain ones."""

    async def method(self, channel: str, data: Any) -> list[Any]:
        assert isinstance(self, Shelf)
        return [channel, data, "act", 7]

    @classmethod
    async def of_class(cls, channel: str, data: Any) -> list[Any]:
        assert cls is Shelf
        return [channel, data, "act", 7]

    @staticmethod
    async def static(channel: str, data: Any) -> list[Any]:
        return [channel, data, "act", 7]

    async def __call__(self, channel: str, data: Any) -> list[Any]:
        return [channel, data, "act", 7]


class Slow:
    """An object that is called in a thread."""

    def __call__(self, channel: str, data: Any) -> list[Any]:
        return _in_a_thread(channel, data)


async def _bound(first: int, channel: str, data: Any) -> list[Any]:
    assert first == 1
    return [channel, data, "act", 7]


def _sync_bound(first: int, channel: str, data: Any) -> list[Any]:
    assert first == 1
    return _in_a_thread(channel, data)


def _promises(channel: str, data: Any) -> Any:
    """A plain function that gives something to await, as a decorator's wrapper does."""
    return _some(data, channel)


FORMS: list[Handler] = [
    *(_names, _some, _keywords, _name_and_keywords, _only_keywords, _arguments, _annotated, _optional),
    *(_annotated_with_more, _in_quotes, _unreadable_but_known, _defaults, _in_a_thread, _promises),
    *(Shelf().method, Shelf.of_class, Shelf.static, Shelf(), Slow()),
    *(functools.partial(_bound, 1), functools.partial(_bound, first=1), functools.partial(_sync_bound, 1)),
]


@pytest.mark.parametrize("func", FORMS)
async def test_a_handler_gets_what_it_declares(func: Handler) -> None:
    frame = {"action": "act", "request_id": 7, "text": "hi"}
    assert await answer(having(func), text="hi") == ["room", frame, "act", 7]


# Payloads


async def _model(payload: Say) -> Any:
    return type(payload).__name__, payload.model_dump()


async def _model_called_data(data: Say) -> Any:
    return type(data).__name__, data.model_dump()


async def _model_and_more(payload: Say, connection: Connection, request_id: int) -> Any:
    return type(payload).__name__, payload.model_dump()


async def _dataclass(point: Point) -> Any:
    return type(point).__name__, vars(point)


async def _typed_dict(word: Word) -> Any:
    return type(word).__name__, word


async def _union(it: Point | Say) -> Any:
    return type(it).__name__, it.model_dump() if isinstance(it, Say) else vars(it)


async def _discriminated(shape: Shape) -> Any:
    return type(shape).__name__, shape.model_dump()


async def _fields(text: str, times: int = 1) -> Any:
    return "fields", {"text": text, "times": times}


async def _constrained(
    text: Annotated[str, Field(max_length=5)], times: Annotated[int, Field(ge=1, le=3, alias="n")] = 1
) -> Any:
    return "fields", {"text": text, "times": times}


async def _field_as_default(text: str = Field(max_length=5), times: int = Field(default=1, alias="n")) -> Any:
    return "fields", {"text": text, "times": times}


async def _field_of_model(point: Point, times: int = 1) -> Any:
    return "fields", {"point": vars(point), "times": times}


@pytest.mark.parametrize(
    ("func", "fields", "found"),
    [
        (_model, {"text": "hi"}, ["Say", {"text": "hi", "times": 1}]),
        (_model, {"text": "hi", "times": "2", "more": 1}, ["Say", {"text": "hi", "times": 2}]),
        (_model_called_data, {"text": "hi"}, ["Say", {"text": "hi", "times": 1}]),
        (_model_and_more, {"text": "hi"}, ["Say", {"text": "hi", "times": 1}]),
        (_dataclass, {"x": 1}, ["Point", {"x": 1, "y": 0}]),
        (_typed_dict, {"word": "hi"}, ["dict", {"word": "hi"}]),
        (_typed_dict, {"word": "hi", "loud": True}, ["dict", {"word": "hi", "loud": True}]),
        (_union, {"x": 1, "y": 2}, ["Point", {"x": 1, "y": 2}]),
        (_union, {"text": "hi"}, ["Say", {"text": "hi", "times": 1}]),
        (_discriminated, {"kind": "circle", "r": 2}, ["Circle", {"kind": "circle", "r": 2.0}]),
        (_discriminated, {"kind": "square", "side": 2}, ["Square", {"kind": "square", "side": 2.0}]),
        (_fields, {"text": "hi"}, ["fields", {"text": "hi", "times": 1}]),
        (_fields, {"text": "hi", "times": 3, "more": 1}, ["fields", {"text": "hi", "times": 3}]),
        (_constrained, {"text": "hi"}, ["fields", {"text": "hi", "times": 1}]),
        (_constrained, {"text": "hi", "n": 3}, ["fields", {"text": "hi", "times": 3}]),
        (_field_as_default, {"text": "hi", "n": 3}, ["fields", {"text": "hi", "times": 3}]),
        (_field_as_default, {"text": "hi"}, ["fields", {"text": "hi", "times": 1}]),
        (_field_of_model, {"point": {"x": 1}}, ["fields", {"point": {"x": 1, "y": 0}, "times": 1}]),
    ],
)
async def test_a_payload_is_validated(func: Handler, fields: dict[str, Any], found: Any) -> None:
    assert await answer(having(func), **fields) == found


@pytest.mark.parametrize(
    ("func", "fields", "places"),
    [
        (_model, {}, [["text"]]),
        (_model, {"text": "too long"}, [["text"]]),
        (_model, {"text": 1, "times": "x"}, [["text"], ["times"]]),
        (_dataclass, {"x": "no"}, [["x"]]),
        (_typed_dict, {}, [["word"]]),
        (_discriminated, {"kind": "line"}, [[]]),
        (_discriminated, {"kind": "circle"}, [["circle", "r"]]),
        (_fields, {}, [["text"]]),
        (_fields, {"text": "hi", "times": None}, [["times"]]),
        (_constrained, {"text": "too long", "n": 4}, [["text"], ["n"]]),
        (_field_as_default, {"text": "too long"}, [["text"]]),
        (_field_of_model, {"point": {}}, [["point", "x"]]),
    ],
)
async def test_what_does_not_fit_is_told_with_its_place(
    func: Handler, fields: dict[str, Any], places: list[Any]
) -> None:
    reply = await ask(having(func), **fields)
    assert (reply["code"], reply["request_id"]) == ("invalid_payload", 7)
    assert [fault["loc"] for fault in reply["data"]] == places
    assert all(set(fault) == {"loc", "msg", "type"} for fault in reply["data"])


async def test_a_million_faults_are_counted_and_not_listed() -> None:
    async def act(numbers: list[int]) -> None: ...

    for count, listed in ((3, 3), (500, 100), (5000, 1)):
        reply = await ask(having(act), numbers=["x"] * count)
        assert len(reply["data"]) == listed
    assert reply["data"][0]["msg"] == "5000 faults are too many to list"


async def test_the_parameters_of_a_rooms_name() -> None:
    class Numbered(Channel):
        room_pattern = "room:{number:int}"

        @action()
        async def act(self, number: int, text: str) -> Any:
            return [number, text]

    async with serving(Numbered()) as app, dial(app, "/room:7") as wire:
        wire.call("act", number=8, text="hi")
        assert (await wire.receive())["data"] == [7, "hi"]


async def test_a_nested_payload() -> None:
    class Nested(Channel):
        envelope = Envelope(payload="payload")

        @action()
        async def act(self, text: str, data: dict[str, Any]) -> Any:
            return [text, sorted(data)]

    assert await answer(Nested(), payload={"text": "hi"}, text="no") == [
        "hi",
        ["action", "payload", "request_id", "text"],
    ]
    assert (await ask(Nested(), payload=[1]))["code"] == "parse_error"


# Answers


class Public(BaseModel):
    name: str
    born: date | None = Field(default=None, serialization_alias="birthday")


class Account(BaseModel):
    name: str
    password: str


class Row:
    def __init__(self, name: str) -> None:
        self.name = name
        self.password = "secret"  # noqa: S105  a test's


async def _returns_public() -> Public:
    return Public(name="ada", born=date(1815, 12, 10))


async def _returns_row() -> Public:
    return Row("ada")  # pyright: ignore[reportReturnType]  # as an ORM does


async def _returns_list() -> list[Public]:
    return [Row("ada")]  # pyright: ignore[reportReturnType]


async def _returns_account() -> Account:
    return Account(name="ada", password="secret")  # noqa: S106  a test's


async def _returns_anything() -> Any:
    return {"when": date(2024, 1, 1)}


async def _returns_wrong() -> Public:
    return {"password": "secret"}  # pyright: ignore[reportReturnType]


async def _returns_in_quotes() -> "Public":
    return Row("ada")  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize(
    ("func", "options", "found"),
    [
        (_returns_public, {}, {"name": "ada", "birthday": "1815-12-10"}),
        (_returns_row, {}, {"name": "ada", "birthday": None}),
        (_returns_in_quotes, {}, {"name": "ada", "birthday": None}),
        (_returns_list, {}, [{"name": "ada", "birthday": None}]),
        (_returns_account, {}, {"name": "ada", "password": "secret"}),
        (_returns_account, {"response_model": Public}, {"name": "ada", "birthday": None}),
        (_returns_anything, {}, {"when": "2024-01-01"}),
        (_returns_anything, {"response_model": dict[str, str]}, None),
    ],
)
async def test_a_reply_is_validated_and_filtered(func: Handler, options: dict[str, Any], found: Any) -> None:
    reply = await ask(having(func, **options))
    if found is None:
        assert reply["code"] == "internal_error"
    else:
        assert reply["data"] == found


async def test_nothing_is_a_reply_whatever_was_promised() -> None:
    async def nothing() -> None: ...

    channel = having(nothing, response_model=Public)
    channel.ack = True
    reply = await ask(channel, request_id=1)
    assert (reply["status"], reply["data"]) == ("ok", None)


async def test_a_reply_that_is_not_what_was_promised_tells_nothing() -> None:
    reply = await ask(having(_returns_wrong))
    assert reply["code"] == "internal_error"
    assert "secret" not in str(reply)


# Where actions are found


class Base(Channel):
    @action()
    async def kept(self) -> str:
        return "base"

    @action()
    async def overridden(self) -> str:
        return "base"

    @action()
    async def taken_away(self) -> str:
        return "base"

    @action("renamed")
    async def method(self) -> str:
        return "base"

    @staticmethod
    @action()
    async def static() -> str:
        return "static"

    @action()
    @staticmethod
    async def static_inside() -> str:
        return "static"

    @classmethod
    @action()
    async def of_class(cls) -> str:
        return cls.__name__

    @action()
    @classmethod
    async def of_class_inside(cls) -> str:
        return cls.__name__

    async def plain(self) -> str:
        return "not for clients"


class Mixin:
    @action()
    async def mixed(self, connection: Connection) -> str:
        return f"mixed into {connection.room}"

    @action()
    async def overridden(self) -> str:
        return "mixin"


class Child(Mixin, Base):
    @action()
    async def overridden(self) -> str:
        return f"child of {await super().overridden()}"

    async def taken_away(self) -> str:
        return "not for clients"

    @action("renamed again")
    async def method(self) -> str:
        return f"child of {await super().method()}"


class Left(Base):
    @action()
    async def overridden(self) -> str:
        return f"left of {await super().overridden()}"


class Right(Base):
    @action()
    async def overridden(self) -> str:
        return f"right of {await super().overridden()}"


class Diamond(Left, Right):
    pass


OWN = ["static", "static_inside", "of_class", "of_class_inside"]


@pytest.mark.parametrize(
    ("cls", "names"),
    [
        (Base, ["kept", "overridden", "taken_away", "renamed", *OWN]),
        (Child, ["overridden", "renamed again", "mixed", "kept", *OWN]),
        (Diamond, ["overridden", "kept", "taken_away", "renamed", *OWN]),
    ],
)
def test_the_names_of_the_actions(cls: type[Channel], names: list[str]) -> None:
    assert cls().actions == names


@pytest.mark.parametrize(
    ("cls", "name", "found"),
    [
        (Base, "kept", "base"),
        (Base, "renamed", "base"),
        (Base, "static", "static"),
        (Base, "static_inside", "static"),
        (Base, "of_class", "Base"),
        (Child, "kept", "base"),
        (Child, "mixed", "mixed into room"),
        (Child, "overridden", "child of mixin"),
        (Child, "renamed again", "child of base"),
        (Child, "of_class", "Child"),
        (Child, "of_class_inside", "Child"),
        (Diamond, "overridden", "left of right of base"),
        (Diamond, "of_class", "Diamond"),
    ],
)
async def test_inheritance_is_that_of_python(cls: type[Channel], name: str, found: str) -> None:
    assert await answer(cls(), name) == found


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        *((Base, "plain"), (Base, "method"), (Base, "actions"), (Base, "__init__"), (Base, "")),
        *((Child, "taken_away"), (Child, "renamed"), (Child, "method"), (Base, "mixed")),
    ],
)
async def test_only_what_is_marked_is_for_clients(cls: type[Channel], name: str) -> None:
    assert (await ask(cls(), name))["code"] == "unknown_action"


@pytest.mark.parametrize(
    ("func", "found"),
    [
        *(
            (Base.kept, True),
            (Base().kept, True),
            (vars(Base)["static"], True),
            (vars(Base)["of_class"], True),
        ),
        *(
            (Base.plain, False),
            (_names, False),
            (print, False),
            (Shelf(), False),
            (None, False),
            ("kept", False),
        ),
    ],
)
def test_what_is_marked_is_known_as_an_action(func: Any, found: bool) -> None:
    assert is_action(func) is found


async def test_an_instances_actions_are_its_own() -> None:
    one, other = Base(), Base()

    @one.action()
    @other.action("elsewhere")
    async def both(connection: Connection) -> str:
        return connection.room

    assert set(one.actions) - set(other.actions) == {"both"}
    assert set(other.actions) - set(one.actions) == {"elsewhere"}
    assert await answer(one, "both") == await answer(other, "elsewhere") == "room"
    assert Base().actions == ["kept", "overridden", "taken_away", "renamed", *OWN]


async def test_a_decorator_above_the_action_is_not_passed_by() -> None:
    """What stands above `@action` guards it, as one reads it."""

    def guarded(func: Handler) -> Handler:
        @functools.wraps(func)
        async def wrapper(self: Any, connection: Connection, **kwargs: Any) -> Any:
            return f"guarded {await func(self, connection=connection, **kwargs)}"

        return wrapper

    class Guarded(Channel):
        @guarded
        @action()
        async def act(self, connection: Connection, text: str) -> str:
            return text

        @limiter(times=1, seconds=60)
        @guarded
        @limiter(times=5, seconds=60)
        @action()
        async def limited(self, connection: Connection, text: str) -> str:
            return text

    channel = Guarded()
    assert await answer(channel, text="hi") == "guarded hi"
    async with connected(channel) as wire:
        codes: list[Any] = []
        for _ in range(2):
            wire.call("limited", text="hi", request_id=1)
            codes.append((await wire.receive()).get("code"))
        assert codes == [None, "rate_limited"]


# What fails at import


def _positional(payload: int, /) -> None: ...
def _untyped(payload) -> None: ...
def _strange(payload: threading.Event) -> None: ...
def _undefined(payload: "NoSuchName") -> None: ...  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
def _unknown_reply() -> "NoSuchName": ...  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
def _contradicting(channel: int) -> None: ...
def _generator() -> Iterator[int]:
    yield 1


class Narrow:
    __slots__ = ()

    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("func", "sentence"),
    [
        (_positional, r"the parameter 'payload' of .*_positional cannot be bound"),
        (_untyped, r"the parameter 'payload' of .*_untyped cannot be bound.* has no annotation"),
        (_strange, r"the parameter 'payload' of .*_strange cannot be validated"),
        (
            _undefined,
            r"the annotation 'NoSuchName' of the parameter 'payload' of .*_undefined cannot be read",
        ),
        (_unknown_reply, r"the annotation 'NoSuchName' of .*_unknown_reply cannot be read"),
        (
            _contradicting,
            r"the parameter 'channel' of .* cannot be bound: that name stands for a str, not a int",
        ),
        (_generator, "must be an async generator"),
        (lambda payload: None, r"the parameter 'payload' of .*<lambda> cannot be bound"),
        (functools.partial(_untyped), r"the parameter 'payload' of .*_untyped.* cannot be bound"),
        (Narrow(), "cannot be an action"),
        (print, "cannot be an action"),
    ],
)
def test_what_cannot_be_bound_is_told_at_once(func: Handler, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        having(func)


async def _streaming() -> AsyncIterator[int]:
    yield 1


def test_what_streams_its_replies_has_no_one_that_could_be_kept() -> None:
    with pytest.raises(ConfigurationError, match="streams its replies"):
        action(idempotent=True)(_streaming)


def _method(self, text): ...
def _selfless(): ...
def _keyword_self(*, channel: str): ...


@pytest.mark.parametrize(
    ("func", "sentence"),
    [
        (_method, r"the parameter 'text' of .*_method cannot be bound"),
        (_selfless, r".*_selfless is a method but takes no self"),
        (_keyword_self, r".*_keyword_self is a method but takes no self"),
    ],
)
def test_what_cannot_be_bound_in_a_class_is_told_with_the_class(func: Handler, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        type("Broken", (Channel,), {"act": action()(_copy(func))})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"concurrent": 0}, "concurrent of the action 'act' must be 1 or more, got 0"),
        ({"concurrent": -1}, "concurrent of the action 'act' must be 1 or more"),
        ({"concurrent": True}, "concurrent of the action 'act' must be 1 or more, got True"),
        ({"concurrent": 1.5}, "concurrent of the action 'act' must be 1 or more"),
        ({"sunset": "2030-01-01"}, "sunset of the action 'act' must be a date, got '2030-01-01'"),
        ({"permission": "IsMember"}, "expected a permission"),
        ({"response_model": Narrow}, r"the response model of .*_fields cannot be validated"),
        ({"colour": "red"}, r"action\(\) got an unexpected keyword argument 'colour'"),
    ],
)
def test_options_that_cannot_work_are_told_at_once(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        having(_fields, **options)
    with pytest.raises(ConfigurationError, match=sentence):
        action("act", **options)(_copy(_fields))


def _copy(func: Any) -> Handler:
    """The same function, without marks."""
    copy = type(func)(func.__code__, globals(), func.__name__, func.__defaults__, func.__closure__)
    return functools.update_wrapper(copy, func, updated=())


class Labelled(BaseModel):
    action: str


async def _labelled(payload: Labelled): ...


def test_a_field_whose_name_belongs_to_the_frame_is_told() -> None:
    with pytest.raises(ConfigurationError, match="the action 'act' would never get the field 'action'"):
        having(_labelled)


@pytest.mark.parametrize("name", ["", "x" * 129, 7, b"act"])
def test_names_that_no_action_can_have(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="an action's name must be a text of 1 to 128 characters"):
        Channel().action(name)(_fields)


async def test_the_longest_name() -> None:
    name = "x" * 128
    channel = Channel()
    channel.action(name)(_some)
    assert (await answer(channel, name))[0] == "room"


@pytest.mark.parametrize("func", [functools.partial(_bound, 1), Shelf()])
def test_what_has_no_name_needs_one(func: Handler) -> None:
    with pytest.raises(ConfigurationError, match="has no name of its own: give the action one"):
        Channel().action()(func)


def test_forgotten_parentheses() -> None:
    for decorator in (action, Channel().action, ActionRouter().action):
        with pytest.raises(ConfigurationError, match=r"action\(\) with parentheses"):
            decorator(_fields)  # pyright: ignore[reportArgumentType]


def test_a_limit_on_what_is_no_action() -> None:
    limited = {"say": limiter(times=1, seconds=1)(_copy(_some))}
    with pytest.raises(ConfigurationError, match=r"has a rate limit, and is no action: add @action\(\)"):
        type("Room", (Channel,), limited)()


def test_two_actions_of_one_name_in_a_class() -> None:
    def same(number: int) -> Handler:
        return action("same")(_copy(_names if number else _some))

    with pytest.raises(ConfigurationError, match="Twice has two actions named 'same': _some and _names"):
        type("Twice", (Channel,), {"_some": same(0), "_names": same(1)})

    class Once(Channel):
        @action("same")
        async def one(self) -> None: ...

    class Again(Once):
        @action("same")
        async def other(self) -> str:
            return "other"

    assert Again().actions == ["same"]


def test_one_function_is_one_action() -> None:
    with pytest.raises(ConfigurationError, match=r"_fields is the action 'one' already"):
        action("two")(action("one")(_copy(_fields)))


# What is said of an action


def test_what_documents_an_action() -> None:
    async def act() -> None:
        """What it does."""

    plain = make_spec(act)
    assert (plain.name, plain.description, plain.summary, plain.tags) == ("act", "What it does.", None, ())
    assert plain.include_in_schema
    said = make_spec(act, description="Other.", summary="Short", tags=["a"], include_in_schema=False)
    assert (said.description, said.summary, said.tags) == ("Other.", "Short", ("a",))
    assert not said.include_in_schema


@contextmanager
def running(spec: dict[str, int]) -> Iterator[None]:
    spec["now"] += 1
    spec["most"] = max(spec.values())
    try:
        yield
    finally:
        spec["now"] -= 1


@pytest.mark.parametrize(
    ("options", "most"),
    [({}, 1), ({"concurrent": 3}, 3), ({"detached": True}, 32), ({"detached": True, "concurrent": 2}, 2)],
)
async def test_how_many_calls_run_at_a_time(options: dict[str, Any], most: int) -> None:
    seen = {"now": 0, "most": 0}

    async def act(n: int) -> int:
        with running(seen):
            for _ in range(5):
                await asyncio.sleep(0)
        return n

    async with connected(having(act, **options)) as wire:
        for n in range(40):
            wire.call("act", n=n)
        found = [(await wire.receive())["data"] for _ in range(40)]
    assert sorted(found) == list(range(40))
    assert seen == {"now": 0, "most": most}


@pytest.mark.parametrize(
    ("sunset", "works"),
    [
        (TODAY + timedelta(days=2), True),
        (TODAY, False),
        (TODAY - timedelta(days=1), False),
        (datetime.now(UTC) - timedelta(days=1), False),
        (datetime.now(UTC) + timedelta(days=2), True),
        (None, True),
    ],
)
async def test_a_sunset(sunset: date | None, works: bool) -> None:
    reply = await ask(having(_fields, sunset=sunset), text="hi")
    assert reply.get("code") == (None if works else "deprecated")
    assert ("sunset" in reply) is (works and sunset is not None)


async def test_a_deprecated_action() -> None:
    assert (await ask(having(_fields, deprecated=True)))["code"] == "deprecated"


# Streams and dependencies


async def _count(to: int) -> AsyncIterator[int]:
    for number in range(to):
        yield number


async def _count_rows() -> AsyncIterator[Public]:
    yield Row("ada")  # pyright: ignore[reportReturnType]


async def test_a_generator_answers_more_than_once() -> None:
    async with connected(having(_count)) as wire:
        wire.call("act", to=2, request_id=7)
        replies = [await wire.receive() for _ in range(3)]
    assert [(reply["data"], reply["more"]) for reply in replies] == [(0, True), (1, True), (None, False)]


async def test_what_a_stream_yields_is_filtered() -> None:
    async with connected(having(_count_rows)) as wire:
        wire.call("act")
        assert (await wire.receive())["data"] == {"name": "ada", "birthday": None}


def opened(log: list[str], swallow: bool = False) -> Handler:
    async def resource() -> AsyncIterator[str]:
        log.append("opened")
        try:
            yield "resource"
        except LookupError:
            if not swallow:
                raise
        finally:
            log.append("closed")

    return resource


@pytest.mark.parametrize("swallow", [False, True])
@pytest.mark.parametrize("streams", [False, True])
async def test_dependencies_are_open_while_their_action_runs(
    streams: bool, swallow: bool, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []
    resource = Depends(opened(log, swallow))

    async def act(text: str, it: str = resource) -> str:
        log.append(text)
        if text == "fail":
            raise LookupError(text)
        return it

    async def stream(text: str, it: str = resource) -> AsyncIterator[str]:
        yield await act(text, it)

    channel = having(stream if streams else act)
    assert await answer(channel, text="hi") == "resource"
    assert log == ["opened", "hi", "closed"]
    assert (await ask(channel, text="fail"))["code"] == "internal_error"
    assert log[3:] == ["opened", "fail", "closed"]
    assert ("swallows exceptions: it must raise them on" in caplog.text) is swallow


async def test_what_a_dependency_wants_is_validated_too() -> None:
    def half(number: int) -> int:
        return number // 2

    async def act(found: Annotated[int, Depends(half)]) -> int:
        return found

    async with serving(having(act)) as app, dial(app, "/room?number=8") as wire, dial(app, "/room") as other:
        for each in (wire, other):
            each.call("act", request_id=7)
        assert (await wire.receive())["data"] == 4
        reply = await other.receive()
        assert (reply["code"], reply["request_id"]) == ("invalid_payload", 7)


async def test_what_is_done_already_is_recalled_and_not_done_again() -> None:
    calls: list[str] = []

    async def act(text: str) -> int:
        calls.append(text)
        return len(calls)

    async with connected(having(act, idempotent=True)) as wire:
        for _ in range(2):
            wire.call("act", request_id="6f1c1f6e-7c1b-4c0e-9a59-0c0f8a3f2a11", text="hi")
            assert (await wire.receive())["data"] == 1
    assert calls == ["hi"]
