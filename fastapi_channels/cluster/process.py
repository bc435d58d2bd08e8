"""The server around a node, where it is uvicorn: how it is told to end, and how many like it there are.

uvicorn closes all sockets at once when it is told to end, and only then ends the lifespan. So the signal is
taken first: its handler is chained in front of uvicorn's, which is called when the sockets have gone.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

logger = logging.getLogger("fastapi_channels")

SAME: Final = 2.0
"""Seconds within which a second SIGTERM is the first one again. Who ends a group of processes, as systemd
does unless told otherwise, reaches a worker twice: itself, and by way of its parent, which passes it on."""


@contextmanager
def on_sigterm(drain: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Within it, SIGTERM runs `drain` before uvicorn ends; a second one, later than `SAME`, does not wait.

    Nothing is changed where the handler is not uvicorn's, or the thread is not the main one. Of several nodes
    in a process the one that came last drains first.
    """
    before: Any = signal.getsignal(signal.SIGTERM)
    server = _server_of(before)
    if threading.current_thread() is not threading.main_thread() or server is None:
        yield
        return
    chained = _Chained(drain, server, before)
    signal.signal(signal.SIGTERM, chained.take)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) == chained.take:
            signal.signal(signal.SIGTERM, before)


class _Chained:
    """The handler: drains, then passes the signal on.

    Args:
        drain: awaited first.
        server: uvicorn's.
        before: the handler that was there before, of uvicorn or of another node.
    """

    def __init__(self, drain: Callable[[], Awaitable[None]], server: Any, before: Any) -> None:
        self.server = server
        self._drain = drain
        self._before = before
        self._exits_with_0 = not isinstance(getattr(before, "__self__", None), _Chained) and _is_program(
            server
        )
        self._loop = asyncio.get_running_loop()
        self._began: float | None = None
        self._task: asyncio.Task[None] | None = None

    def take(self, number: int, frame: FrameType | None) -> None:
        # A signal's handler runs between any two instructions: the loop must do the work.
        self._loop.call_soon_threadsafe(self._handle, number)

    def _handle(self, number: int) -> None:
        now = self._loop.time()
        if self._began is None:
            self._began = now
            self._task = self._loop.create_task(self._run(number))
        elif now > self._began + SAME:
            self._pass_on(number)

    async def _run(self, number: int) -> None:
        try:
            await self._drain()
        except Exception:
            logger.exception("draining failed")
        self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        """uvicorn raises a signal that it is told of again when it has ended, and the process dies of it."""
        if self._exits_with_0:
            self.server.should_exit = True
        else:
            self._before(number, None)


def _server_of(handler: Any) -> Any:
    """The uvicorn Server that has a handler, itself or behind one of ours; None if there is none."""
    owner = getattr(handler, "__self__", None)
    if isinstance(owner, _Chained):
        return owner.server
    known = any(cls.__module__.partition(".")[0] == "uvicorn" for cls in type(owner).__mro__)
    return owner if known else None


def _is_program(server: Any) -> bool:
    """Whether the process is nothing but its server, and somebody reads its exit code.

    Where uvicorn is a part of a program that goes on, that has to be told of the signal. A child of uvicorn's
    has to end whatever its threads do, for it is waited for, with `--reload` and with `--workers`.
    """
    if multiprocessing.parent_process() is not None or not hasattr(server, "should_exit"):
        return False
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "run" and str(frame.f_globals.get("__name__")).startswith("uvicorn"):
            return True  # uvicorn runs the event loop, or its worker for gunicorn does
        frame = frame.f_back
    return False


def warn_of_islands() -> None:
    """Say, in one of them, that the processes of a server do not share what happens in each."""
    number, workers = _place(_server_of(signal.getsignal(signal.SIGTERM)))
    if workers < 2 or number != 1:
        return
    lines = (
        f"memory:// with {workers} workers: each of them is an island.",
        f"What is sent in one reaches the clients of that one alone, about one in {workers}.",
        "Counts, members, places in a room and rate limits are those of one worker, and each runs every job.",
        'Give add_channel() a broker that all share, url="redis://…" for one, or serve with one worker.',
    )
    rule = "!" * max(map(len, lines))
    logger.warning("\n".join(("", rule, *lines, rule)))


def _place(server: Any) -> tuple[int, int]:
    """Which of its server's workers this process is, from 1 in the order in which they were started, and how
    many there are to be; 1 of 1 where that is not known."""
    config = getattr(server, "config", None)
    gunicorn: Any = getattr(getattr(config, "callback_notify", None), "__self__", None)
    if hasattr(gunicorn, "cfg") and hasattr(gunicorn, "age"):
        return gunicorn.age, gunicorn.cfg.workers
    name, _, number = multiprocessing.current_process().name.rpartition("-")
    if not name or not number.isdecimal():
        return 1, 1
    return int(number), getattr(config, "workers", 1)


def warn_without_websockets() -> None:
    """Say why every handshake will be answered 404, where uvicorn has found no WebSocket library."""
    chosen = sys.modules.get("uvicorn.protocols.websockets.auto")
    if chosen is not None and getattr(chosen, "AutoWebSocketsProtocol", chosen) is None:
        logger.warning(
            "uvicorn has no WebSocket library, and answers every handshake with 404: "
            'pip install "uvicorn[standard]"'
        )
