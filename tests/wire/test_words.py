"""What a server says, as types: names of events and calls, and what answers a call."""

from typing import Any, Generic, TypeVar

import pytest
from pydantic import BaseModel, ValidationError

from fastapi_channels import Call, ConfigurationError, Event
from fastapi_channels.wire.words import calls_by_name, events_by_name, functions_by_name

T = TypeVar("T")


class Said(Event):
    text: str


class RoomRenamed(Said):
    pass


class Room2Opened(Event, name="room.opened"):
    pass


class Spoken(Event, name="said"):
    pass


class Confirm(Call[bool]):
    text: str


class ConfirmTwice(Confirm):
    again: str


class Where(Call[tuple[int, int]], name="place.where"):
    pass


class Notify(Call):
    text: str


class Agree(Call[bool], name="confirm"):
    pass


@pytest.mark.parametrize(
    ("event", "name"), [(Said, "said"), (RoomRenamed, "room_renamed"), (Room2Opened, "room.opened")]
)
def test_the_name_of_an_event(event: type[Event], name: str) -> None:
    assert event.event_name == name


@pytest.mark.parametrize(
    ("call", "name"),
    [(Confirm, "confirm"), (ConfirmTwice, "confirm_twice"), (Where, "place.where"), (Notify, "notify")],
)
def test_the_name_of_a_call(call: type[Call[Any]], name: str) -> None:
    assert call.call_name == name


def test_they_are_found_by_their_names() -> None:
    assert events_by_name([]) == {}
    assert events_by_name(iter([Said, Room2Opened])) == {"said": Said, "room.opened": Room2Opened}
    assert calls_by_name([Confirm, Where]) == {"confirm": Confirm, "place.where": Where}


@pytest.mark.parametrize(
    ("types", "sentence"),
    [
        ([Said, Spoken], "there are two events named 'said'"),
        ([Said, Said], "there are two events named 'said'"),
        ([Said, Confirm], "event_types are classes of events, not <class"),
        (["said"], "event_types are classes of events, not 'said'"),
        ([Said(text="hi")], r"event_types are classes of events, not Said\(text='hi'\)"),
    ],
)
def test_what_cannot_be_a_list_of_events(types: Any, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        events_by_name(types)


@pytest.mark.parametrize(
    ("types", "sentence"),
    [
        ([Confirm, Agree], "there are two calls named 'confirm'"),
        ([Confirm, Said], "call_types are classes of calls, not <class"),
        (5, "call_types are classes of calls, a list of them, not 5"),
    ],
)
def test_what_cannot_be_a_list_of_calls(types: Any, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        calls_by_name(types)


@pytest.mark.parametrize(
    ("call", "answer", "read"),
    [
        (Confirm, True, True),
        (ConfirmTwice, False, False),
        (Where, [1, 2], (1, 2)),
        (Notify, {"any": "thing"}, {"any": "thing"}),
    ],
)
def test_what_answers_a_call(call: type[Call[Any]], answer: Any, read: Any) -> None:
    assert call.call_answer.validate_python(answer) == read


@pytest.mark.parametrize(("call", "answer"), [(Confirm, "perhaps"), (ConfirmTwice, None), (Where, [1])])
def test_what_does_not(call: type[Call[Any]], answer: Any) -> None:
    with pytest.raises(ValidationError):
        call.call_answer.validate_python(answer)


def test_a_type_of_answer_may_be_finished_later() -> None:
    class Node(BaseModel):
        children: "list[Leaf]"

    class Grow(Call[Node]):
        pass

    class Leaf(BaseModel):
        pass

    Node.model_rebuild()
    assert Grow.call_answer.validate_python({"children": [{}]}) == Node(children=[Leaf()])


def test_an_answer_is_a_type() -> None:
    with pytest.raises(ConfigurationError, match="a call is answered with a type, not with a variable"):

        class Pick(Call[T], Generic[T]):
            among: list[str]


def plain() -> None: ...


async def waited() -> None: ...


def test_functions_are_found_by_their_names() -> None:
    assert functions_by_name([]) == {}
    assert functions_by_name([plain]) == {"plain": plain}


@pytest.mark.parametrize(
    ("functions", "sentence"),
    [
        ([lambda: None], "def, not async def or lambda"),
        ([waited], "def, not async def or lambda"),
        ([len], "for_each has plain functions"),
        ([plain, plain], "for_each has two functions named 'plain'"),
    ],
)
def test_what_cannot_be_a_list_of_functions(functions: Any, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        functions_by_name(functions)
