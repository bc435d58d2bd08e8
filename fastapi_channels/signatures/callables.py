"""Callables of every kind, called in one way: coroutines, plain functions, and what yields its value."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from contextvars import Context, copy_context
from functools import partial
from types import TracebackType
from typing import Any, TypeAlias, TypeVar, cast

from starlette.concurrency import run_in_threadpool

T = TypeVar("T")
MaybeAwaited: TypeAlias = T | Awaitable[T]
"""A result that is there, or has to be awaited: what need not wait makes no coroutine."""
Caller: TypeAlias = Callable[[dict[str, Any], AsyncExitStack], Awaitable[Any]]
"""Makes a call with the arguments; what it opens closes with the stack."""


def caller_of(call: Callable[..., Any], concurrency: Any) -> Caller:
    """Calls `call` in its way: a coroutine here, a plain function in a thread, what yields with the stack.

    Args:
        concurrency: bounds how many calls there may be at a time; None bounds nothing.
    """
    opens = opener_of(call)
    if opens is not None:

        async def enter(arguments: dict[str, Any], stack: AsyncExitStack) -> Any:
            if concurrency is not None:
                await stack.enter_async_context(concurrency.get_semaphore())
            return await stack.enter_async_context(opens(**arguments))

        return enter
    runs = call if _is(inspect.iscoroutinefunction, call) else partial(run_in_threadpool, call)
    if concurrency is None:
        return lambda arguments, stack: runs(**arguments)

    async def wait(arguments: dict[str, Any], stack: AsyncExitStack) -> Any:
        async with concurrency.get_semaphore():
            return await runs(**arguments)

    return wait


def opener_of(call: Callable[..., Any]) -> Callable[..., AbstractAsyncContextManager[Any]] | None:
    """What makes a context manager of a call, if it yields its value; else None."""
    if _is(inspect.isasyncgenfunction, call):
        return asynccontextmanager(call)
    if _is(inspect.isgeneratorfunction, call):
        entered = contextmanager(call)
        return lambda **arguments: _InThread(entered(**arguments))
    return None


async def awaited(result: MaybeAwaited[T]) -> T:
    """`result`, when it is there. Who knows its type by a look (None, a bool) asks that, which is quicker."""
    return await cast("Awaitable[T]", result) if inspect.isawaitable(result) else result


def is_failure(exc: BaseException) -> bool:
    """Whether `exc` is the doing of the code that ran: not the cancellation of the running task, and not
    an order to exit. Code that waited for something else that was cancelled has failed."""
    if isinstance(exc, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or not task.cancelling()
    return isinstance(exc, Exception)


def _is(kind: Callable[[Any], bool], call: Any) -> bool:
    """Whether `call` is of some kind by itself, as what it wraps, or by its `__call__`; as in FastAPI."""
    while isinstance(call, partial):
        call = call.func
    forms = [call, inspect.unwrap(call)]
    if not inspect.isclass(forms[1]):
        forms += [inspect.unwrap(form.__call__) for form in forms]
    return any(map(kind, forms))


class _InThread:
    """A context manager that is entered and left in threads.

    A thread cannot be interrupted: who is cancelled meanwhile waits for it, and closes what it opened.
    """

    __slots__ = ("_context",)

    def __init__(self, context: AbstractContextManager[Any]) -> None:
        self._context = context

    async def __aenter__(self) -> Any:
        entering = asyncio.ensure_future(run_in_threadpool(self._context.__enter__))
        cancelled = await _ended(entering)
        if cancelled is None:
            return entering.result()
        if entering.exception() is None:
            await self.__aexit__(type(cancelled), cancelled, cancelled.__traceback__)
        raise cancelled

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> bool:
        # Not in the threads of __enter__: these may all be waiting for what is released here.
        leaving = asyncio.ensure_future(asyncio.to_thread(self._context.__exit__, kind, exc, trace))
        cancelled = await _ended(leaving)
        suppressed = bool(leaving.result())
        if cancelled is not None:
            raise cancelled
        return suppressed


async def _ended(task: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait for `task` to its end; the cancellation that came meanwhile, if one did."""
    cancelled = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as exc:
            cancelled = exc
    return cancelled


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end, even if the calling task is cancelled meanwhile; then be cancelled."""
    task = asyncio.ensure_future(work)
    cancelled = await _ended(task)
    result = task.result()
    if cancelled is not None:
        # The very one: a cancel scope of anyio takes back only what it knows for its own.
        raise cancelled
    return result


def apart(work: Coroutine[Any, Any, None]) -> Awaitable[None] | None:
    """Run `work` in a context of its own until it waits for something; to be awaited at once if it does.

    What it sets in a ContextVar ends with it, although the task goes on. That takes a third of a microsecond,
    a task of its own twenty times as long.
    """
    context = copy_context()
    try:
        waits_for = context.run(work.send, None)
    except StopIteration:
        return None
    return _Rest(work, context, waits_for)


class _Rest:
    """What is left of a coroutine that waits, in its context."""

    __slots__ = ("_context", "_waits_for", "_work")

    def __init__(self, work: Coroutine[Any, Any, None], context: Context, waits_for: Any) -> None:
        self._work = work
        self._context = context
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        run, work, waits_for = self._context.run, self._work, self._waits_for
        step: Callable[[Any], Any]
        value: Any
        while True:
            try:
                step, value = work.send, (yield waits_for)
            except BaseException as exc:
                step, value = work.throw, exc
            try:
                waits_for = run(step, value)
            except StopIteration:
                return
