"""A graph of dependencies, as FastAPI has read it, compiled into a list of calls; and what it is run with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final

from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_dependant, request_body_to_args, request_params_to_args
from fastapi.security import SecurityScopes
from starlette.websockets import WebSocket

from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.wire.messages import Envelope, Message

from .callables import Caller, caller_of
from .signature import is_model

NOT_FOR_MESSAGES: Final = {
    "request_param_name": "a Request",
    "response_param_name": "a Response",
    "background_tasks_param_name": "BackgroundTasks",
}
"""What FastAPI passes to a dependency of an HTTP request, and a message has not."""
FIELDS: Final = ("path_params", "query_params", "header_params", "cookie_params", "body_params")


def current_connection() -> Connection:
    """Dependency: the connection that something is done for.

    `Annotated[Connection, Depends(current_connection)]` in a function that an action depends on, or a
    permission, `authorize`, a join or leave handler.
    """
    raise ConfigurationError("current_connection is for what a channel calls: a route has no connection")


def current_message() -> Message:
    """Dependency: the message that is being handled."""
    raise ConfigurationError("current_message is for what actions depend on: a route has no message")


class DependencyErrors(Exception):
    """What a client sent does not fit the parameters of a dependency; `errors` as FastAPI lists them."""

    def __init__(self, errors: Sequence[Any]) -> None:
        super().__init__(f"{len(errors)} errors")
        self.errors = errors


class Resolution(AsyncExitStack):
    """What is resolved for one message, or once for all that is asked in one handshake. What is opened for
    it closes with this context.

    Raises:
        RuntimeError: a dependency swallows what was raised; nothing that failed must look as if it had not.

    Args:
        websocket: whose headers, cookies and parameters are read.
        connection: None as long as there is none.
        message, envelope: None where nothing was sent.
    """

    def __init__(
        self,
        websocket: WebSocket,
        connection: Connection | None,
        message: Message | None = None,
        envelope: Envelope | None = None,
    ) -> None:
        super().__init__()
        self.websocket = websocket
        self.connection = connection
        self.message = message
        self.envelope = envelope
        self.found: dict[Any, Any] = {}
        """The values of the dependencies that were called."""

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if await super().__aexit__(kind, exc, trace):
            raise RuntimeError("a dependency swallows exceptions: it must raise them on") from exc


_WEBSOCKET: Final = 0
_CONNECTION: Final = 1
_MESSAGE: Final = 2
"""The places of what is known before anything is called."""

_GIVEN: Final[dict[Any, int]] = {current_connection: _CONNECTION, current_message: _MESSAGE}


class Plan:
    """A graph of dependencies as a list of calls, each after those whose values it takes.

    Every value has a place in one list: what is known, what is read from the request, what is returned.
    """

    __slots__ = (
        "_body_fields",
        "_embed",
        "_has_message",
        "_has_request",
        "_overrides",
        "_places",
        "_readers",
        "_root",
        "_steps",
        "_values",
    )

    def __init__(
        self, root: Dependant, overrides: Mapping[Any, Any], *, has_message: bool, has_request: bool
    ) -> None:
        self._overrides = overrides
        self._has_message = has_message
        self._has_request = has_request
        self._values: list[Any] = [None] * 3
        self._places: dict[Any, int] = {}
        self._readers: list[_Reader] = []
        self._steps: list[_Step] = []
        self._root = self._step_of(root, dict)
        fields = [field for reader in self._readers for field in reader.dependant.body_params]
        self._body_fields = bool(fields)
        if fields and not has_message:
            raise TypeError(f"{fields[0].name!r} would be read from a message, and there is none")
        # As in FastAPI: one model is the whole body, several things are its fields.
        whole = len({field.name for field in fields}) == 1 and is_model(fields[0].field_info.annotation)
        self._embed = not whole

    async def run(self, resolution: Resolution) -> dict[str, Any]:
        values = self._values.copy()
        values[:3] = resolution.websocket, resolution.connection, resolution.message
        if self._readers:
            await self._read(values, resolution.envelope)
        found = resolution.found
        for step in self._steps:
            if step.key in found:
                values[step.place] = found[step.key]
                continue
            value = values[step.place] = await step.call(step.arguments(values), resolution)
            if step.key is not None:
                found[step.key] = value
        return self._root.arguments(values)

    async def _read(self, values: list[Any], envelope: Envelope | None) -> None:
        """Put what the request has into `values`, validated.

        Raises:
            DependencyErrors: something in the request does not fit.
        """
        payload = envelope.payload_of(values[_MESSAGE]) if self._body_fields and envelope else None
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
            if call is current_message and not self._has_message:
                raise TypeError("current_message is for what actions depend on, and there is no message")
            if not self._has_request:
                raise TypeError("current_connection is for what is done for a client, and there is none")
            return _GIVEN[call]
        scopes = tuple(sorted(_scopes(dependant))) if _uses_scopes(dependant) else ()
        key = (original, scopes, dependant.scope == "function")
        if dependant.use_cache and key in self._places:
            return self._places[key]
        concurrency = getattr(dependant, "concurrency", None)  # newer than the oldest FastAPI
        if call is not original:
            dependant = get_dependant(path="", call=call, parent_oauth_scopes=_scopes(dependant))
        step = self._step_of(dependant, call, concurrency)
        step.key = key if dependant.use_cache else None
        self._steps.append(step)
        self._places.setdefault(key, step.place)
        return step.place

    def _step_of(self, dependant: Dependant, call: Callable[..., Any], concurrency: Any = None) -> _Step:
        """The step for `dependant`; those that it needs are added."""
        check = _check if self._has_request else _check_reads_nothing
        check(dependant, call)
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
    """One call; `taken` are parameters and the places of their values, `read` is that of further ones. What
    has a `key` is called once in a resolution."""

    call: Caller
    taken: tuple[tuple[str, int], ...]
    read: int | None
    place: int
    key: Any = None

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


def _check_reads_nothing(dependant: Dependant, call: Callable[..., Any]) -> None:
    """Refuse a dependency that cannot be resolved where nobody has asked for anything.

    Raises:
        TypeError: it wants a WebSocket, or what is of a request.
    """
    whole = (getattr(dependant, attribute) for attribute in ("websocket_param_name", *NOT_FOR_MESSAGES))
    parts = (field.name for kind in FIELDS for field in getattr(dependant, kind))
    for name in filter(None, (*parts, *whole)):
        raise TypeError(
            f"the parameter {name!r} of {call!r} is of a request, and there is none; it may take an "
            "HTTPConnection, for its app"
        )


def _scopes(dependant: Dependant) -> list[str]:
    """The OAuth scopes that hold for `dependant`."""
    return list(dict.fromkeys([*(dependant.parent_oauth_scopes or ()), *(dependant.own_oauth_scopes or ())]))


def _uses_scopes(dependant: Dependant) -> bool:
    """Whether its value depends on the OAuth scopes."""
    own = dependant.own_oauth_scopes or dependant.security_scopes_param_name
    return bool(own) or any(map(_uses_scopes, dependant.dependencies))
