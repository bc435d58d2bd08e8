"""How a message becomes the arguments of a handler: the plan that is read from its signature once."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack
from types import UnionType
from typing import Annotated, Any, Final, NotRequired, Union, cast, get_args, get_origin

from fastapi.params import Depends
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from starlette.websockets import WebSocket
from typing_extensions import TypedDict, is_typeddict

from .connection import Connection
from .dependencies import Dependencies, DependencyErrors, is_dependency
from .exceptions import ConfigurationError, InvalidPayload
from .messages import Envelope, Message, RequestId

Source = Callable[[Connection, Message], Any]

MAX_ERRORS: Final = 100
"""How many faults of a payload a client is told of."""
SOURCES: Final[dict[str, Source]] = {
    "websocket": lambda connection, message: connection.websocket,
    "channel": lambda connection, message: connection.room,
    "data": lambda connection, message: message.data,
    "action": lambda connection, message: message.action,
    "request_id": lambda connection, message: message.request_id,
    "connection": lambda connection, message: connection,
}
"""What a handler may receive by the name of a parameter."""

_EMPTY: Final = inspect.Parameter.empty


class Binding:
    """How a message becomes the arguments of one handler; read from its signature once.

    Raises:
        ConfigurationError: names the parameter that nothing can be bound to.
    """

    __slots__ = ("_payload", "_payload_name", "_sources", "dependencies", "payload_type")

    def __init__(
        self,
        func: Callable[..., Any],
        *,
        method: bool,
        dependencies: Sequence[Depends] = (),
        room_parameters: Collection[str] = (),
    ) -> None:
        self._sources: tuple[tuple[str, Source], ...] = ()
        self._payload: TypeAdapter[Any] | None = None
        self._payload_name: str | None = None
        self.payload_type: Any = None
        """The type that payloads are validated against, or None."""
        sources: dict[str, Source] = {}
        fields: dict[str, inspect.Parameter] = {}
        resolved: list[inspect.Parameter] = []
        for parameter in _parameters(func, method):
            if parameter.kind is parameter.VAR_KEYWORD:
                sources = {**SOURCES, **sources}
            elif is_dependency(parameter):
                resolved.append(parameter)
            elif parameter.name in room_parameters:
                sources[parameter.name] = _room_parameter(parameter.name)
            elif (source := _source_of(parameter)) is not None:
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
        found = {name: source(connection, message) for name, source in self._sources}
        if self._payload is not None:
            try:
                value = self._payload.validate_python(envelope.payload_of(message))
            except ValidationError as exc:
                errors = exc.errors(include_url=False, include_context=False, include_input=False)
                raise _invalid(errors, message) from None
            if self._payload_name is None:
                found.update(value)
            else:
                found[self._payload_name] = value
        return found

    async def depend(
        self, connection: Connection, message: Message, envelope: Envelope, stack: AsyncExitStack
    ) -> dict[str, Any]:
        """The arguments that FastAPI resolves; what is opened for them closes with `stack`.

        Raises:
            InvalidPayload: the request does not fit them. What a dependency raises passes through.
        """
        if self.dependencies is None:
            return {}
        payload = envelope.payload_of(message)
        try:
            return await self.dependencies.solve(connection.websocket, payload, stack)
        except DependencyErrors as exc:
            raise _invalid(exc.errors, message) from None

    def _bind_payload(self, func: Callable[..., Any], fields: dict[str, inspect.Parameter]) -> None:
        first = next(iter(fields.values()))
        if len(fields) == 1 and _is_model(first.annotation):
            self._payload_name, self.payload_type = first.name, first.annotation
        else:
            members = {name: _field_type(parameter) for name, parameter in fields.items()}
            self.payload_type = _typed_dict(f"{func.__name__}_payload", members)
        self._payload = adapter(self.payload_type, f"the parameters {', '.join(fields)} of {where(func)}")


def _parameters(func: Callable[..., Any], method: bool) -> list[inspect.Parameter]:
    """The parameters to bind, their annotations evaluated where that is possible."""
    parameters = list(inspect.signature(func).parameters.values())
    if method:
        if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
            raise ConfigurationError(f"{where(func)} is a method but takes no self")
        parameters = parameters[1:]
    return [p.replace(annotation=evaluate(func, p)) for p in parameters if p.kind is not p.VAR_POSITIONAL]


def evaluate(func: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    annotation = parameter.annotation
    if not isinstance(annotation, str):
        return annotation
    names = getattr(inspect.unwrap(func), "__globals__", None) or vars(sys.modules[func.__module__])
    try:
        return eval(annotation, names)  # noqa: S307  the user's own annotation, as typing.get_type_hints does
    except Exception as exc:
        if parameter.name in SOURCES or parameter.kind is parameter.VAR_KEYWORD:
            return _EMPTY
        raise ConfigurationError(
            f"the annotation {annotation!r} of the parameter {parameter.name!r} of {where(func)} "
            f"cannot be read: {exc}; define or import the name at module level"
        ) from exc


def _source_of(parameter: inspect.Parameter) -> Source | None:
    """What the framework itself passes for `parameter`, or None where it is part of the payload."""
    annotation = parameter.annotation
    if annotation is RequestId:
        return SOURCES["request_id"]
    for candidate in get_args(annotation) or (annotation,):
        if isinstance(candidate, type) and issubclass(candidate, WebSocket):
            return SOURCES["websocket"]
        if isinstance(candidate, type) and issubclass(candidate, Connection):
            return SOURCES["connection"]
    if parameter.name == "data" and _is_model(annotation):
        return None
    return SOURCES.get(parameter.name)


def _check_field(func: Callable[..., Any], parameter: inspect.Parameter) -> None:
    if parameter.kind is parameter.POSITIONAL_ONLY:
        problem = "is positional-only, handlers are called with keywords"
    elif parameter.annotation is _EMPTY:
        problem = "has no annotation"
    else:
        return
    raise ConfigurationError(
        f"the parameter {parameter.name!r} of {where(func)} cannot be bound: it {problem}. A handler "
        f"may take {', '.join(SOURCES)}, **kwargs, a payload model, or annotated fields of the message"
    )


def _is_model(annotation: Any) -> bool:
    """Whether a parameter of this type takes the whole payload rather than one field."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_model(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return all(_is_model(member) for member in get_args(annotation))
    if origin is not None and isinstance(origin, type):
        annotation = origin
    if not isinstance(annotation, type):
        return False
    return (
        issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation) or is_typeddict(annotation)
    )


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


def _invalid(errors: Sequence[Any], message: Message) -> InvalidPayload:
    return InvalidPayload(
        close=False,
        data=[{"loc": list(e["loc"]), "msg": e["msg"], "type": e["type"]} for e in errors[:MAX_ERRORS]],
        request_id=message.request_id,
        context={"action": message.action},
    )


def _room_parameter(name: str) -> Source:
    return lambda connection, message: connection.params[name]


def where(func: Callable[..., Any]) -> str:
    return f"{func.__module__}.{func.__qualname__}"
