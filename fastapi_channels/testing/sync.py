"""The same for tests without an event loop: one runs while a test waits, and stands still in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from typing import Any, Self, TypeVar, Unpack, overload

from fastapi_channels.client.errors import ActionError, Refused
from fastapi_channels.client.room import Payload
from fastapi_channels.wire.words import Event

from .client import Client, R, refused
from .receiver import Close, E, Frame
from .record import Record
from .site import Options, Site

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

    @overload
    def call(
        self,
        action: Callable[..., Coroutine[Any, Any, R]],
        payload: Payload = None,
        /,
        *,
        room: str = "",
        **fields: Any,
    ) -> R: ...

    @overload
    def call(
        self, action: Callable[..., R], payload: Payload = None, /, *, room: str = "", **fields: Any
    ) -> R: ...

    @overload
    def call(self, action: str, payload: Payload = None, /, *, room: str = "", **fields: Any) -> Any: ...

    def call(self, action: Any, payload: Payload = None, /, *, room: str = "", **fields: Any) -> Any:
        return self._runner.run(self._client.call(action, payload, room=room, **fields))

    def refused(
        self,
        action: str | Callable[..., Any],
        payload: Payload = None,
        /,
        *,
        room: str = "",
        **fields: Any,
    ) -> ActionError:
        """The error that a call ends with."""
        return self._runner.run(refused(self._client.call(action, payload, room=room, **fields)))

    @overload
    def stream(
        self,
        action: Callable[..., AsyncIterator[R]],
        payload: Payload = None,
        /,
        *,
        room: str = "",
        request_id: str | int | None = None,
        **fields: Any,
    ) -> Generator[R]: ...

    @overload
    def stream(
        self,
        action: str,
        payload: Payload = None,
        /,
        *,
        room: str = "",
        request_id: str | int | None = None,
        **fields: Any,
    ) -> Generator[Any]: ...

    def stream(self, action: Any, payload: Payload = None, /, **options: Any) -> Generator[Any]:
        items = self._client.stream(action, payload, **options)

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
    def expect(
        self,
        event: type[E],
        data: Payload = None,
        /,
        *,
        room: str = "",
        within: float | None = None,
        **fields: Any,
    ) -> E: ...

    @overload
    def expect(
        self,
        event: str,
        data: Payload = None,
        /,
        *,
        room: str = "",
        within: float | None = None,
        **fields: Any,
    ) -> Any: ...

    def expect(self, event: Any, data: Payload = None, /, **options: Any) -> Any:
        return self._runner.run(self._client.expect(event, data, **options))

    def expect_frame(
        self, wanted: Callable[[Any], Any], what: str = "no such frame", *, within: float | None = None
    ) -> Any:
        return self._runner.run(self._client.expect_frame(wanted, what, within=within))

    def expect_nothing(
        self, event: type[Event] | str | None = None, *, room: str = "", within: float | None = None
    ) -> None:
        self._runner.run(self._client.expect_nothing(event, room=room, within=within))

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

    def client(self, path: str, **options: Unpack[Options]) -> SyncClient:
        """As `Site.client`."""
        return SyncClient(self._runner, self._runner.run(self._site.client(path, **options)))

    @contextmanager
    def connect(self, path: str, **options: Unpack[Options]) -> Iterator[SyncClient]:
        """As `Site.connect`."""
        opening = self._site.connect(path, **options)
        client = SyncClient(self._runner, self._runner.run(opening.__aenter__()))
        try:
            yield client
        except BaseException as exc:
            if not self._runner.run(opening.__aexit__(type(exc), exc, exc.__traceback__)):
                raise
        else:
            self._runner.run(opening.__aexit__(None, None, None))

    def record(self) -> AbstractContextManager[Record]:
        """As `Site.record`."""
        return self._site.record()

    def refusal(self, path: str, **options: Unpack[Options]) -> Refused:
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
