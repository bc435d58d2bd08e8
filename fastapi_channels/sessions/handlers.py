"""What happens around a connection: the join and leave handlers of a channel, and its lifespan."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal, TypeAlias, get_args

from fastapi.concurrency import contextmanager_in_threadpool
from starlette.concurrency import run_in_threadpool

from fastapi_channels.exceptions import BrokerUnavailable, ConfigurationError
from fastapi_channels.signatures.callables import awaited, is_failure
from fastapi_channels.signatures.dependencies import dependencies_of, resolve
from fastapi_channels.signatures.graph import Resolution
from fastapi_channels.signatures.signature import wants_connection
from fastapi_channels.stores import StoreUnavailable
from fastapi_channels.wire.failures import raised

logger = logging.getLogger("fastapi_channels")

EventType: TypeAlias = Literal["join", "leave"]
Handlers: TypeAlias = Callable[..., Any] | Sequence[Callable[..., Any]] | None
"""One function, or several."""
Lifespan: TypeAlias = Callable[..., AbstractAsyncContextManager[Any]]

NAMES: Final = ("websocket", "channel", "connection", "code", "reason", "self")
"""What a handler may take by name; `code` and `reason` of the close are None in a join handler."""


class JoinLeave:
    """The handlers of one channel."""

    __slots__ = ("_handlers", "_lifespan")

    def __init__(
        self,
        on_join: Handlers,
        on_leave: Handlers,
        lifespan: Lifespan | None,
    ) -> None:
        self._handlers: dict[EventType, list[_Handler]] = {"join": [], "leave": []}
        for func in _each(on_join):
            self.add("join", func)
        for func in _each(on_leave):
            self.add("leave", func)
        self._lifespan = None if lifespan is None else _Handler(_as_context(lifespan))
        if self._lifespan is not None and self._lifespan.dependencies is not None:
            raise ConfigurationError(
                f"the lifespan {lifespan!r} lasts as long as its connection, and what it depends on would be "
                "open as long: let the join and leave handlers depend on it"
            )

    def add(self, event_type: EventType, func: Callable[..., Any]) -> None:
        """Run `func` for each event of that type from now on.

        Raises:
            ConfigurationError: there is no such event, or `func` is nothing that can be called for it.
        """
        if event_type not in get_args(EventType):
            raise ConfigurationError(f'expected the event "join" or "leave", got {event_type!r}')
        self._handlers[event_type].append(_Handler(func))

    @property
    def wants_leave(self) -> bool:
        """Whether anything has to run when a client has left."""
        return bool(self._handlers["leave"]) or self._lifespan is not None

    async def join(self, values: Mapping[str, Any]) -> Visit | None:
        """Run the join handlers, then enter the lifespan; what is entered must be left by `leave`."""
        if self._handlers["join"]:
            async with _resolution(values) as resolution:
                for handler in self._handlers["join"]:
                    await handler(values, resolution)
        if self._lifespan is None:
            return None
        visit = Visit(self._lifespan.bound(values, {}))
        await visit.enter()
        return visit

    async def leave(self, values: Mapping[str, Any], visit: Visit | None) -> None:
        """Leave the lifespan, then run every leave handler, whatever the others raise."""
        if visit is not None:
            await _guarded(visit.leave(), values)
        if self._handlers["leave"]:
            await _guarded(self._leave(values), values)

    async def _leave(self, values: Mapping[str, Any]) -> None:
        async with _resolution(values) as resolution:
            for handler in self._handlers["leave"]:
                await _guarded(handler(values, resolution), values)


def _each(handlers: Handlers) -> Iterable[Callable[..., Any]]:
    if handlers is None:
        return ()
    return (handlers,) if callable(handlers) else handlers


def _resolution(values: Mapping[str, Any]) -> Resolution:
    """What the handlers of one event depend on, resolved once for all of them."""
    return Resolution(values["websocket"], values["connection"])


async def _guarded(work: Any, values: Mapping[str, Any]) -> None:
    try:
        await work
    except BaseException as exc:
        if not is_failure(exc):
            raise
        extra = {"connection": values["connection"].id, "room": values["channel"]}
        if isinstance(exc, BrokerUnavailable | StoreUnavailable):  # of which the log knows
            logger.debug("a leave handler failed: %s", exc, extra=extra)
        else:
            logger.exception("a leave handler failed", extra=extra)
            raised(values["websocket"].scope, exc)


class Visit:
    """One connection's time inside a lifespan.

    The context is entered and left by the same task, as cancel scopes and task groups in it demand,
    and that task is not the one that a server cancels.
    """

    def __init__(self, context: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self._context = context
        self._leaving = asyncio.Event()
        self._entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    async def enter(self) -> None:
        self._task = asyncio.create_task(self._stay())
        try:
            await asyncio.shield(self._entered)
        except BaseException:
            if not self._entered.done():
                self._task.cancel()
            await self.leave()
            raise

    async def leave(self) -> None:
        self._leaving.set()
        if self._task is None:
            return
        try:
            await asyncio.wait((self._task,))
        except asyncio.CancelledError:
            # Whoever waits has no more time.
            self._task.cancel()
            raise
        if self._entered.done() and not self._entered.exception():
            self._task.result()

    async def _stay(self) -> None:
        try:
            async with self._context():
                self._entered.set_result(None)
                await self._leaving.wait()
        except BaseException as exc:
            if self._entered.done():
                raise
            self._entered.set_exception(exc)


class _Handler:
    """A handler with what it takes: what is known by its name, or resolved by FastAPI, else websocket and
    channel in this order."""

    __slots__ = ("_func", "_is_async", "_named", "_positional", "dependencies")

    def __init__(self, func: Callable[..., Any]) -> None:
        if not callable(func):
            raise ConfigurationError(f"expected a function for an event or a lifespan, got {func!r}")
        self._func = func
        self._is_async = inspect.iscoroutinefunction(func)
        self.dependencies = dependencies_of(func)
        resolved = self.dependencies.names if self.dependencies is not None else ()
        parameters = {n: p for n, p in inspect.signature(func).parameters.items() if n not in resolved}
        self._positional: list[str] = []
        self._named: dict[str, str] = {}
        spare = [name for name in ("websocket", "channel") if name not in parameters]
        for parameter in parameters.values():
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                self._bind(parameter, spare)
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            taken = {"self", *self._positional, *self._named.values()}
            self._named.update({name: name for name in NAMES if name not in taken})

    def _bind(self, parameter: inspect.Parameter, spare: list[str]) -> None:
        """Decide what a parameter is given.

        Raises:
            ConfigurationError: there is nothing to give it.
        """
        if parameter.name in NAMES:
            source = parameter.name
        elif wants_connection(parameter):
            source = "connection"
        elif spare and parameter.kind is not parameter.KEYWORD_ONLY:
            source = spare.pop(0)
        elif parameter.default is not parameter.empty:
            return
        else:
            raise ConfigurationError(
                f"the parameter {parameter.name!r} of the event handler {self._func!r} cannot be bound; "
                f"a handler may take {', '.join(NAMES)}, and whatever FastAPI resolves"
            )
        if parameter.kind is parameter.POSITIONAL_ONLY:
            self._positional.append(source)
        else:
            self._named[parameter.name] = source

    def bound(self, values: Mapping[str, Any], resolved: Mapping[str, Any]) -> Callable[[], Any]:
        positional = [values[source] for source in self._positional]
        named = {name: values[source] for name, source in self._named.items()}
        return lambda: self._func(*positional, **named, **resolved)

    async def __call__(self, values: Mapping[str, Any], resolution: Resolution) -> None:
        resolved = await resolve(self.dependencies, resolution) if self.dependencies is not None else {}
        call = self.bound(values, resolved)
        await awaited(call() if self._is_async else await run_in_threadpool(call))


def _as_context(lifespan: Callable[..., Any]) -> Lifespan:
    """`lifespan` as a context manager: a bare generator function is one too, and runs in a thread if it
    is not async."""
    if inspect.isasyncgenfunction(lifespan):
        return contextlib.asynccontextmanager(lifespan)
    if inspect.isgeneratorfunction(lifespan):
        return _in_thread(lifespan)
    return lifespan


def _in_thread(lifespan: Callable[..., Any]) -> Lifespan:
    make = contextlib.contextmanager(lifespan)

    @functools.wraps(lifespan)
    def in_thread(*args: Any, **kwargs: Any) -> AbstractAsyncContextManager[Any]:
        return contextmanager_in_threadpool(make(*args, **kwargs))

    return in_thread
