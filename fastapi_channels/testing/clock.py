"""Time that passes at once: an event loop that skips to its next timer when nothing else is left to do.

What waits for seconds is tested in milliseconds, and in the same order every time.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any, Final, NoReturn, ParamSpec, TypeVar, TypeVarTuple

from .texts import SHOWN, shortened

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


OVERSHOOT: Final = 1e-7
"""Seconds by which a timer is late, as each is: a clock that is added up from floats may else be early."""
PATIENCE: Final = 10.0
"""Real seconds that a thread or a socket gets to go on, where no timer is due at all."""
TURNS: Final = 2_000_000
"""Of the loop, that a test may take: a real minute or less. Where it takes more, something goes round."""


class _Skipping(selectors.DefaultSelector):
    """Does not wait for a timer: counts the time as passed. No other time passes."""

    begun: Final = 1000.0

    def __init__(self) -> None:
        super().__init__()
        self.now = self.begun
        self.turns = 0
        self.timed: deque[str] = deque(maxlen=50)
        """What has set the newest timers."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        if self.turns > TURNS:
            self._goes_round()
        ready = super().select(PATIENCE if timeout is None else 0)
        if not ready and timeout is None:
            _nothing_is_due()
        if not ready and timeout:
            self.now += timeout + OVERSHOOT
        return ready

    def _goes_round(self) -> NoReturn:
        self.turns = 0  # for what is cleaned up
        raise AssertionError(
            f"the test goes round: its loop has turned {TURNS} times, and {self.now - self.begun:g} s have"
            f" passed in it. Timers were set by: {', '.join(dict.fromkeys(self.timed)) or 'nothing'}."
            f" What waits:{_waiting()}"
        )


def _nothing_is_due() -> NoReturn:
    raise AssertionError(
        f"nothing is due: no timer runs, and no thread or socket has come back for {PATIENCE:g} s."
        f" What waits:{_waiting()}"
    )


def _waiting() -> str:
    tasks = sorted(asyncio.all_tasks(), key=lambda task: task.get_name())
    listed = "".join(f"\n  {shortened(task)}" for task in tasks[:SHOWN])
    return listed + (f"\n  ({len(tasks) - SHOWN} more)" if len(tasks) > SHOWN else "")


def _name(of: object) -> str:
    name: str = getattr(of, "__qualname__", type(of).__qualname__)
    return name


class TimelessLoop(asyncio.SelectorEventLoop):
    """Timers are due as soon as nothing else can go on. What a thread is needed for is not waited for, unless
    no timer runs: then it gets ten seconds, and AssertionError is raised where nothing comes of them. It is
    raised too where the loop turns without end."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        task = asyncio.current_task(self)
        self._skipping.timed.append(_name(task.get_coro() if task else callback))
        return super().call_at(when, callback, *args, context=context)


async def turns(number: int = 10) -> None:
    """Let everything else that is ready run, some times over: a moment, however fast the machine is."""
    for _ in range(number):
        await asyncio.sleep(0)


def timeless(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Run an async test in a loop of its own, in which time passes at once. Who asks the module `time`
    meanwhile, whoever that is, is told the same time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with asyncio.Runner(loop_factory=TimelessLoop) as runner, _going_with(runner.get_loop()):
            return runner.run(test(*args, **kwargs))

    return run


@contextmanager
def _going_with(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Let the clocks of the module `time` go with that of the loop."""
    begun, wall, monotonic = loop.time(), time.time(), time.monotonic()
    real, real_monotonic = time.clock_gettime, time.monotonic

    @functools.cache
    def at_first(clock: int) -> float:
        """What one of the clocks of the system said when the loop began."""
        return real(clock) - (real_monotonic() - monotonic)

    going: dict[str, Callable[..., float]] = {
        "time": lambda: wall + loop.time() - begun,
        "monotonic": lambda: monotonic + loop.time() - begun,
        "clock_gettime": lambda clock: at_first(clock) + loop.time() - begun,
    }
    before = {name: getattr(time, name) for name in going}
    try:
        for name, clock in going.items():
            setattr(time, name, clock)
        yield
    finally:
        for name, clock in before.items():
            setattr(time, name, clock)


def now() -> float:
    return asyncio.get_running_loop().time()
