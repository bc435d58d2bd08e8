"""How a message becomes the arguments of a handler: the plan that is read from its signature once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Final, NotRequired, cast, get_origin

from fastapi.params import Depends
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from starlette.websockets import WebSocket
from typing_extensions import TypedDict

from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import ConfigurationError, InvalidPayload
from fastapi_channels.signatures.dependencies import Dependencies, is_dependency, told
from fastapi_channels.signatures.graph import DependencyErrors, Resolution
from fastapi_channels.signatures.signature import (
    check_room_parameter,
    evaluate,
    is_model,
    members,
    where,
)
from fastapi_channels.wire.messages import Envelope, Message, RequestId

Source = Callable[[Connection, Message], Any]

MAX_LISTED: Final = 1000
"""Beyond so many faults they are counted and not listed: to list a million takes seconds."""
SOURCES: Final[dict[str, Source]] = {
    "websocket": lambda connection, message: connection.websocket,
    "channel": lambda connection, message: connection.room,
    "data": lambda connection, message: message.data,
    "action": lambda connection, message: message.action,
    "request_id": lambda connection, message: message.request_id,
    "connection": lambda connection, message: connection,
}
"""What a handler may receive by the name of a parameter."""
_TYPES: Final[Mapping[str, type]] = {"channel": str, "action": str, "data": dict}
"""Of which type some of it is."""

_EMPTY: Final = inspect.Parameter.empty


class Binding:
    """How a message becomes the arguments of one handler; read from its signature once.

    Raises:
        ConfigurationError: names the parameter that nothing can be bound to.
    """

    __slots__ = ("_payload", "_payload_name", "_sources", "dependencies", "may_be_empty", "payload_type")

    def __init__(
        self,
        func: Callable[..., Any],
        *,
        method: bool,
        dependencies: Sequence[Depends] = (),
        room_parameters: Mapping[str, type | None] = MappingProxyType({}),
    ) -> None:
        self._sources: tuple[tuple[str, Source], ...] = ()
        self._payload: TypeAdapter[Any] | None = None
        self._payload_name: str | None = None
        self.may_be_empty = False
        self.payload_type: Any = None
        """The type that payloads are validated against, or None."""
        sources: dict[str, Source] = {}
        fields: dict[str, inspect.Parameter] = {}
        resolved: list[inspect.Parameter] = []
        for parameter in _parameters(func, method):
            _check_kind(func, parameter)
            if parameter.kind is parameter.VAR_KEYWORD:
                sources = {**SOURCES, **sources}
            elif is_dependency(parameter):
                resolved.append(parameter)
            elif parameter.name in room_parameters:
                check_room_parameter(func, parameter, room_parameters[parameter.name])
                sources[parameter.name] = _room_parameter(parameter.name)
            elif (source := _source_of(func, parameter)) is not None:
                sources[parameter.name] = source
            else:
                _check_field(func, parameter)
                fields[parameter.name] = parameter
        taken = {*fields, *(parameter.name for parameter in resolved)}
        self._sources = tuple((name, source) for name, source in sources.items() if name not in taken)
        self.dependencies: Dependencies | None = None
        """What FastAPI resolves for each message, or None."""
        if resolved or dependencies:
            self.dependencies = Dependencies(resolved, dependencies, where(func))
        if fields:
            self._bind_payload(func, fields)

    def arguments(self, connection: Connection, message: Message, envelope: Envelope) -> dict[str, Any]:
        """The keyword arguments for one call.

        Raises:
            InvalidPayload: the payload does not validate.
        """
        found: dict[str, Any] = {}
        for name, source in self._sources:
            found[name] = source(connection, message)
        if self._payload is not None:
            payload = envelope.payload_of(message)
            if not payload and self.may_be_empty:
                return found
            try:
                value = self._payload.validate_python(payload)
            except ValidationError as exc:
                raise _invalid(faults(exc), message) from None
            if self._payload_name is None:
                found.update(value)
            else:
                found[self._payload_name] = value
        return found

    async def depend(self, resolution: Resolution, message: Message) -> dict[str, Any]:
        """The arguments that FastAPI resolves.

        Raises:
            InvalidPayload: the request does not fit them. What a dependency raises passes through.
        """
        if self.dependencies is None:
            return {}
        try:
            return await self.dependencies.solve(resolution)
        except DependencyErrors as exc:
            raise _invalid(exc.errors, message) from None

    def _bind_payload(self, func: Callable[..., Any], fields: dict[str, inspect.Parameter]) -> None:
        first = next(iter(fields.values()))
        if len(fields) == 1 and is_model(first.annotation):
            self._payload_name, self.payload_type = first.name, first.annotation
            self.may_be_empty = first.default is not _EMPTY
            self._payload = adapter(first.annotation, _parameter(func, first.name))
            return
        members = {name: _field_type(parameter) for name, parameter in fields.items()}
        for name, member in members.items():
            # Each by itself, so that an error names it.
            adapter(_typed_dict(name, {name: member}), _parameter(func, name))
        self.payload_type = _typed_dict(f"{getattr(func, '__name__', 'action')}_payload", members)
        self._payload = adapter(self.payload_type, f"the payload of {where(func)}")


def _parameters(func: Callable[..., Any], method: bool) -> list[inspect.Parameter]:
    """The parameters to bind, their annotations evaluated where that is possible."""
    parameters = list(inspect.signature(func).parameters.values())
    if method:
        if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
            raise ConfigurationError(f"{where(func)} is a method but takes no self")
        parameters = parameters[1:]
    named = [p for p in parameters if p.kind is not p.VAR_POSITIONAL]
    return [p.replace(annotation=evaluate(func, p, SOURCES)) for p in named]


def _source_of(func: Callable[..., Any], parameter: inspect.Parameter) -> Source | None:
    """What the framework itself passes for `parameter`, or None where it is part of the payload.

    Raises:
        ConfigurationError: its name and its annotation contradict each other.
    """
    name, annotation = parameter.name, parameter.annotation
    if annotation == RequestId:
        return SOURCES["request_id"]
    for candidate in members(annotation):
        if isinstance(candidate, type) and issubclass(candidate, WebSocket):
            return SOURCES["websocket"]
        plain = get_origin(candidate) or candidate  # of Connection[Person]
        if isinstance(plain, type) and issubclass(plain, Connection):
            return SOURCES["connection"]
    if is_model(annotation):
        return None
    if name in _TYPES and annotation not in (_EMPTY, Any):
        plain = get_origin(annotation) or annotation
        if isinstance(plain, type) and not issubclass(_TYPES[name], plain):
            problem = f"that name stands for a {_TYPES[name].__name__}, not a {plain.__name__}"
            raise _unbindable(func, name, problem)
    return SOURCES.get(name)


def _check_kind(func: Callable[..., Any], parameter: inspect.Parameter) -> None:
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise _unbindable(func, parameter.name, "it is positional-only, and would be called with keywords")


def _check_field(func: Callable[..., Any], parameter: inspect.Parameter) -> None:
    if parameter.annotation is _EMPTY:
        raise _unbindable(func, parameter.name, "it has no annotation")


def _unbindable(func: Callable[..., Any], name: str, problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"{_parameter(func, name)} cannot be bound: {problem}. A handler may take {', '.join(SOURCES)}, "
        "**kwargs, a payload model, annotated fields of the message, and whatever FastAPI resolves"
    )


def _parameter(func: Callable[..., Any], name: str) -> str:
    return f"the parameter {name!r} of {where(func)}"


_typed_dict = cast("Callable[[str, dict[str, Any]], Any]", TypedDict)
# Made at run time: no type checker can follow, and none needs to.


def _field_type(parameter: inspect.Parameter) -> Any:
    """The type of one field of the payload; a default is left to the function itself."""
    annotation, default = parameter.annotation, parameter.default
    if isinstance(default, FieldInfo):
        return Annotated[annotation, default]
    return annotation if default is _EMPTY else NotRequired[annotation]


def adapter(annotation: Any, what: str) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation)
    except (PydanticUserError, TypeError) as exc:
        raise ConfigurationError(f"{what} cannot be validated: {exc}") from exc


def faults(exc: ValidationError) -> Sequence[Any]:
    """What is wrong with a client's data, without the data."""
    count = exc.error_count()
    if count > MAX_LISTED:
        return [{"loc": (), "msg": f"{count} faults are too many to list", "type": "too_many_errors"}]
    return exc.errors(include_url=False, include_context=False, include_input=False)


def _invalid(errors: Sequence[Any], message: Message) -> InvalidPayload:
    return InvalidPayload(
        close=False,
        data=told(errors),
        request_id=message.request_id,
        context={"action": repr(message.action[:64])},
    )


def _room_parameter(name: str) -> Source:
    return lambda connection, message: connection.params[name]
