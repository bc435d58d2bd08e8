"""FastAPI's dependencies, resolved for each message. The only module that touches FastAPI's code for them.

FastAPI reads the signatures, so that they mean what they mean in a route, and reads parameters from the
request. What it found is compiled once into a list of calls. Its own `solve_dependencies` works it out anew
for each request, at ten times the price, and leaves open what it was opening in a thread when the task is
cancelled.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from fastapi import params
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import (
    get_dependant,
    get_parameterless_sub_dependant,
    request_body_to_args,
    request_params_to_args,
)
from fastapi.exceptions import FastAPIError
from fastapi.security import SecurityScopes
from pydantic import BaseModel
from starlette.types import Scope
from starlette.websockets import WebSocket
from typing_extensions import is_typeddict

from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.wire.messages import Envelope, Message

from .callables import Caller, caller_of, opener_of

logger = logging.getLogger("fastapi_channels")

NOT_FOR_MESSAGES: Final = {
    "request_param_name": "a Request",
    "response_param_name": "a Response",
    "background_tasks_param_name": "BackgroundTasks",
}
"""What FastAPI passes to a dependency of an HTTP request, and a message has not."""
TOLD: Final = "fastapi_channels_told"
FIELDS: Final = ("path_params", "query_params", "header_params", "cookie_params", "body_params")


def current_connection() -> Connection:
    """Dependency: the connection whose message is being handled.

    `Annotated[Connection, Depends(current_connection)]` in a function that an action depends on.
    """
    raise ConfigurationError("current_connection is for what actions depend on: a route has no connection")


def current_message() -> Message:
    """Dependency: the message that is being handled."""
    raise ConfigurationError("current_message is for what actions depend on: a route has no message")


def is_dependency(parameter: inspect.Parameter) -> bool:
    """Whether FastAPI resolves `parameter`: Depends, Security, Header, Cookie, Query or Path."""
    markers = [parameter.default]
    if get_origin(parameter.annotation) is Annotated:
        markers.extend(get_args(parameter.annotation)[1:])
    return any(isinstance(marker, params.Depends | params.Param) for marker in markers)


def is_model(annotation: Any) -> bool:
    """Whether a parameter of this type takes the whole payload rather than one field of it."""
    annotation = getattr(annotation, "__value__", annotation)  # of `type X = …`
    origin = get_origin(annotation)
    if origin is Annotated:
        return is_model(get_args(annotation)[0])
    if origin in (Union, UnionType):
        models = [member for member in get_args(annotation) if member is not NoneType]
        return bool(models) and all(map(is_model, models))
    plain = origin or annotation
    if not isinstance(plain, type):
        return False
    return issubclass(plain, BaseModel) or dataclasses.is_dataclass(plain) or is_typeddict(plain)


class DependencyErrors(Exception):
    """What a client sent does not fit the parameters of a dependency; `errors` as FastAPI lists them."""

    def __init__(self, errors: Sequence[Any]) -> None:
        super().__init__(f"{len(errors)} errors")
        self.errors = errors


class Dependencies:
    """What one action depends on.

    Args:
        parameters: those of the handler for which `is_dependency` holds, annotations evaluated.
        extra: dependencies without a parameter.
        where: names the handler in errors.

    Raises:
        ConfigurationError: a parameter that FastAPI, or a message, has nothing for.
    """

    __slots__ = ("_dependant", "_overridden", "_plan", "_where")

    def __init__(
        self, parameters: Sequence[inspect.Parameter], extra: Sequence[params.Depends], where: str
    ) -> None:
        self._where = where
        self._dependant = _dependant(parameters, extra, where)
        self._plan = self._compiled({})
        self._overridden: tuple[Mapping[Any, Any], _Plan] = ({}, self._plan)

    async def solve(
        self, connection: Connection, message: Message, envelope: Envelope, stack: AsyncExitStack
    ) -> dict[str, Any]:
        """The values of the parameters; what is opened for them closes with `stack`.

        Nothing is called unless the whole request fits.

        Raises:
            DependencyErrors: it does not. What a dependency raises passes through.
        """
        plan = self._plan
        overrides = getattr(connection.websocket.scope.get("app"), "dependency_overrides", None)
        if overrides:
            plan = self._plan_with(overrides)
        return await plan.run(connection, message, envelope, stack)

    def _plan_with(self, overrides: Mapping[Any, Any]) -> _Plan:
        known, plan = self._overridden
        if known != overrides:
            plan = self._compiled(overrides)
            self._overridden = (dict(overrides), plan)
        return plan

    def _compiled(self, overrides: Mapping[Any, Any]) -> _Plan:
        try:
            return _Plan(self._dependant, overrides)
        except (FastAPIError, AssertionError, TypeError) as exc:
            raise ConfigurationError(f"the dependencies of {self._where} cannot be resolved: {exc}") from exc


def _dependant(
    parameters: Sequence[inspect.Parameter], extra: Sequence[params.Depends], where: str
) -> Dependant:
    def handler() -> None:
        """Stands for the action: only those of its parameters that FastAPI resolves."""

    keyword_only = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    handler.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]  # what inspect reads
    try:
        dependant = get_dependant(path="", call=handler)
        dependant.dependencies[:0] = [get_parameterless_sub_dependant(depends=d, path="") for d in extra]
    except (FastAPIError, AssertionError, AttributeError, TypeError) as exc:
        raise ConfigurationError(f"the dependencies of {where} cannot be resolved: {exc}") from exc
    return dependant


_WEBSOCKET: Final = 0
_CONNECTION: Final = 1
_MESSAGE: Final = 2
"""The places of what is known before anything is called."""

_GIVEN: Final[dict[Any, int]] = {current_connection: _CONNECTION, current_message: _MESSAGE}


class _Plan:
    """A graph of dependencies as a list of calls, each after those whose values it takes.

    Every value has a place in one list: what is known, what is read from the request, what is returned.
    """

    __slots__ = ("_body_fields", "_embed", "_overrides", "_places", "_readers", "_root", "_steps", "_values")

    def __init__(self, root: Dependant, overrides: Mapping[Any, Any]) -> None:
        self._overrides = overrides
        self._values: list[Any] = [None] * 3
        self._places: dict[Any, int] = {}
        self._readers: list[_Reader] = []
        self._steps: list[_Step] = []
        self._root = self._step_of(root, dict)
        fields = [field for reader in self._readers for field in reader.dependant.body_params]
        self._body_fields = bool(fields)
        # As in FastAPI: one model is the whole body, several things are its fields.
        whole = len({field.name for field in fields}) == 1 and is_model(fields[0].field_info.annotation)
        self._embed = not whole

    async def run(
        self, connection: Connection, message: Message, envelope: Envelope, stack: AsyncExitStack
    ) -> dict[str, Any]:
        values = self._values.copy()
        values[:3] = connection.websocket, connection, message
        if self._readers:
            await self._read(values, envelope)
        for step in self._steps:
            values[step.place] = await step.call(step.arguments(values), stack)
        return self._root.arguments(values)

    async def _read(self, values: list[Any], envelope: Envelope) -> None:
        """Put what the request has into `values`, validated.

        Raises:
            DependencyErrors: something in the request does not fit.
        """
        payload = envelope.payload_of(values[_MESSAGE]) if self._body_fields else None
        errors: list[Any] = []
        for reader in self._readers:
            values[reader.place], wrong = await reader.read(values[_WEBSOCKET], payload, self._embed)
            errors.extend(wrong)
        if errors:
            raise DependencyErrors(errors)

    def _place_of(self, dependant: Dependant) -> int:
        """Where the value of `dependant` stands; adds the steps that make it."""
        original: Any = dependant.call
        call = self._overrides.get(original, original)
        if call in _GIVEN:
            return _GIVEN[call]
        scopes = tuple(sorted(_scopes(dependant))) if _uses_scopes(dependant) else ()
        key = (original, scopes, dependant.scope == "function")
        if dependant.use_cache and key in self._places:
            return self._places[key]
        concurrency = getattr(dependant, "concurrency", None)  # newer than the oldest FastAPI
        if call is not original:
            dependant = get_dependant(path="", call=call, parent_oauth_scopes=_scopes(dependant))
        step = self._step_of(dependant, call, concurrency)
        self._steps.append(step)
        self._places.setdefault(key, step.place)
        return step.place

    def _step_of(self, dependant: Dependant, call: Callable[..., Any], concurrency: Any = None) -> _Step:
        """The step for `dependant`; those that it needs are added."""
        _check(dependant, call)
        taken = [(sub.name, self._place_of(sub)) for sub in dependant.dependencies]
        taken.append((dependant.websocket_param_name, _WEBSOCKET))
        taken.append((dependant.http_connection_param_name, _WEBSOCKET))
        if dependant.security_scopes_param_name:
            scopes = SecurityScopes(_scopes(dependant))
            taken.append((dependant.security_scopes_param_name, self._new_place(scopes)))
        read = None
        if any(getattr(dependant, kind) for kind in FIELDS):
            read = self._new_place()
            self._readers.append(_Reader(dependant, read))
        named = tuple((name, place) for name, place in taken if name)
        return _Step(caller_of(call, concurrency), named, read, self._new_place())

    def _new_place(self, value: Any = None) -> int:
        self._values.append(value)
        return len(self._values) - 1


@dataclasses.dataclass(slots=True)
class _Reader:
    """Reads the parameters of one dependency from the request; `place` is that of their values."""

    dependant: Dependant
    place: int

    async def read(self, websocket: WebSocket, payload: Any, embed: bool) -> tuple[dict[str, Any], list[Any]]:
        """The values, and what is wrong with others."""
        wanted = self.dependant
        parts = [
            request_params_to_args(wanted.path_params, websocket.path_params),
            request_params_to_args(wanted.query_params, websocket.query_params),
            request_params_to_args(wanted.header_params, websocket.headers),
            request_params_to_args(wanted.cookie_params, websocket.cookies),
        ]
        if wanted.body_params:
            found, wrong = await request_body_to_args(wanted.body_params, payload, embed)
            # A field of a message is where it is, whoever asks for it.
            parts.append((found, [{**error, "loc": error["loc"][1:]} for error in wrong]))
        values = {name: value for found, _ in parts for name, value in found.items()}
        return values, [error for _, wrong in parts for error in wrong]


@dataclasses.dataclass(slots=True)
class _Step:
    """One call; `taken` are parameters and the places of their values, `read` is that of further ones."""

    call: Caller
    taken: tuple[tuple[str, int], ...]
    read: int | None
    place: int

    def arguments(self, values: Sequence[Any]) -> dict[str, Any]:
        found = {name: values[place] for name, place in self.taken}
        if self.read is not None:
            found.update(values[self.read])
        return found


def _check(dependant: Dependant, call: Callable[..., Any]) -> None:
    """Refuse a dependency that cannot be resolved for a message.

    Raises:
        TypeError: it wants what only an HTTP request has.
    """
    for attribute, kind in NOT_FOR_MESSAGES.items():
        name = getattr(dependant, attribute)
        if name:
            raise TypeError(
                f"the parameter {name!r} of {call!r} is {kind}, which a message has not; it may take a "
                "WebSocket or an HTTPConnection"
            )


def _scopes(dependant: Dependant) -> list[str]:
    """The OAuth scopes that hold for `dependant`."""
    return list(dict.fromkeys([*(dependant.parent_oauth_scopes or ()), *(dependant.own_oauth_scopes or ())]))


def _uses_scopes(dependant: Dependant) -> bool:
    """Whether its value depends on the OAuth scopes."""
    own = dependant.own_oauth_scopes or dependant.security_scopes_param_name
    return bool(own) or any(map(_uses_scopes, dependant.dependencies))


def warn_of_generators(scope: Scope) -> None:
    """Log the `yield` dependencies of the route that serves `scope`: they live as long as the connection.

    Once for each route, on which it is noted.
    """
    route = scope.get("route")
    dependant = getattr(route, "dependant", None)
    if not isinstance(dependant, Dependant) or hasattr(route, TOLD):
        return
    setattr(route, TOLD, True)
    names = [getattr(call, "__name__", repr(call)) for call in _generators(dependant)]
    if names:
        logger.warning(
            "%s of %s stay open as long as each connection does: let the actions depend on them, for each "
            "message",
            ", ".join(dict.fromkeys(names)),
            getattr(route, "path", ""),
        )


def _generators(dependant: Dependant) -> Iterator[Any]:
    for sub in dependant.dependencies:
        if sub.call is not None and opener_of(sub.call) is not None:
            yield sub.call
        yield from _generators(sub)
