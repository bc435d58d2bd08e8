"""What an application raises, for the test that made it do so."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from fastapi_channels.wire.failures import RAISED

from .texts import shortened

App: TypeAlias = Callable[..., Any]

MARK: Final = "x-channels-testing"
"""A header of handshakes: it says which client of the test comes. The application never sees it."""


class Failures:
    """What was raised while one client was served.

    Args:
        raises: whether the test wants to hear of it.
        mark: what its handshake is known by.
        elsewhere: what was raised for another client, and may be why this one waits in vain.

    Attributes:
        on_news: is called when there is one more.
    """

    def __init__(
        self,
        *,
        raises: bool = True,
        mark: str = "",
        elsewhere: Callable[[], Exception | None] = lambda: None,
    ) -> None:
        self.on_news: Callable[[], None] = lambda: None
        self.elsewhere = elsewhere
        self.mark = mark
        self.pending: list[Exception] = []
        self._raises = raises

    def add(self, exc: BaseException) -> None:
        if not self._raises:
            return
        if not isinstance(exc, Exception):
            # It would cancel the test, or end its process.
            ended = RuntimeError(f"the application has raised {exc!r}")
            ended.__cause__ = exc
            exc = ended
        self.pending.append(exc)
        self.on_news()

    def check(self) -> None:
        """
        Raises:
            Exception: what was raised and not told yet; the first of several.
        """
        if self.pending:
            raise self.pending.pop(0)


class Watched:
    """An application that says for which client of a test it raised something.

    Args:
        raises: whether the test wants to hear of it.

    Attributes:
        stopped: what its lifespan has raised.
    """

    def __init__(self, app: App, *, raises: bool) -> None:
        self.stopped: BaseException | None = None
        self._app = app
        self._raises = raises
        self._marks = itertools.count(1)
        self._others = Failures(raises=raises)
        """Of WebSockets that the test has opened by other means."""
        self._failures = {"": self._others}

    def client(self, raises: bool | None = None) -> Failures:
        """Those of one more client; `raises` unless the test says otherwise of all."""
        mark = str(next(self._marks))
        raises = self._raises if raises is None else raises
        found = self._failures[mark] = Failures(
            raises=raises, mark=mark, elsewhere=lambda: next(iter(self.pending), None)
        )
        return found

    @property
    def pending(self) -> list[Exception]:
        """What the test was not told yet."""
        return [exc for failures in self._failures.values() for exc in failures.pending]

    @contextmanager
    def checked(self) -> Iterator[None]:
        """
        Raises:
            Exception: what is left at the end of the block; an ExceptionGroup of several. Where the block has
                raised itself, that has a note of it.
        """
        try:
            with self._hearing():
                yield
        except BaseException as exc:
            for each in self.pending:
                exc.add_note(f"The application has raised {shortened(each)}")
            raise
        pending = self.pending
        if len(pending) > 1:
            raise ExceptionGroup("the application has raised", pending)
        if pending:
            raise pending[0]

    @contextmanager
    def _hearing(self) -> Iterator[None]:
        """Hear of tasks that have failed, and that nobody awaits: of the application, or of the test."""
        loop = asyncio.get_running_loop()
        before = loop.get_exception_handler()

        def hear(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            if isinstance(context.get("future"), asyncio.Task):
                self._others.add(context["exception"])
            if before is None:
                loop.default_exception_handler(context)
            else:
                before(loop, context)

        loop.set_exception_handler(hear)
        try:
            yield
        finally:
            loop.set_exception_handler(before)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        marks = [value.decode() for name, value in scope["headers"] if name == MARK.encode()]
        failures = self._failures.get(marks[0] if marks else "", self._others)
        headers = [pair for pair in scope["headers"] if pair[0] != MARK.encode()]
        try:
            await self._app({**scope, "headers": headers, RAISED: failures.add}, receive, send)
        except Exception as exc:
            failures.add(exc)
            raise

    async def _live(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self._app(scope, receive, send)
        except BaseException as exc:
            self.stopped = exc
            raise
