"""An action: the function, what was said of it, and the plan by which a message becomes its arguments."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, date, datetime
from types import UnionType
from typing import Annotated, Any, Final, NotRequired, TypeVar, Union, cast, get_args, get_origin

from fastapi.params import Depends
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket
from typing_extensions import TypedDict, is_typeddict

from .connection import Connection
from .dependencies import Dependencies, DependencyErrors, is_dependency
from .exceptions import ConfigurationError, InvalidPayload
from .marks import marks
from .messages import Envelope, Message, RequestId
from .permission import BasePermission, Permission, as_permission

Func = TypeVar("Func", bound=Callable[..., Any])
Source = Callable[[Connection, Message], Any]

MAX_NAME: Final = 128
"""Characters of an action's name."""
MAX_ERRORS: Final = 100
"""How many faults of a payload a client is told of."""
DETACHED: Final = 32
"""How many calls of one detached action, or streams, a connection may have running."""

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
            self.dependencies = Dependencies(resolved, dependencies, _where(func))
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
        self._payload = _adapter(self.payload_type, f"the parameters {', '.join(fields)} of {_where(func)}")


@dataclasses.dataclass(slots=True, eq=False)
class ActionSpec:
    """Everything that is known of one action. The dispatcher reads it; nothing wraps the function."""

    name: str
    func: Callable[..., Any]
    permission: BasePermission
    deprecated: bool = False
    sunset: date | None = None
    concurrent: int = 1
    """How many calls of one connection may run at the same time."""
    dependencies: Sequence[Any] = ()
    response_model: Any = None
    summary: str | None = None
    description: str | None = None
    tags: Sequence[str] = ()
    include_in_schema: bool = True
    limits: list[Any] = dataclasses.field(default_factory=list)
    binding: Binding | None = dataclasses.field(init=False, default=None)
    passes: str = ""
    """What goes first: "self", "cls" or nothing."""
    late_calls: int = 0
    """How often it was called although it has a sunset."""
    is_stream: bool = dataclasses.field(init=False)
    """Whether it yields its replies, rather than to return one."""
    _is_async: bool = dataclasses.field(init=False)
    _reply: TypeAdapter[Any] | None = dataclasses.field(init=False, default=None)

    def __post_init__(self) -> None:
        self._is_async = inspect.iscoroutinefunction(self.func)
        self.is_stream = inspect.isasyncgenfunction(self.func)
        if self.response_model is not None:
            self._reply = _adapter(self.response_model, f"the response model of {_where(self.func)}")

    def bind(
        self, passes: str, dependencies: Sequence[Depends] = (), room_parameters: Collection[str] = ()
    ) -> ActionSpec:
        """A copy for one channel, its signature read.

        Args:
            passes: what the handler takes before its own parameters: "self", "cls" or nothing.
            dependencies: of the channel, beside its own.
            room_parameters: names that the room's pattern gives values for.
        """
        bound = copy.copy(self)
        bound.passes = passes
        bound.dependencies = (*dependencies, *self.dependencies)
        bound.binding = Binding(
            self.func,
            method=bool(passes),
            dependencies=bound.dependencies,
            room_parameters=room_parameters,
        )
        return bound

    @property
    def gone(self) -> bool:
        """Whether it is refused now: deprecated, or its sunset has come (UTC)."""
        return self.deprecated or (self.sunset is not None and datetime.now(UTC).date() >= self.sunset)

    async def call(self, owner: Any, connection: Connection, message: Message, envelope: Envelope) -> Any:
        """Bind, call, and give the reply's data: None when there is nothing to reply.

        Dependencies are closed before this returns, so that what fails in closing them is not
        followed by a reply.

        Raises:
            InvalidPayload: the payload does not fit. Whatever the handler raises passes through.
        """
        first, arguments, binding = self._arguments(owner, connection, message, envelope)
        if binding.dependencies is None:
            return self._encoded(await self._called(first, arguments))
        async with AsyncExitStack() as stack:
            arguments.update(await binding.depend(connection, message, envelope, stack))
            return self._encoded(await self._called(first, arguments))

    async def stream(
        self, owner: Any, connection: Connection, message: Message, envelope: Envelope
    ) -> AsyncGenerator[Any]:
        """Bind and call a handler that yields; its dependencies stay open until it ends.

        Raises:
            As `call`.
        """
        first, arguments, binding = self._arguments(owner, connection, message, envelope)
        async with AsyncExitStack() as stack:
            arguments.update(await binding.depend(connection, message, envelope, stack))
            async with aclosing(self.func(*first, **arguments)) as items:
                async for item in items:
                    yield self._encoded(item)

    def _arguments(
        self, owner: Any, connection: Connection, message: Message, envelope: Envelope
    ) -> tuple[tuple[Any, ...], dict[str, Any], Binding]:
        assert self.binding is not None, "bind() comes first"
        first = () if not self.passes else (owner,) if self.passes == "self" else (type(owner),)
        return first, self.binding.arguments(connection, message, envelope), self.binding

    async def _called(self, first: tuple[Any, ...], arguments: dict[str, Any]) -> Any:
        if self._is_async:
            return await self.func(*first, **arguments)
        return await run_in_threadpool(self.func, *first, **arguments)

    def _encoded(self, result: Any) -> Any:
        """`result` validated and filtered by the response model, where there is one."""
        if result is None or self._reply is None:
            return result
        valid = self._reply.validate_python(result, from_attributes=True)
        return self._reply.dump_python(valid, mode="json", by_alias=True)


def make_spec(
    func: Callable[..., Any],
    name: str | None = None,
    *,
    permission: Permission = None,
    deprecated: bool = False,
    sunset: date | None = None,
    detached: bool = False,
    concurrent: int = 1,
    dependencies: Sequence[Any] = (),
    response_model: Any = None,
    summary: str | None = None,
    description: str | None = None,
    tags: Sequence[str] = (),
    include_in_schema: bool = True,
) -> ActionSpec:
    """The spec of `func`, its options checked.

    Raises:
        ConfigurationError: an option that cannot work; names it.
    """
    name = func.__name__ if name is None else name
    if not isinstance(name, str) or not name or len(name) > MAX_NAME:
        raise ConfigurationError(
            f"an action's name must be a text of 1 to {MAX_NAME} characters, got {name!r}"
        )
    if type(concurrent) is not int or concurrent < 1:
        raise ConfigurationError(f"concurrent of the action {name!r} must be 1 or more, got {concurrent!r}")
    if sunset is not None and not isinstance(sunset, date):
        raise ConfigurationError(f"sunset of the action {name!r} must be a date, got {sunset!r}")
    # A stream lasts: whoever is sent one must be able to ask for something else, and to cancel it.
    beside = detached or inspect.isasyncgenfunction(func)
    return ActionSpec(
        name=name,
        func=func,
        permission=as_permission(permission),
        deprecated=bool(deprecated),
        sunset=sunset.date() if isinstance(sunset, datetime) else sunset,
        concurrent=DETACHED if concurrent == 1 and beside else concurrent,
        dependencies=tuple(dependencies),
        response_model=_returned(func) if response_model is None else response_model,
        summary=summary,
        description=description or inspect.getdoc(func),
        tags=tuple(tags),
        include_in_schema=include_in_schema,
        limits=marks(func).limits,
    )


def collect(
    cls: type, dependencies: Sequence[Depends] = (), room_parameters: Collection[str] = ()
) -> dict[str, ActionSpec]:
    """The actions of a channel class, its parents and mixins, by name.

    As with any attribute the first definition along the MRO counts: an override that is not marked
    takes the action away.
    """
    table: dict[str, ActionSpec] = {}
    for owner, value in _attributes(cls):
        func = getattr(value, "__func__", value)
        spec = marks(func).action if inspect.isfunction(func) else None
        if spec is None:
            continue
        other = table.get(spec.name)
        if other is None:
            passes = {staticmethod: "", classmethod: "cls"}.get(type(value), "self")
            table[spec.name] = spec.bind(passes, dependencies, room_parameters)
        elif vars(owner).get(other.func.__name__) is other.func:
            raise ConfigurationError(
                f"{owner.__name__} has two actions named {spec.name!r}: "
                f"{other.func.__name__} and {func.__name__}"
            )
    return table


def _attributes(cls: type) -> Iterator[tuple[type, Any]]:
    seen: set[str] = set()
    for owner in cls.__mro__:
        for name, value in vars(owner).items():
            if name not in seen:
                seen.add(name)
                yield owner, value


def _parameters(func: Callable[..., Any], method: bool) -> list[inspect.Parameter]:
    """The parameters to bind, their annotations evaluated where that is possible."""
    parameters = list(inspect.signature(func).parameters.values())
    if method:
        if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
            raise ConfigurationError(f"{_where(func)} is a method but takes no self")
        parameters = parameters[1:]
    return [p.replace(annotation=_evaluate(func, p)) for p in parameters if p.kind is not p.VAR_POSITIONAL]


def _evaluate(func: Callable[..., Any], parameter: inspect.Parameter) -> Any:
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
            f"the annotation {annotation!r} of the parameter {parameter.name!r} of {_where(func)} "
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
        f"the parameter {parameter.name!r} of {_where(func)} cannot be bound: it {problem}. A handler "
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


def _adapter(annotation: Any, what: str) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation)
    except (PydanticUserError, TypeError) as exc:
        raise ConfigurationError(f"{what} cannot be validated: {exc}") from exc


def _returned(func: Callable[..., Any]) -> Any:
    """The return annotation, where it says something about a reply."""
    annotation = inspect.signature(func).return_annotation
    if isinstance(annotation, str):
        parameter = inspect.Parameter("return_", inspect.Parameter.KEYWORD_ONLY, annotation=annotation)
        annotation = _evaluate(func, parameter)
    if inspect.isasyncgenfunction(func):
        # What a stream replies with is what it yields.
        annotation = (*get_args(annotation), _EMPTY)[0]
    return None if annotation in (_EMPTY, None, type(None), Any) else annotation


def _invalid(errors: Sequence[Any], message: Message) -> InvalidPayload:
    return InvalidPayload(
        close=False,
        data=[{"loc": list(e["loc"]), "msg": e["msg"], "type": e["type"]} for e in errors[:MAX_ERRORS]],
        request_id=message.request_id,
        context={"action": message.action},
    )


def _room_parameter(name: str) -> Source:
    return lambda connection, message: connection.params[name]


def _where(func: Callable[..., Any]) -> str:
    return f"{func.__module__}.{func.__qualname__}"
