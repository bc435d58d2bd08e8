"""An action: the function, what was said of it, and how it is called."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Any, Final, TypeAlias, TypeVar, Unpack, get_args

from fastapi.params import Depends
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool

from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.permission import BasePermission, as_permission
from fastapi_channels.signatures.callables import awaited
from fastapi_channels.signatures.graph import Resolution
from fastapi_channels.signatures.signature import evaluate, names_of, where
from fastapi_channels.wire.messages import Envelope, Message

from .binding import Binding, adapter
from .marks import marks
from .options import ActionOptions

Func = TypeVar("Func", bound=Callable[..., Any])
Recall: TypeAlias = Callable[[], Awaitable[tuple[Any] | None]]
"""Says what a call was answered, if it was handled before."""

MAX_NAME: Final = 128
"""Characters of an action's name."""
DETACHED: Final = 32
"""How many calls of one detached action, or streams, a connection may have running."""

_EMPTY: Final = inspect.Parameter.empty


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
    idempotent: bool = False
    """Whether a call that is made again is not handled again."""
    dependencies: Sequence[Any] = ()
    response_model: Any = None
    summary: str | None = None
    description: str | None = None
    tags: Sequence[str] = ()
    include_in_schema: bool = True
    limits: list[Any] = dataclasses.field(default_factory=list)
    exception_handlers: Mapping[type[Exception], Callable[..., Any]] = dataclasses.field(default_factory=dict)
    """Those of its routers: asked before the channel's."""
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
            self._reply = adapter(self.response_model, f"the response model of {where(self.func)}")

    def bind(
        self,
        passes: str,
        dependencies: Sequence[Depends] = (),
        room_parameters: Mapping[str, type | None] = MappingProxyType({}),
    ) -> ActionSpec:
        """A copy for one channel, its signature read.

        Args:
            passes: what the handler takes before its own parameters: "self", "cls" or nothing.
            dependencies: of the channel, beside its own.
            room_parameters: what the room's pattern gives, by name, with its type where that is known.
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

    def refuse_fields(self, taken: Collection[str]) -> None:
        """
        Raises:
            ConfigurationError: a field of its payload has a name that stands for something else in a frame.
        """
        assert self.binding is not None, "bind() comes first"
        lost = sorted(names_of(self.binding.payload_type) & set(taken))
        if lost:
            raise ConfigurationError(
                f"the action {self.name!r} would never get the field {lost[0]!r}: that name belongs to the "
                'frame. Give the field an alias, or nest payloads: envelope = Envelope(payload="payload")'
            )

    @property
    def gone(self) -> bool:
        """Whether it is refused now: deprecated, or its sunset has come (UTC)."""
        if self.sunset is None:
            return self.deprecated
        return self.deprecated or datetime.fromtimestamp(time.time(), UTC).date() >= self.sunset

    def call(
        self,
        owner: Any,
        connection: Connection,
        message: Message,
        envelope: Envelope,
        recall: Recall | None = None,
    ) -> Awaitable[Any]:
        """Bind and call; to be awaited for the reply's data, which is None when there is nothing to reply.

        Dependencies are closed before that is there, so that what fails in closing them is not followed by
        a reply.

        Args:
            recall: asked when everything fits, and the handler is what is left to call.

        Raises:
            InvalidPayload: the payload does not fit. Whatever the handler raises passes through.
        """
        assert self.binding is not None, "bind() comes first"
        if self.binding.dependencies is not None or recall is not None:
            return self._call_within(self.binding, owner, connection, message, envelope, recall)
        arguments = self.binding.arguments(connection, message, envelope)
        result = self._called(owner, arguments)
        return result if self._reply is None else self._encoded_later(result)

    async def _call_within(
        self,
        binding: Binding,
        owner: Any,
        connection: Connection,
        message: Message,
        envelope: Envelope,
        recall: Recall | None,
    ) -> Any:
        async with Resolution(connection.websocket, connection, message, envelope) as resolution:
            # First: who may not call an action is not told what would fit it.
            found = await binding.depend(resolution, message)
            arguments = binding.arguments(connection, message, envelope)
            arguments.update(found)
            if recall is not None and (known := await recall()) is not None:
                return known[0]
            return self._encoded(await self._called(owner, arguments))

    async def stream(
        self, owner: Any, connection: Connection, message: Message, envelope: Envelope
    ) -> AsyncGenerator[Any]:
        """Bind and call a handler that yields; its dependencies stay open until it ends.

        Raises:
            As `call`.
        """
        assert self.binding is not None, "bind() comes first"
        async with Resolution(connection.websocket, connection, message, envelope) as resolution:
            found = await self.binding.depend(resolution, message)
            arguments = self.binding.arguments(connection, message, envelope)
            arguments.update(found)
            async with aclosing(self.func(*self._first(owner), **arguments)) as items:
                async for item in items:
                    yield self._encoded(item)

    def _first(self, owner: Any) -> tuple[Any, ...]:
        """What goes before the handler's own parameters."""
        return () if not self.passes else (owner,) if self.passes == "self" else (type(owner),)

    def _called(self, owner: Any, arguments: dict[str, Any]) -> Awaitable[Any]:
        result: Awaitable[Any]
        if not self._is_async:
            result = self._called_in_thread(owner, arguments)
        elif self.passes == "self":
            result = self.func(owner, **arguments)
        else:
            result = self.func(*self._first(owner), **arguments)
        return result

    async def _called_in_thread(self, owner: Any, arguments: dict[str, Any]) -> Any:
        # A wrapper or a callable object may be async although nothing in its own form says so.
        return await awaited(await run_in_threadpool(self.func, *self._first(owner), **arguments))

    async def _encoded_later(self, result: Awaitable[Any]) -> Any:
        return self._encoded(await result)

    def _encoded(self, result: Any) -> Any:
        """`result` validated and filtered by the response model, where there is one."""
        if result is None or self._reply is None:
            return result
        valid = self._reply.validate_python(result, from_attributes=True)
        return self._reply.dump_python(valid, mode="json", by_alias=True)


def decorator_of(
    register: Callable[[ActionSpec], None], name: str | None, options: ActionOptions
) -> Callable[[Func], Func]:
    """The decorator that hands the spec of a function to `register`, and returns the function as it is.

    Raises:
        ConfigurationError: `name` is the function, as the decorator was written without its parentheses; or
            there is no such option.
    """
    if callable(name):
        raise ConfigurationError(f"{where(name)} needs action() with parentheses")
    unknown = options.keys() - ActionOptions.__optional_keys__
    if unknown:
        raise ConfigurationError(f"action() got an unexpected keyword argument {min(unknown)!r}")

    def decorate(func: Func) -> Func:
        register(make_spec(_plain(func), name, **options))
        return func

    return decorate


def make_spec(
    func: Callable[..., Any], name: str | None = None, **options: Unpack[ActionOptions]
) -> ActionSpec:
    """The spec of `func`, its options checked.

    Raises:
        ConfigurationError: an option that cannot work; names it.
    """
    name = _name_of(func, name)
    _check_options(name, options)
    if inspect.isgeneratorfunction(func):
        raise ConfigurationError(f"the action {name!r} must be an async generator to stream its replies")
    if options.get("idempotent") and inspect.isasyncgenfunction(func):
        raise ConfigurationError(f"the action {name!r} streams its replies: an idempotent one has one")
    # A stream lasts: whoever is sent one must be able to ask for something else, and to cancel it.
    beside = options.get("detached") or inspect.isasyncgenfunction(func)
    concurrent, sunset = options.get("concurrent", 1), options.get("sunset")
    model = options.get("response_model")
    return ActionSpec(
        name=name,
        func=func,
        permission=as_permission(options.get("permission")),
        deprecated=bool(options.get("deprecated")),
        sunset=sunset.date() if isinstance(sunset, datetime) else sunset,
        concurrent=DETACHED if concurrent == 1 and beside else concurrent,
        idempotent=bool(options.get("idempotent")),
        dependencies=tuple(options.get("dependencies", ())),
        response_model=_returned(func) if model is None else model,
        summary=options.get("summary"),
        description=options.get("description") or inspect.getdoc(func),
        tags=tuple(options.get("tags", ())),
        include_in_schema=options.get("include_in_schema", True),
        limits=marks(func).limits,
    )


def _plain(func: Any) -> Callable[..., Any]:
    """The function in a staticmethod or classmethod."""
    plain: Callable[..., Any] = func.__func__ if isinstance(func, staticmethod | classmethod) else func
    return plain


def _name_of(func: Callable[..., Any], name: str | None) -> str:
    name = getattr(func, "__name__", None) if name is None else name
    if name is None:
        raise ConfigurationError(f"{func!r} has no name of its own: give the action one")
    if not isinstance(name, str) or not name or len(name) > MAX_NAME:
        raise ConfigurationError(
            f"an action's name must be a text of 1 to {MAX_NAME} characters, got {name!r} for {where(func)}"
        )
    return name


def _check_options(name: str, options: ActionOptions) -> None:
    concurrent, sunset = options.get("concurrent", 1), options.get("sunset")
    if type(concurrent) is not int or concurrent < 1:
        raise ConfigurationError(f"concurrent of the action {name!r} must be 1 or more, got {concurrent!r}")
    if sunset is not None and not isinstance(sunset, date):
        raise ConfigurationError(f"sunset of the action {name!r} must be a date, got {sunset!r}")


def is_action(func: Any) -> bool:
    """Whether `func` was marked with `@action`."""
    func = getattr(func, "__func__", func)
    return inspect.isfunction(func) and marks(func).action is not None


def collect(
    cls: type,
    dependencies: Sequence[Depends] = (),
    room_parameters: Mapping[str, type | None] = MappingProxyType({}),
) -> dict[str, ActionSpec]:
    """The actions of a channel class, its parents and mixins, by name.

    As with any attribute the first definition along the MRO counts: an override that is not marked
    takes the action away.

    Raises:
        ConfigurationError: two have one name, or a limit is on what is no action.
    """
    table: dict[str, ActionSpec] = {}
    for owner, value in attributes(cls):
        func = getattr(value, "__func__", value)
        if not inspect.isfunction(func):
            continue
        spec = marks(func).action
        if spec is None:
            if marks(func).limits:
                raise ConfigurationError(f"{where(func)} has a rate limit, and is no action: add @action()")
            continue
        if spec.func is not func:
            # A wrapper stands above `@action`, and must not be passed by.
            spec = dataclasses.replace(spec, func=func, limits=marks(func).limits)
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


def attributes(cls: type) -> Iterator[tuple[type, Any]]:
    """What `cls` and its parents define, each with its class: of one name the first along the MRO."""
    seen: set[str] = set()
    for owner in cls.__mro__:
        for name, value in vars(owner).items():
            if name not in seen:
                seen.add(name)
                yield owner, value


def _returned(func: Callable[..., Any]) -> Any:
    """The return annotation, where it says something about a reply."""
    annotation = inspect.signature(func).return_annotation
    if isinstance(annotation, str):
        parameter = inspect.Parameter("return_", inspect.Parameter.KEYWORD_ONLY, annotation=annotation)
        annotation = evaluate(func, parameter)
    if inspect.isasyncgenfunction(func):
        # What a stream replies with is what it yields.
        annotation = (*get_args(annotation), _EMPTY)[0]
    return None if annotation in (_EMPTY, None, type(None), Any) else annotation
