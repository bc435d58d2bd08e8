"""One room, as an application sees it: what is called there, what is told, and what may have been missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, Literal, Protocol, TypeAlias, Unpack, overload

from pydantic import BaseModel
from typing_extensions import TypeVar

from fastapi_channels.channels.reading import HistoryPage
from fastapi_channels.wire.words import Call, Event

from .answers import Answers
from .connection import Frame, State
from .errors import ClientError, Refused
from .feed import Feed, Stream, Streams
from .home import Home
from .listeners import About, Caller, Gap, GapReason, Stop, added
from .names import action_of, answer_of, as_it_is, event_of, item_of
from .presence import Presence, PresenceChange, after, change
from .progress import Progress
from .requests import Asker, Calling, How, Reply, Request, Streaming
from .settings import USUAL_WINDOW, Settings

RoomState: TypeAlias = Literal["left", "joining", "joined", "refused"]
"""`joining` also while it is joined again; `refused` for good, until `retry()`."""
R = TypeVar("R", default=Any)
E = TypeVar("E", bound=Event)
Payload: TypeAlias = Mapping[str, Any] | BaseModel | None
USUAL: Final = -1.0
"""Stands for the seconds that a call may take where nothing else is said."""


class Line(Protocol):
    """What a room needs of the WebSocket that it is on."""

    settings: Settings
    home: Home

    @property
    def state(self) -> State: ...

    @property
    def until(self) -> float: ...

    def retry(self, room: Room) -> None: ...

    async def release(self, room: Room) -> None: ...

    def recover(self, room: Room) -> str:
        """Ask for what has been missed in a joined room; the id of what was sent, empty for nothing."""
        ...

    def say(self, room: Room, frame: Frame) -> None:
        """Send what is answered with no reply."""
        ...

    def ask(self, room: Room, action: str, payload: Payload, asker: Asker, how: How) -> Request: ...

    def cancel(self, request: Request, error: BaseException) -> None: ...

    def give(self, request: Request, count: int) -> None: ...


class Room:
    """A room of a client.

    Attributes:
        name: on a socket with many, its own; else the address.
        state: whether it is joined.
        refusal: why, where it is refused; while it is being joined, what the server said to the last attempt,
            if it said no.
        connection: the id of the connection, as the server knows it; empty before it is joined.
        presence: who is here, in a room with presence; while the room is joined again, who was.
    """

    def __init__(self, line: Line, name: str, since: str = "") -> None:
        self.name = name
        self.state: RoomState = "joining"
        self.refusal: Refused | None = None
        self.connection = ""
        self.presence = Presence()
        self._line = line
        self._progress = Progress(
            line.settings,
            since,
            recover=lambda: line.recover(self),
            tell=self._event,
            gap=lambda reason, dropped: self._caller.tell(self._gaps, Gap(reason, dropped)),
        )
        self._was_joined = bool(since)
        self._line_told: State | None = None
        self._all: list[Callable[[Any, About], Any]] = []
        self._listeners: dict[str, list[Callable[[Any, About], Any]]] = {}
        self._gaps: list[Callable[[Gap], Any]] = []
        self._states: list[Callable[[RoomState], Any]] = []
        self._changes: list[Callable[[PresenceChange], Any]] = []
        self._frames: list[Callable[[Frame], Any]] = []
        self._caller = Caller(line.settings)
        self._answers = Answers(line.settings, partial(line.say, self))

    @property
    def position(self) -> str:
        """Of the newest event, in a room with history: keep it to come back in another process."""
        return self._progress.position

    @property
    def line(self) -> State:
        """The connection below: `waiting` says that it is lost and will be tried again."""
        return self._line.state

    @property
    def until(self) -> float:
        """When the next attempt begins, in seconds since 1970, while the line is `waiting`."""
        return self._line.until

    # What is called

    @overload  # whoever waits for the one reply of a stream is told by a type checker
    def call(self, action: Streams[Any], payload: Payload = None, **how: Unpack[Calling]) -> None: ...  # type: ignore[overload-overlap]

    @overload
    def call(
        self, action: Callable[..., Coroutine[Any, Any, R]], payload: Payload = None, **how: Unpack[Calling]
    ) -> Coroutine[Any, Any, R]: ...

    @overload
    def call(
        self, action: Callable[..., R], payload: Payload = None, **how: Unpack[Calling]
    ) -> Coroutine[Any, Any, R]: ...

    @overload
    def call(
        self, action: str, payload: Payload = None, **how: Unpack[Calling]
    ) -> Coroutine[Any, Any, Any]: ...

    def call(
        self,
        action: str | Callable[..., Any],
        payload: Payload = None,
        *,
        timeout: float | None = USUAL,
        retry: bool = False,
    ) -> Any:
        """Call an action, and wait for its reply. While the room is not joined, it waits for that first.

        Args:
            action: its name; or the method of the channel's class: the reply has the type that this returns.
            payload: its fields.
            timeout: seconds, ten unless given; None for as long as it takes.
            retry: call again when the connection is lost, until its time is over. Only where the action is
                idempotent.

        Raises:
            ActionError: the server said no.
            NotSent: it was not sent.
            ConnectionLost, TimedOut: nobody knows whether it was handled.
        """
        seconds = self._line.settings.times.call if timeout is USUAL else timeout
        return self._call(action, payload, seconds, retry)

    async def _call(
        self, action: str | Callable[..., Any], payload: Payload, seconds: float | None, retry: bool
    ) -> Any:
        name = action if isinstance(action, str) else action_of(action)
        reply = Reply()
        request = self._line.ask(self, name, payload, reply, {"timeout": seconds, "retry": retry})
        streams = ClientError(f"{name} streams: read it with stream()")
        reply.on_item = lambda: self._line.cancel(request, streams)
        try:
            data = await reply.future
        except asyncio.CancelledError as exc:
            self._line.cancel(request, exc)
            raise
        return data if isinstance(action, str) else answer_of(action).validate_python(data)

    @overload
    def stream(self, action: Streams[R], payload: Payload = None, **how: Unpack[Streaming]) -> Feed[R]: ...

    @overload
    def stream(self, action: str, payload: Payload = None, **how: Unpack[Streaming]) -> Feed[Any]: ...

    def stream(
        self,
        action: str | Callable[..., Any],
        payload: Payload = None,
        *,
        timeout: float | None = None,
        window: int | None = USUAL_WINDOW,
    ) -> Feed[Any]:
        """Call an action that streams: `async with room.stream(…) as items: async for item in items`. Leaving
        the `async with` ends it on the server too.

        Args:
            timeout: seconds until its first item, and between two; as long as it takes unless given.
            window: items that the server may be ahead of those that were taken, 64 unless given; None for
                any number. A server that does not know windows sends all.

        Raises:
            as `call`; what comes after the first item, when it is read.
        """
        name = action if isinstance(action, str) else action_of(action)
        read = as_it_is if isinstance(action, str) else item_of(action).validate_python
        feed = Stream(self._line, read, window)
        how: How = {"timeout": timeout, "retry": False, "window": window}
        feed.request = self._line.ask(self, name, payload, feed, how)
        return feed

    async def history(
        self, *, limit: int = 50, since: str = "", reverse: bool = True
    ) -> AsyncGenerator[HistoryPage]:
        """Read the history of the room by pages: `async for page in room.history()`. For a channel with the
        `history_router`.

        Args:
            limit: items of a page.
            since: a position to begin at, beyond it; empty for the end of the history.
            reverse: back from the newest; else on from the oldest.

        Raises:
            as `call`.
        """
        while True:
            asked = {"limit": limit, "reverse": reverse, **({"since": since} if since else {})}
            page = HistoryPage.model_validate(await self.call("history", asked))
            yield page
            if page.next is None:
                return
            since = page.next

    # What is told

    @overload
    def on(self, event: type[E], listener: Callable[[E], Any]) -> Stop: ...

    @overload
    def on(self, event: str, listener: Callable[[Any], Any]) -> Stop: ...

    def on(self, event: type[Event] | str, listener: Callable[[Any], Any]) -> Stop:
        """Hear an event. An async listener is awaited before it hears the next.

        Args:
            event: its name; or its class: then the listener gets an instance.
        """
        name, read = event_of(event)
        return added(self._listeners.setdefault(name, []), lambda data, _: listener(read(data)))

    def on_any(self, listener: Callable[[Any, About], Any]) -> Stop:
        """Hear all events, each with what came with it."""
        return added(self._all, listener)

    @overload
    def events(self, event: type[E]) -> Feed[E]: ...

    @overload
    def events(self, event: str) -> Feed[Any]: ...

    def events(self, event: type[Event] | str) -> Feed[Any]:
        """The events of a name from now on. Ends when the room is left; raises Refused if it is refused. Both
        at once, where it is already."""
        name, read = event_of(event)
        stops: list[Stop] = []

        def leave() -> None:
            for stop in stops:
                stop()

        feed: Feed[Any] = Feed(leave, read, self._line.home)

        def changed(state: RoomState) -> None:
            if state == "left":
                feed.end()
            elif state == "refused" and self.refusal is not None:
                feed.fail(self.refusal)

        stops.append(added(self._listeners.setdefault(name, []), lambda data, _: feed.item(data)))
        stops.append(self.on_state(changed))
        changed(self.state)
        return feed

    @overload
    def answer(self, call: type[Call[R]], handler: Callable[[Any], R | Awaitable[R]]) -> Stop: ...

    @overload
    def answer(self, call: str, handler: Callable[[Any], Any]) -> Stop: ...

    def answer(self, call: type[Call[Any]] | str, handler: Callable[[Any], Any]) -> Stop:
        """Say who answers what the server asks; one for each name. What it raises is the answer's error."""
        return self._answers.add(call, handler)

    def on_gap(self, listener: Callable[[Gap], Any]) -> Stop:
        """Hear that something may have been missed."""
        return added(self._gaps, listener)

    def on_state(self, listener: Callable[[RoomState], Any]) -> Stop:
        """Hear that `state` is another one; or, while it is `joining`, that `line` or `refusal` is."""
        return added(self._states, listener)

    def on_presence(self, listener: Callable[[PresenceChange], Any]) -> Stop:
        """Hear that `presence` is another one. When the room is over for this client it is empty, and nobody
        is said to have gone."""
        return added(self._changes, listener)

    def on_frame(self, listener: Callable[[Frame], Any]) -> Stop:
        """Hear frames that are not of the protocol, as applications in the upstream style send them."""
        return added(self._frames, listener)

    # Where it is

    async def ready(self) -> Room:
        """Wait until the room is joined.

        Raises:
            Refused: it is not going to be.
        """
        self._line.home.check()
        changed = asyncio.Event()
        stop = self.on_state(lambda _: changed.set())
        try:
            while self.state == "joining":
                changed.clear()
                await changed.wait()
        finally:
            stop()
        if self.state != "joined":
            raise self.refusal or Refused(0, "the room was left")
        return self

    def retry(self) -> None:
        """Ask again, as soon as it may be: after a refusal, or while a wait is long.

        Raises:
            ClientError: the client, or the socket, was closed.
        """
        self._line.retry(self)

    async def leave(self) -> None:
        """Nothing more is told; what is under way fails."""
        await self._line.release(self)

    async def __aenter__(self) -> Room:
        return await self.ready()

    async def __aexit__(self, *exc: object) -> None:
        await self.leave()

    # What the line below says

    def joined(self, frame: Frame | None) -> None:
        """The room is joined; the frame says where, in a room with history."""
        names, said = self._line.settings.envelope, frame or {}
        position = said.get(names.position)
        if said.get(names.request_id) and said.get("recovered") and position != self.position:
            return  # it comes too late: what was missing has been given up, or has come by another join
        if position is not None:
            gap: GapReason | None = self._progress.joined(said)
        else:
            gap = "away" if self._was_joined and not self.position else None
        self.connection = said.get("connection") or self.connection
        self._was_joined = True
        self.become("joined")
        if gap:
            self._caller.tell(self._gaps, Gap(gap))
        self._progress.go_on(position if gap else None)

    def become(self, state: RoomState, refusal: Refused | None = None) -> None:
        waits = state == "joining" and (self._line_told, self.refusal) != (self.line, refusal)
        if self.state == state and not waits:
            return
        self.state, self.refusal, self._line_told = state, refusal, self.line
        if state != "joined":
            self._progress.stop()
        if state == "joining":
            self.presence = replace(self.presence, version=None)
        elif state != "joined":
            self._show(Presence(), PresenceChange([], []))  # who stays there has not gone
        self._caller.tell(self._states, state)

    def received(self, frame: Frame) -> None:
        names = self._line.settings.envelope
        kind = frame.get(names.type)
        if kind == "event":
            self._progress.event(frame)
        elif kind == "call":
            self._answers.asked(frame)
        elif kind in ("presence", "presence_diff") and isinstance(frame.get("version"), int):
            self._present(frame)  # else an application's own frame has the name
        elif kind == "lagged":
            self._progress.lagged(frame)
        elif kind == "resync":
            if frame.get(names.position):
                self._progress.move(frame[names.position])
            self._caller.tell(self._gaps, Gap("resync"))
        elif kind != "response" or not self._progress.refused(frame):
            self._caller.tell(self._frames, frame)

    def _event(self, frame: Frame) -> None:
        names = self._line.settings.envelope
        name = frame.get(names.event, "")
        about = About(name, frame.get(names.channel, ""), frame.get(names.position) or "")
        for listener in [*self._listeners.get(name, ()), *self._all]:
            self._caller.run(partial(listener, frame.get(names.data), about))

    def _present(self, frame: Frame) -> None:
        now = after(self.presence, frame)
        if now is not None:
            self._show(now)
        elif self.presence.version is not None:
            # Asked once: until everybody comes, no other difference fits.
            self.presence = replace(self.presence, version=None)
            self._line.say(self, {self._line.settings.envelope.type: "presence"})

    def _show(self, now: Presence, told: PresenceChange | None = None) -> None:
        before, self.presence = self.presence, now
        if before.devices or now.devices:
            self._caller.tell(self._changes, told or change(before, now))
