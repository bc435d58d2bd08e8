"""A job: a function that is run by the clock, what was said of it, and how it is called."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, TypeVar

from starlette.concurrency import run_in_threadpool

from fastapi_channels.actions.marks import marks
from fastapi_channels.actions.spec import MAX_NAME, attributes
from fastapi_channels.channels import BaseChannel
from fastapi_channels.channels.socket import Socket
from fastapi_channels.contract.served import endpoints
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.signatures.callables import awaited, finish
from fastapi_channels.signatures.dependencies import Dependencies, dependencies_of
from fastapi_channels.signatures.graph import Resolution
from fastapi_channels.signatures.signature import where

from . import schedules
from .schedules import Every, Schedule

Func = TypeVar("Func", bound=Callable[..., Any])

TIMEOUT: Final = 60.0
"""Seconds that a run gets, unless said otherwise."""
DUE: Final = "due"
"""The parameter that gets the time of the tick."""


def every(
    seconds: float,
    *,
    name: str | None = None,
    jitter: float = 0.0,
    timeout: float = TIMEOUT,
    overlap: bool = False,
) -> Callable[[Func], Func]:
    """Decorator: run a method of a channel, or a function that is in `add_channel(jobs=[…])`, every so many
    seconds, in one of all processes.

    Each tick is run at most once. The function may take `due`, the time of the tick, and what FastAPI
    resolves without a request.

    Args:
        seconds: between two ticks, 0.1 or more. Ticks are at its multiples since 1970: those of 3600 at each
            full hour of UTC.
        name: by which the processes know the job; `Class.method`, or that of the function, unless given.
        jitter: seconds by which a tick may be later, by chance.
        timeout: seconds after which a run is cancelled.
        overlap: whether a tick is run while the one before still is, in whichever process.

    Raises:
        ConfigurationError: an argument that cannot work.
    """
    return _decorator("every()", schedules.every(seconds), name, jitter, timeout, overlap)


def cron(
    expression: str,
    *,
    tz: str | tzinfo = "UTC",
    name: str | None = None,
    jitter: float = 0.0,
    timeout: float = TIMEOUT,
    overlap: bool = False,
) -> Callable[[Func], Func]:
    """Decorator: the same at the times of a cron expression, as `"30 9 * * MON-FRI"`. It needs `cronsim`.

    Args:
        expression: minute, hour, day of the month, month and day of the week.
        tz: the time zone that it is meant in. A time of day that its clocks leave out in spring is run when
            they go on, one that they show twice is run once. What recurs, as minute or hour begin with `*`,
            is run whenever they show it.
        name, jitter, timeout, overlap: as in `every`.

    Raises:
        ConfigurationError: an argument that cannot work; or `cronsim` is missing.
    """
    return _decorator("cron()", schedules.cron(expression, tz), name, jitter, timeout, overlap)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a decorator leaves on a function."""

    schedule: Schedule
    name: str | None
    jitter: float
    timeout: float
    overlap: bool


class Job:
    """A function that is bound to what it needs.

    Args:
        call: the function, or a method of an object.
        mark: what was said of it.

    Raises:
        ConfigurationError: it takes what a job has not.
    """

    __slots__ = ("_dependencies", "_is_async", "_takes_due", "call", "mark", "name")

    def __init__(self, call: Callable[..., Any], mark: Mark) -> None:
        self.call = call
        self.mark = mark
        self.name = mark.name or _name_of(call)
        self._is_async = inspect.iscoroutinefunction(call)
        self._dependencies: Dependencies | None = dependencies_of(call, has_request=False)
        resolved = self._dependencies.names if self._dependencies is not None else ()
        own = {n: p for n, p in inspect.signature(call).parameters.items() if n not in resolved}
        self._takes_due = own.pop(DUE, None) is not None
        for parameter in own.values():
            if parameter.default is parameter.empty and parameter.kind not in (
                parameter.VAR_POSITIONAL,
                parameter.VAR_KEYWORD,
            ):
                raise ConfigurationError(
                    f"the parameter {parameter.name!r} of the job {where(call)} cannot be bound; a job may "
                    f"take {DUE!r}, the time of its tick, and what FastAPI resolves without a request"
                )

    async def run(self, resolution: Resolution, due: float) -> None:
        """Call it for the tick at `due`; whatever it, or what it depends on, raises passes through."""
        given: dict[str, Any] = {DUE: datetime.fromtimestamp(due, UTC)} if self._takes_due else {}
        if self._dependencies is not None:
            given.update(await self._dependencies.solve(resolution))
        # A thread cannot be interrupted: who is cancelled waits for it, so that it does not overlap the next.
        result = self.call(**given) if self._is_async else await finish(run_in_threadpool(self.call, **given))
        await awaited(result)


def given_jobs(functions: Any) -> list[Job]:
    """Those that `jobs=` says.

    Raises:
        ConfigurationError: that is no list; or as `job_of`.
    """
    if not isinstance(functions, Iterable):
        raise ConfigurationError(f"jobs= takes a list of functions, got {functions!r}")
    return [job_of(function) for function in functions]


def job_of(function: Any) -> Job:
    """The job that a function is, or a method of an object.

    Raises:
        ConfigurationError: it is none; or as `Job`.
    """
    mark = marks(function).job if callable(function) else None
    if mark is None:
        raise ConfigurationError(
            f"jobs= takes functions that are marked with @every(…) or @cron(…), got {function!r}"
        )
    return Job(function, mark)


def jobs_of(parent: Any, own: Iterable[Job]) -> list[Job]:
    """Those of an application, or of a router: `own`, and those of the channels that it serves; None serves
    none.

    Raises:
        ConfigurationError: two have one name; or as `Job`.
    """
    found: dict[str, Job] = {}
    for job in (*own, *(job for channel in _channels(parent) for job in _methods(channel))):
        # A method of an object is made anew each time that it is asked for, and equals itself.
        if found.setdefault(job.name, job).call != job.call:
            raise ConfigurationError(
                f"two jobs are named {job.name!r}, and the processes could not tell them apart: give one a "
                "name=…, or mount the same channel at both paths"
            )
    return list(found.values())


def _channels(parent: Any) -> Iterator[BaseChannel]:
    for endpoint in endpoints(parent) if parent is not None else ():
        owner = endpoint.owner
        yield from owner.channels if isinstance(owner, Socket) else (owner,)


def _methods(channel: BaseChannel) -> Iterator[Job]:
    for _, value in attributes(type(channel)):
        function = getattr(value, "__func__", value)
        mark = marks(function).job if inspect.isfunction(function) else None
        if mark is not None:
            yield Job(value.__get__(channel, type(channel)), mark)


def _decorator(
    what: str, schedule: Schedule, name: str | None, jitter: float, timeout: float, overlap: bool
) -> Callable[[Func], Func]:
    if name is not None and not (isinstance(name, str) and 0 < len(name) <= MAX_NAME):
        raise ConfigurationError(f"name of {what} must be a text of 1 to {MAX_NAME} characters, got {name!r}")
    if not schedules.is_number(jitter) or not 0 <= jitter < math.inf:
        raise ConfigurationError(f"jitter of {what} must be 0 or more seconds, got {jitter!r}")
    if isinstance(schedule, Every) and jitter >= schedule.seconds:
        raise ConfigurationError(
            f"jitter of {what} must be less than the {schedule.seconds:g} seconds between two ticks, "
            f"got {jitter!r}"
        )
    if not schedules.is_number(timeout) or not 0 < timeout < math.inf:
        raise ConfigurationError(f"timeout of {what} must be more than 0 seconds, got {timeout!r}")

    def decorate(function: Func) -> Func:
        noted = marks(function)
        if noted.job is not None:
            raise ConfigurationError(
                f"{where(function)} is a job already: write a second function that calls it"
            )
        noted.job = Mark(schedule, name, float(jitter), float(timeout), bool(overlap))
        return function

    return decorate


def _name_of(call: Any) -> str:
    owner, name = getattr(call, "__self__", None), getattr(call, "__name__", None)
    if name is None:
        raise ConfigurationError(f"{call!r} has no name of its own: give the job one, name=…")
    if owner is None:
        return str(name)
    return f"{(owner if isinstance(owner, type) else type(owner)).__name__}.{name}"
