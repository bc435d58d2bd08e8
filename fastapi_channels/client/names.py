"""Actions and events, as the classes of the server say them."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from fastapi_channels.actions.marks import marks
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.wire.words import Event


def action_of(method: Callable[..., Any]) -> str:
    """The name of the action that a method is.

    Raises:
        ConfigurationError: it is none.
    """
    spec = marks(method).action
    if spec is None:
        raise ConfigurationError(f"{method!r} is no action: it has no @action")
    name: str = spec.name
    return name


def answer_of(method: Callable[..., Any]) -> TypeAdapter[Any]:
    """Reads what a method of a channel replies with, or says of a device, as the type that it returns."""
    return _answer_of(_function(method))


def item_of(method: Callable[..., Any]) -> TypeAdapter[Any]:
    """The same for each item of a stream."""
    return _item_of(_function(method))


def _function(method: Callable[..., Any]) -> Callable[..., Any]:
    """What all instances share: a bound method is another one each time."""
    function: Callable[..., Any] = getattr(method, "__func__", method)
    return function


@cache
def _answer_of(method: Callable[..., Any]) -> TypeAdapter[Any]:
    returned = _returned(method)
    return TypeAdapter(Any if returned is inspect.Signature.empty else returned)


@cache
def _item_of(method: Callable[..., Any]) -> TypeAdapter[Any]:
    arguments = typing.get_args(_returned(method))
    return TypeAdapter(arguments[0] if arguments else Any)


def event_of(event: type[Event] | str) -> tuple[str, Callable[[Any], Any]]:
    """The name of an event, and what reads its data."""
    if isinstance(event, str):
        return event, as_it_is
    return event.event_name, lambda data: event.model_validate({} if data is None else data)


def as_it_is(data: Any) -> Any:
    return data


def _returned(method: Callable[..., Any]) -> Any:
    return typing.get_type_hints(method, include_extras=True).get("return", Any)
