"""Where a layer lives: in one event loop, which lasts longer than a call.

A loop that `asyncio.run` or `async_to_sync` makes in a thread ends with that one call. What it holds, a
connection and whoever waits there, would end under the calls of other threads. So it is nobody's home: a loop
of the process is, which a thread of its own runs.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

from fastapi_channels.cluster.node import current_node
from fastapi_channels.cluster.threads import coroutine_function

T = TypeVar("T")
P = ParamSpec("P")
Loop = asyncio.AbstractEventLoop

GRACE: Final = 1.0
"""Seconds in which what a process still does may end with it."""
LOOK: Final = 1.0
"""Seconds between two looks whether a loop has ended before it began with what it was given."""


class Dweller(Protocol):
    """What lives in a loop, which is None before its first call."""

    home: Loop | None


D = TypeVar("D", bound=Dweller)


def at_home(
    method: Callable[Concatenate[D, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[D, P], Coroutine[Any, Any, T]]:
    """Run a method in the loop in which its object lives, from whichever it is called."""

    @coroutine_function
    @wraps(method)
    def run(self: D, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        if self.home is not None and self.home is asyncio._get_running_loop():
            return method(self, *args, **kwargs)
        return _brought_home(self, partial(method, self, *args, **kwargs))

    return run


async def _brought_home(dweller: Dweller, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    here = asyncio.get_running_loop()
    while True:
        home = _home_of(dweller, here)
        if home is here:
            return await work()
        try:
            return await _done_in(home, work())
        except _Ended:
            with _process.lock:
                if dweller.home is home:  # which may take a moment to end
                    dweller.home = _process.loop()


def _home_of(dweller: Dweller, here: Loop) -> Loop:
    with _process.lock:
        home = dweller.home
        if home is None or home in _process.of_the_parent or not home.is_running():
            has_ended = home is not None and home.is_closed()
            home = dweller.home = _lasting(here, in_main=not has_ended)
        return home


def _lasting(here: Loop, *, in_main: bool) -> Loop:
    """A loop that outlives a call that is made in the loop `here`: that of the application that calls; that
    of the main thread, as of a server, unless one has ended there; or that of the process."""
    node = current_node.get()
    if node is not None and node.loop is not None and node.loop.is_running():
        return node.loop
    in_main = in_main and threading.current_thread() is threading.main_thread()
    return here if in_main else _process.loop()


class _Ended(Exception):
    """A loop has ended, with what it was given to do."""


async def _done_in(home: Loop, work: Coroutine[Any, Any, T]) -> T:
    """What comes of `work` in another loop.

    Raises:
        _Ended: that has ended.
    """
    try:
        done = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, home))
    except RuntimeError:
        work.close()
        raise _Ended from None
    try:
        while not done.done():
            if home.is_closed():
                raise _Ended
            await asyncio.wait({done}, timeout=LOOK)
    except asyncio.CancelledError:
        done.cancel()
        raise
    if done.cancelled():
        raise _Ended
    return done.result()


class _Resident:
    """A loop that a thread of its own runs, until the process ends."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._leave = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="fastapi-channels layers", daemon=True)
        begun = threading.Event()
        self.loop.call_soon(begun.set)
        self._thread.start()
        begun.wait()

    def end(self) -> None:
        """Cancel what it still does; waits for that for a moment."""
        self.loop.call_soon_threadsafe(self._leave.set)
        self._thread.join(GRACE)

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self._leave.wait())


class _Process:
    """The resident of this process, which begins when it is needed. The child of a fork begins anew."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.of_the_parent: list[Loop] = []
        """What a forked process has inherited: to let go of it would disturb the parent."""
        self._resident: _Resident | None = None

    def loop(self) -> Loop:
        if self._resident is None:
            self._resident = _Resident()
            atexit.register(self._resident.end)
        return self._resident.loop

    def after_fork(self) -> None:
        self.lock = threading.Lock()
        if self._resident is not None:
            atexit.unregister(self._resident.end)
            self.of_the_parent.append(self._resident.loop)
            self._resident = None


_process: Final = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.after_fork)
