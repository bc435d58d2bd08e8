"""One action on its way, from its message to its last reply."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi_channels.wire.messages import WINDOW, Message, count_of


class Run:
    """One action on its way, among `runs`. Until its handler has ended the client can cancel it; once.

    The handler is called within the run as a context.
    """

    __slots__ = ("_cancels", "_credited", "_interrupted", "_is_entered", "_runs", "message", "task")

    def __init__(
        self, message: Message, runs: dict[Run, None], task: asyncio.Task[Any] | None = None
    ) -> None:
        self.message = message
        self.task = task
        """Where the handler is called."""
        self._runs = runs
        runs[self] = None
        self._is_entered = False
        self._interrupted = False
        self._cancels = 0
        self._credited: asyncio.Future[None] | None = None

    def cancel(self) -> None:
        """Interrupt the handler, or keep it from being called."""
        if self.message.cancelled:
            return
        self.message.cancelled = True
        if self._is_entered and self.task is not None:
            self._interrupted = True
            self.task.cancel()

    def take_window(self) -> bool:
        """Take the window out of the fields, and give as much credit; False where there is none.

        Raises:
            ParseError: it is not a whole number above 0.
        """
        message = self.message
        if WINDOW not in message.data:
            return False
        message.give(count_of(message.data.pop(WINDOW), repr(WINDOW), message.request_id))
        return True

    def give(self, count: int) -> None:
        """The client takes so many more items of its stream."""
        self.message.give(count)
        self.wake()

    def wake(self) -> None:
        """Let a stream that is stalled look again."""
        if self._credited is not None and not self._credited.done():
            self._credited.set_result(None)

    async def stall(self) -> None:
        """Wait until somebody wakes it."""
        self._credited = asyncio.get_running_loop().create_future()
        try:
            await self._credited
        finally:
            self._credited = None

    @property
    def is_stalled(self) -> bool:
        """Whether it goes on only when its client takes more."""
        return self._credited is not None

    def __enter__(self) -> None:
        """The task may be interrupted from now on."""
        self._is_entered = True
        if self.task is not None:
            self._cancels = self.task.cancelling()

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        """Nothing can cancel the request any more."""
        del self._runs[self]
        self._is_entered = False
        # If it is cancelled, it keeps the exception, whose traceback refers to this object.
        task, self.task = self.task, None
        if task is None:
            return
        if self._interrupted:
            task.uncancel()
        if kind is not asyncio.CancelledError:
            # A TaskGroup that fails leaves one behind, up to Python 3.12.
            while task.cancelling() > self._cancels:
                task.uncancel()
