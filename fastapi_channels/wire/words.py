"""What a server says to its clients, as types: events, and calls, which clients answer."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Generic

from pydantic import BaseModel, TypeAdapter
from typing_extensions import TypeVar

from fastapi_channels.exceptions import ConfigurationError

Answer = TypeVar("Answer", default=Any)


class Event(BaseModel):
    """What a server tells its clients, as a type: a name and fields.

    The name is that of the class in snake case, or the class keyword `name`:
    `class Said(Event, name="room.said")`.
    """

    event_name: ClassVar[str] = "event"

    def __init_subclass__(cls, name: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.event_name = name or _snake(cls.__name__)


class Call(BaseModel, Generic[Answer]):
    """What a server asks a client, as a type: a name, fields, and the type of the answer in brackets.

    `class Confirm(Call[bool])` is answered with true or false; `class Notify(Call)` with whatever comes.
    The name is that of the class in snake case, or the class keyword `name`.
    """

    call_name: ClassVar[str] = "call"
    call_answer: ClassVar[TypeAdapter[Any]] = TypeAdapter(Any)
    """Reads the client's answer."""

    def __init_subclass__(cls, name: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.call_name = name or _snake(cls.__name__)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        made = cls.__pydantic_generic_metadata__
        if made["origin"] is not Call:
            return
        if made["parameters"]:
            raise ConfigurationError(f"{cls.__name__}: a call is answered with a type, not with a variable")
        cls.call_answer = TypeAdapter(made["args"][0])


def events_by_name(types: Iterable[type[Event]]) -> dict[str, type[Event]]:
    """The types of events by the names of the events.

    Raises:
        ConfigurationError: one of `types` is no Event, or two have one name.
    """
    return _by_name(types, Event, "event")


def calls_by_name(types: Iterable[type[Call[Any]]]) -> dict[str, type[Call[Any]]]:
    """The types of calls by the names of the calls.

    Raises:
        ConfigurationError: one of `types` is no Call, or two have one name.
    """
    return _by_name(types, Call, "call")


def functions_by_name(functions: Iterable[Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """What a channel has as `for_each`, by the names of the functions.

    Raises:
        ConfigurationError: one of them is no plain function with a name, or two have one name.
    """
    found: dict[str, Callable[..., Any]] = {}
    for each in functions:
        if not inspect.isfunction(each) or each.__name__ == "<lambda>" or _is_awaited(each):
            raise ConfigurationError(
                "for_each has plain functions of a connection and a frame, which other processes find by "
                f"their names: def, not async def or lambda; got {each!r}"
            )
        if each.__name__ in found:
            raise ConfigurationError(f"for_each has two functions named {each.__name__!r}")
        found[each.__name__] = each
    return found


def _is_awaited(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _by_name(types: Iterable[Any], kind: type[BaseModel], word: str) -> dict[str, Any]:
    if not isinstance(types, Iterable):
        raise ConfigurationError(f"{word}_types are classes of {word}s, a list of them, not {types!r}")
    found: dict[str, Any] = {}
    for each in types:
        if not isinstance(each, type) or not issubclass(each, kind):
            raise ConfigurationError(f"{word}_types are classes of {word}s, not {each!r}")
        name = getattr(each, f"{word}_name")
        if name in found:
            raise ConfigurationError(f"there are two {word}s named {name!r}")
        found[name] = each
    return found


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
