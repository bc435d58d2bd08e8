"""What comes one after the other, for whoever reads it with `async for`: bounded."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, Protocol, Self, TypeAlias

from typing_extensions import TypeVar

from fastapi_channels.exceptions import ConfigurationError

from .errors import ClientError, Overflow
from .home import Home
from .requests import Request
from .settings import MOST_UNTAKEN

T = TypeVar("T", default=Any)
Streams: TypeAlias = Callable[..., AsyncIterator[T]]
"""An action that streams."""


class Feed(Generic[T]):
    """Leave it with `aclose()`, or by leaving an `async with` of it: a `break` alone does not tell it.

    Args:
        leave: called once, when nothing more is taken: it has ended, nobody reads on, or too much waits.
        read: what an item becomes when it is taken.
        home: where items come; nobody who waits elsewhere would hear of them.

    Raises:
        ClientError: another event loop runs here; also where it is read.
    """

    def __init__(self, leave: Callable[[], None], read: Callable[[Any], T], home: Home) -> None:
        home.check()
        self._leave = leave
        self._read = read
        self._home = home
        self._untaken: deque[Any] = deque()
        self._came = asyncio.Event()
        self._ended = False
        self._error: BaseException | None = None

    def item(self, data: Any) -> None:
        if self._ended:
            return
        if len(self._untaken) >= MOST_UNTAKEN:
            self.fail(Overflow(f"{MOST_UNTAKEN} items wait, and nobody takes them"))
            return
        self._untaken.append(data)
        self._came.set()

    def taken(self) -> None:
        """An item was."""

    def end(self) -> None:
        """Nothing more comes; what came before can still be taken."""
        if not self._ended:
            self._ended = True
            self._came.set()
            self._leave()

    def fail(self, error: BaseException) -> None:
        """Nothing more comes: whoever takes what came before is told behind it."""
        if not self._ended:
            self._error = error
            self.end()

    async def aclose(self) -> None:
        """Nobody reads on."""
        self._home.check()
        self._untaken.clear()
        self.end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        self._home.check()
        while not self._untaken:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._ended:
                raise StopAsyncIteration
            self._came.clear()
            await self._came.wait()
        item = self._untaken.popleft()
        self.taken()
        return self._read(item)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


class Asked(Protocol):
    """Where a stream was asked for."""

    home: Home

    def cancel(self, request: Request, error: BaseException) -> None: ...

    def give(self, request: Request, count: int) -> None: ...


class Stream(Feed[T]):
    """Takes what one request streams, and says when half of the window was taken.

    Attributes:
        request: what asked for it; None before, and where that failed at once.

    Raises:
        ConfigurationError: there is no such window.
    """

    request: Request | None = None

    def __init__(self, line: Asked, read: Callable[[Any], T], window: int | None) -> None:
        super().__init__(self._cancel, read, line.home)
        if window is not None and not (isinstance(window, int) and 0 < window <= MOST_UNTAKEN):
            raise ConfigurationError(f"a window has 1 to {MOST_UNTAKEN} items, or is None; got {window!r}")
        self._line = line
        self._half = math.inf if window is None else window / 2
        self._taken = 0

    def taken(self) -> None:
        self._taken += 1
        if self._taken >= self._half and not self._ended and self.request is not None:
            count, self._taken = self._taken, 0
            self._line.give(self.request, count)

    def _cancel(self) -> None:
        if self.request is not None:
            self._line.cancel(self.request, ClientError("nobody reads on"))

    def reply(self, data: Any) -> None:
        if data is not None:
            self.item(data)
        self.end()
