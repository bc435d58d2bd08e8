"""What comes one after the other, for whoever reads it with `async for`: bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Self

from typing_extensions import TypeVar

from .errors import Overflow
from .settings import MOST_UNTAKEN

T = TypeVar("T", default=Any)


class Feed(Generic[T]):
    """Leave it with `aclose()`, or by leaving an `async with` of it: a `break` alone does not tell it.

    Args:
        leave: called once, when nobody reads on, or too much waits.
        read: what an item becomes when it is taken.
    """

    def __init__(self, leave: Callable[[], None], read: Callable[[Any], T]) -> None:
        self._leave: Callable[[], None] | None = leave
        self._read = read
        self._untaken: deque[Any] = deque()
        self._came = asyncio.Event()
        self._ended = False
        self._error: BaseException | None = None

    def item(self, data: Any) -> None:
        if self._ended:
            return
        if len(self._untaken) >= MOST_UNTAKEN:
            self.fail(Overflow(f"{MOST_UNTAKEN} items wait, and nobody takes them"))
            self._left()
            return
        self._untaken.append(data)
        self._came.set()

    def end(self) -> None:
        """Nothing more comes; what came before can still be taken."""
        self._ended = True
        self._came.set()

    def fail(self, error: BaseException) -> None:
        """Nothing more comes: whoever takes what came before is told behind it."""
        if not self._ended:
            self._error = error
            self.end()

    async def aclose(self) -> None:
        """Nobody reads on."""
        self._untaken.clear()
        if not self._ended:
            self.end()
            self._left()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._untaken:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._ended:
                raise StopAsyncIteration
            self._came.clear()
            await self._came.wait()
        return self._read(self._untaken.popleft())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def _left(self) -> None:
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


class Stream(Feed[Any]):
    """Takes what one request streams."""

    def reply(self, data: Any) -> None:
        if data is not None:
            self.item(data)
        self.end()
