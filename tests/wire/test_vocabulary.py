"""The words of a channel: names of rooms, and events, for whoever sends into them."""

import json
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from fastapi_channels import Call, ConfigurationError, Connection, Envelope, Event, ParseError
from fastapi_channels.exceptions import NotFound
from fastapi_channels.wire.rooms import SCOPE_END
from fastapi_channels.wire.vocabulary import Vocabulary


class Said(Event):
    text: str


class Shouted(Said, name="said"):
    volume: int = 11


class Other(Event, name="said"):
    text: str


class Confirm(Call[bool]):
    text: str


class Speaker:
    envelope = Envelope()


def words(**options: Any) -> Vocabulary:
    return Vocabulary(Speaker(), "Room", **options)


@pytest.mark.parametrize(
    ("options", "key", "is_own"),
    [
        ({}, "r:1", False),
        ({"scope": None}, "r:1", True),
        ({"scope": "mine"}, f"mine{SCOPE_END}r:1", False),
        ({"scope": None, "guarded": True}, f"Room{SCOPE_END}r:1", True),
        ({"scope": None, "pattern": "r:{n:int}"}, f"Room{SCOPE_END}r:1", True),
        ({"scope": "", "pattern": "r:{n:int}", "guarded": True}, "r:1", False),
    ],
)
def test_a_room_has_the_scope_before_its_name(options: dict[str, Any], key: str, is_own: bool):
    found = words(**options)
    assert found.key("r:1") == key
    assert found.is_own is is_own


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_does_not_have_is_null(number: float):
    assert json.loads(words().event("said", {"at": [number]}))["data"] == {"at": [None]}


@pytest.mark.parametrize("data", [object(), b"\xff", "\ud800", {"a": [object()]}])
def test_data_that_cannot_be_encoded_is_told(data: Any):
    with pytest.raises(PydanticSerializationError):
        words().event("said", data)


def test_a_name_that_cannot_be_is_told():
    with pytest.raises(ParseError):
        words().key("")
    with pytest.raises(ConfigurationError, match=r"no room of Room is named 'r:x'.*r:\{n:int\}"):
        words(pattern="r:{n:int}").key("r:x")


@pytest.mark.parametrize(
    ("event", "data", "sent"),
    [
        (Said(text="hi"), None, {"text": "hi"}),
        (Shouted(text="hi"), None, {"text": "hi", "volume": 11}),
        ("said", {"text": "hi"}, {"text": "hi"}),
        ("said", Said(text="hi"), {"text": "hi"}),
    ],
)
def test_declared_events_are_checked(event: Event | str, data: Any, sent: Any):
    frame = json.loads(words(event_types=[Said]).event(event, data, "lobby"))
    assert frame == {"type": "event", "event": "said", "channel": "lobby", "data": sent}


@pytest.mark.parametrize(
    ("event", "data"), [("sad", {"text": "hi"}), (Other(text="hi"), None), ("said", Other(text="hi"))]
)
def test_other_events_are_refused(event: Event | str, data: Any):
    with pytest.raises(ConfigurationError, match="Room declares the events said, not "):
        words(event_types=[Said]).event(event, data)


@pytest.mark.parametrize("name", ["", None, 5, Said])
def test_a_name_that_is_none_is_refused(name: Any):
    with pytest.raises(ConfigurationError, match="one of the events is named by a text that is not empty"):
        words().event(name, 1)
    with pytest.raises(ConfigurationError, match="one of the calls is named by a text that is not empty"):
        words().call(name, 1)


@pytest.mark.parametrize("data", [None, {"text": 1}])
def test_data_that_does_not_fit_is_refused(data: Any):
    with pytest.raises(ValidationError):
        words(event_types=[Said]).event("said", data)


def test_without_a_list_any_event_goes():
    assert json.loads(words().event("rang", 1)) == {
        "type": "event",
        "event": "rang",
        "channel": "*",
        "data": 1,
    }


@pytest.mark.parametrize(
    ("call", "data", "said"),
    [
        (Confirm(text="sure?"), None, ("confirm", Confirm(text="sure?"), Confirm)),
        ("confirm", {"text": "sure?"}, ("confirm", Confirm(text="sure?"), Confirm)),
        ("confirm", Confirm(text="sure?"), ("confirm", Confirm(text="sure?"), Confirm)),
    ],
)
def test_declared_calls_are_checked(call: Call[Any] | str, data: Any, said: Any):
    assert words(call_types=[Confirm]).call(call, data) == said


@pytest.mark.parametrize("types", [[], [Confirm]])
def test_other_calls_are_refused(types: list[type[Call[Any]]]):
    known = "confirm" if types else "none"
    with pytest.raises(ConfigurationError, match=f"Room declares the calls {known}, not 'sure'"):
        words(call_types=types).call("sure", None)


def test_without_a_list_any_call_goes():
    assert words().call("sure", {"n": 1}) == ("sure", {"n": 1}, None)
    assert words().call(Confirm(text="sure?"), None) == ("confirm", Confirm(text="sure?"), Confirm)


@pytest.mark.parametrize(
    ("own", "key", "room"),
    [
        ({}, "lobby", "lobby"),
        ({}, "Other\x1flobby", None),
        ({}, "", None),
        ({"scope": "s"}, "s\x1flobby", "lobby"),
        ({"scope": "s"}, "lobby", None),
        ({"pattern": "ticket:{number:int}"}, "ticket:7", "ticket:7"),
        ({"pattern": "ticket:{number:int}"}, "lobby", None),
        ({"pattern": "ticket:{number:int}", "scope": None}, "Room\x1fticket:7", "ticket:7"),
    ],
)
def test_which_keys_are_those_of_its_rooms(own: dict[str, Any], key: str, room: str | None):
    assert words(**own).room_of(key) == room


def test_a_function_is_known_by_the_name_that_is_declared():
    words = Vocabulary(Speaker(), "Room", for_each=[shortened])
    assert words.function(None) == ""
    assert words.function(shortened) == "shortened"
    with pytest.raises(
        ConfigurationError, match=r"Room does not declare other: list it, for_each = \[other\]"
    ):
        words.function(other)


def shortened(connection: Connection, frame: dict[str, Any]) -> None: ...


def other(connection: Connection, frame: dict[str, Any]) -> None: ...


def test_the_name_of_a_room_has_parameters():
    """And without a pattern none. Whoever may enter is asked about every room."""
    assert words().params("any") == {}
    assert words(pattern="r:{n:int}").params("r:7") == {"n": 7}
    with pytest.raises(NotFound):
        words(pattern="r:{n:int}").params("r:x")
    assert words().guards("any")
