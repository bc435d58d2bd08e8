"""The same for tests without an event loop: one runs while a test waits, and stands still in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager
from typing import Any, Self, TypeVar, overload

from fastapi_channels.client.errors import ActionError, Refused
from fastapi_channels.wire.words import Event

from .client import Client, Close, E, Frame, refused
from .site import Site

T = TypeVar("T")


class SyncClient:
    """A `Client`, whose every method waits. The arguments, and what is raised, are the same."""

    def __init__(self, runner: asyncio.Runner, client: Client) -> None:
        self._runner = runner
        self._client = client

    @property
    def id(self) -> str:
        return self._client.id

    @property
    def joined(self) -> Frame | None:
        return self._client.joined

    @property
    def received(self) -> list[Frame]:
        return self._client.received

    @property
    def answers(self) -> dict[str, Any]:
        return self._client.answers

    def send(self, frame: Any) -> None:
        self._runner.run(self._client.send(frame))

    def call(self, action: str | Callable[..., Any], /, *, room: str = "", **fields: Any) -> Any:
        return self._runner.run(self._client.call(action, room=room, **fields))

    def refused(self, action: str | Callable[..., Any], /, *, room: str = "", **fields: Any) -> ActionError:
        """The error that a call ends with."""
        return self._runner.run(refused(self._client.call(action, room=room, **fields)))

    def stream(self, action: str | Callable[..., Any], /, **options: Any) -> Generator[Any]:
        items = self._client.stream(action, **options)

        async def take() -> tuple[Any, ...]:
            async for item in items:
                return (item,)
            return ()

        try:
            while taken := self._runner.run(take()):
                yield taken[0]
        finally:
            if not self._client.is_over:  # else the loop may have ended
                self._runner.run(_closed(items))

    def cancel(self, request_id: str | int) -> None:
        self._runner.run(self._client.cancel(request_id))

    def join(self, room: str, **said: Any) -> Frame:
        return self._runner.run(self._client.join(room, **said))

    def leave(self, room: str) -> Frame:
        return self._runner.run(self._client.leave(room))

    def refresh(self, token: str) -> Frame:
        return self._runner.run(self._client.refresh(token))

    @overload
    def expect(self, event: type[E], /, *, within: float | None = None, **fields: Any) -> E: ...

    @overload
    def expect(self, event: str, /, *, within: float | None = None, **fields: Any) -> Any: ...

    def expect(self, event: Any, /, *, within: float | None = None, **fields: Any) -> Any:
        return self._runner.run(self._client.expect(event, within=within, **fields))

    def expect_frame(self, wanted: Callable[[Frame], Any], what: str = "no such frame") -> Frame:
        return self._runner.run(self._client.expect_frame(wanted, what))

    def expect_nothing(self, event: type[Event] | str | None = None) -> None:
        self._runner.run(self._client.expect_nothing(event))

    def expect_close(self, code: int | None = None, *, within: float | None = None) -> Close:
        return self._runner.run(self._client.expect_close(code, within=within))

    def close(self) -> None:
        self._runner.run(self._client.close())


class SyncSite:
    """An application while it runs: `with SyncSite(running(app)) as site`, in process; or on a port, with
    `serving`."""

    def __init__(self, opening: AbstractAsyncContextManager[Site]) -> None:
        self._opening = opening
        self._runner = asyncio.Runner()
        self._site: Site

    def client(self, path: str, **options: Any) -> SyncClient:
        """As `Site.client`."""
        return SyncClient(self._runner, self._runner.run(self._site.client(path, **options)))

    def refusal(self, path: str, **options: Any) -> Refused:
        """As `Site.refusal`."""
        return self._runner.run(self._site.refusal(path, **options))

    def run(self, work: Awaitable[T]) -> T:
        """Wait for something of the application, such as a broadcast."""

        async def waited() -> T:
            return await work

        return self._runner.run(waited())

    def __enter__(self) -> Self:
        self._runner.__enter__()
        try:
            self._site = self.run(self._opening.__aenter__())
        except BaseException:
            self._runner.close()
            raise
        return self

    def __exit__(self, *exc: Any) -> None:
        try:
            self.run(self._opening.__aexit__(*exc))
        finally:
            self._runner.close()


async def _closed(items: AsyncGenerator[Any]) -> None:
    await items.aclose()
