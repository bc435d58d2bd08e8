"""The same client for code without an event loop: one thread has the loop, and everybody waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Self, Unpack, overload

from typing_extensions import TypeVar

from fastapi_channels.channels.reading import HistoryPage
from fastapi_channels.wire.words import Call, Event

from .client import Client, Place
from .connection import Frame, State
from .errors import ClientError, Refused
from .feed import Feed
from .listeners import About, Gap, Stop
from .presence import Presence, PresenceChange
from .requests import Streaming
from .room import Payload, Room, RoomState

T = TypeVar("T")
R = TypeVar("R", default=Any)
E = TypeVar("E", bound=Event)


class _Thread:
    """A daemon thread with an event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="fastapi-channels client", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._over.wait())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """
        Raises:
            ClientError: the client was closed.
        """
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise ClientError("the client was closed") from None
        try:
            return future.result()
        except BaseException:
            future.cancel()  # where Ctrl-C ended the wait
            raise

    def call(self, function: Callable[[], T]) -> T:
        async def within() -> T:
            return function()

        return self.run(within())

    def end(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join()


class SyncRoom:
    """A room of a `SyncClient`. What listeners do runs in the client's thread: they must not wait for it."""

    def __init__(self, thread: _Thread, room: Room) -> None:
        self._thread = thread
        self._room = room

    @property
    def state(self) -> RoomState:
        return self._room.state

    @property
    def refusal(self) -> Refused | None:
        return self._room.refusal

    @property
    def line(self) -> State:
        return self._room.line

    @property
    def until(self) -> float:
        return self._room.until

    @property
    def position(self) -> str:
        return self._room.position

    @property
    def presence(self) -> Presence:
        """As `Room.presence`: who is here at this moment."""
        return self._room.presence

    @overload
    def call(
        self,
        action: Callable[..., Coroutine[Any, Any, R]],
        payload: Payload = None,
        *,
        timeout: float | None = ...,
        retry: bool = False,
    ) -> R: ...

    @overload
    def call(
        self,
        action: Callable[..., R],
        payload: Payload = None,
        *,
        timeout: float | None = ...,
        retry: bool = False,
    ) -> R: ...

    @overload
    def call(
        self, action: str, payload: Payload = None, *, timeout: float | None = ..., retry: bool = False
    ) -> Any: ...

    def call(self, action: Any, payload: Payload = None, **options: Any) -> Any:
        """As `Room.call`."""
        return self._thread.run(self._room.call(action, payload, **options))

    @overload
    def stream(
        self, action: Callable[..., AsyncIterator[R]], payload: Payload = None, **options: Unpack[Streaming]
    ) -> AbstractContextManager[Iterator[R]]: ...

    @overload
    def stream(
        self, action: str, payload: Payload = None, **options: Unpack[Streaming]
    ) -> AbstractContextManager[Iterator[Any]]: ...

    @contextmanager
    def stream(self, action: Any, payload: Payload = None, **options: Any) -> Iterator[Iterator[Any]]:
        """`with room.stream(…) as items: for item in items`; leaving the `with` ends it on the server too.
        The options are those of `Room.stream`."""
        yield from self._taken(lambda: self._room.stream(action, payload, **options))

    def history(self, **how: Any) -> Iterator[HistoryPage]:
        """As `Room.history`."""
        return self._items(self._room.history(**how))

    @overload
    def events(self, event: type[E]) -> AbstractContextManager[Iterator[E]]: ...

    @overload
    def events(self, event: str) -> AbstractContextManager[Iterator[Any]]: ...

    @contextmanager
    def events(self, event: type[Event] | str) -> Iterator[Iterator[Any]]:
        """The same, of the events of a name from now on."""
        yield from self._taken(lambda: self._room.events(event))

    @overload
    def on(self, event: type[E], listener: Callable[[E], Any]) -> Stop: ...

    @overload
    def on(self, event: str, listener: Callable[[Any], Any]) -> Stop: ...

    def on(self, event: type[Event] | str, listener: Callable[[Any], Any]) -> Stop:
        return self._stoppable(lambda: self._room.on(event, listener))

    def on_any(self, listener: Callable[[Any, About], Any]) -> Stop:
        return self._stoppable(lambda: self._room.on_any(listener))

    def on_frame(self, listener: Callable[[Frame], Any]) -> Stop:
        return self._stoppable(lambda: self._room.on_frame(listener))

    @overload
    def answer(self, call: type[Call[R]], handler: Callable[[Any], R | Awaitable[R]]) -> Stop: ...

    @overload
    def answer(self, call: str, handler: Callable[[Any], Any]) -> Stop: ...

    def answer(self, call: type[Call[Any]] | str, handler: Callable[[Any], Any]) -> Stop:
        return self._stoppable(lambda: self._room.answer(call, handler))

    def on_gap(self, listener: Callable[[Gap], Any]) -> Stop:
        return self._stoppable(lambda: self._room.on_gap(listener))

    def on_state(self, listener: Callable[[RoomState], Any]) -> Stop:
        return self._stoppable(lambda: self._room.on_state(listener))

    def on_presence(self, listener: Callable[[PresenceChange], Any]) -> Stop:
        return self._stoppable(lambda: self._room.on_presence(listener))

    def ready(self) -> Self:
        """Wait until the room is joined.

        Raises:
            Refused: it is not going to be.
        """
        self._thread.run(self._room.ready())
        return self

    def retry(self) -> None:
        self._thread.call(self._room.retry)

    def leave(self) -> None:
        self._thread.run(self._room.leave())

    def _taken(self, begin: Callable[[], Feed[Any]]) -> Iterator[Iterator[Any]]:
        feed = self._thread.call(begin)
        try:
            yield self._items(feed)
        finally:
            self._thread.run(feed.aclose())

    def _items(self, source: AsyncIterator[Any]) -> Iterator[Any]:
        async def take() -> tuple[Any, ...]:
            async for item in source:
                return (item,)
            return ()

        while taken := self._thread.run(take()):
            yield taken[0]

    def _stoppable(self, begin: Callable[[], Stop]) -> Stop:
        stop = self._thread.call(begin)
        return lambda: self._thread.call(stop)


class SyncSocket:
    """One WebSocket for many rooms."""

    def __init__(self, thread: _Thread, socket: Any) -> None:
        self._thread = thread
        self._socket = socket

    @property
    def own(self) -> SyncRoom:
        return SyncRoom(self._thread, self._socket.own)

    def room(self, name: str, *, since: str = "") -> SyncRoom:
        return SyncRoom(self._thread, self._thread.call(lambda: self._socket.room(name, since=since)))

    def close(self) -> None:
        self._thread.run(self._socket.close())


class SyncClient:
    """A `Client` for code without an event loop. `with SyncClient(url) as client` leaves all at its end.

    Args:
        url, options: as of `Client`.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._thread = _Thread()
        try:
            self._client = self._thread.call(lambda: Client(url, **options))
        except BaseException:
            self._thread.end()
            raise

    def room(self, address: str, **options: Any) -> SyncRoom:
        """As `Client.room`."""
        return SyncRoom(self._thread, self._thread.call(lambda: self._client.room(address, **options)))

    def socket(self, address: str, **parameters: Place) -> SyncSocket:
        """As `Client.socket`."""
        return SyncSocket(self._thread, self._thread.call(lambda: self._client.socket(address, **parameters)))

    def close(self) -> None:
        """Leave all rooms, and end the thread; nothing happens the second time."""
        try:
            with suppress(ClientError):
                self._thread.run(self._client.close())
        finally:
            self._thread.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
