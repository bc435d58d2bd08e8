"""What came over one WebSocket, and what a test expects of it: nothing waits for ever."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple, overload

from pydantic_core import to_jsonable_python
from typing_extensions import TypeVar

from fastapi_channels.client.names import event_of
from fastapi_channels.client.room import Payload
from fastapi_channels.client.settings import Closed, Wire
from fastapi_channels.wire.messages import Body, Envelope
from fastapi_channels.wire.words import Event

from .failures import Failures
from .texts import listed, shortened

T = TypeVar("T")
E = TypeVar("E", bound=Event)
Frame = dict[str, Any]

WITHIN: Final = 5.0
"""Seconds that anything may take, unless a test says more."""


class Close(NamedTuple):
    """How the application closed a WebSocket."""

    code: int
    reason: str


class Receiver:
    """Keeps what comes until it is expected.

    Args:
        within: seconds that each wait may take.
        envelope: how frames are written.
        failures: what the application raises meanwhile.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        within: float = WITHIN,
        envelope: Envelope | None = None,
        failures: Failures | None = None,
    ) -> None:
        self.joined: Frame | None = None
        self.received: list[Frame] = []
        self.answers: dict[str, Any] = {}
        self._wire = wire
        self._within = within
        self._names = envelope or Envelope()
        self._unread: list[Frame] = []
        self._news = asyncio.Event()
        self._closed: Close | None = None
        self._has_left = False
        self._failure: BaseException | None = None
        self._failures = failures or Failures()
        self._failures.on_news = self._news.set
        self._dropped: set[str | int] = set()
        """Requests whose replies nobody waits for any more."""
        self._reading = asyncio.get_running_loop().create_task(self._read())

    async def send(self, frame: Any) -> None:
        """Send text and bytes as they are, anything else as a frame."""
        body = frame if isinstance(frame, str | bytes) else self._names.encode(frame)
        with suppress(Closed):
            await self._wire.send(body)

    @overload
    async def expect(
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
    async def expect(
        self,
        event: str,
        data: Payload = None,
        /,
        *,
        room: str = "",
        within: float | None = None,
        **fields: Any,
    ) -> Any: ...

    async def expect(
        self,
        event: type[Event] | str,
        data: Payload = None,
        /,
        *,
        room: str = "",
        within: float | None = None,
        **fields: Any,
    ) -> Any:
        """The data of the next event of a name: an instance, where the type is given. Others stay.

        Args:
            data: fields that its data must have; events of the name without them are passed over.
            room: that it must be of, on a socket with many.
            within: seconds to wait; those of the client unless given.
            fields: the same as `data`, and more.
        """
        name, read = event_of(event)
        names, wanted_data = self._names, fields_of(data, fields)

        def wanted(frame: Frame) -> bool:
            return self._is_event(frame, name, room) and _has(frame.get(names.data), wanted_data)

        what = f"no event {name!r}" + (f" of the room {room!r}" if room else "")
        what += f" with {shortened(wanted_data)}" if wanted_data else ""
        return read((await self.expect_frame(wanted, what, within=within)).get(names.data))

    async def expect_frame(
        self, wanted: Callable[[Any], Any], what: str = "no such frame", *, within: float | None = None
    ) -> Any:
        """The first frame that is wanted, of those that were not expected yet. What cannot be read is a frame
        of its own, as text or bytes."""
        seconds = self._within if within is None else within

        def taken() -> Frame | None:
            self._failures.check()
            for number, frame in enumerate(self._unread):
                if wanted(frame):
                    return self._unread.pop(number)
            return None

        frame = await self._until(taken, seconds)
        if frame is None:
            raise self._wrong(what if self.is_over else f"{what} within {seconds:g} s")
        return frame

    async def expect_nothing(
        self, event: type[Event] | str | None = None, *, room: str = "", within: float | None = None
    ) -> None:
        """Nothing has come that was not expected; or no event of that name. Costs no time: a ping is answered
        behind all that was sent before.

        Args:
            room: of which nothing has come, on a socket with many.
            within: seconds in which nothing comes either. There is no ping then, which an endpoint of your
                own, or a room that only relays, does not answer.
        """
        names, name = self._names, None if event is None else event_of(event)[0]

        def found() -> bool | None:
            self._failures.check()
            return any(self._is_event(frame, name, room) for frame in self._unread) or None

        if within is None:
            await self.send({names.type: "ping"})
            answered = "no answer to a ping (where none is to come, say within=)"
            await self.expect_frame(lambda frame: self._get(frame, names.type) == "pong", answered)
        if await self._until(found, within or 0):
            of = "" if name is None else f" named {name!r}"
            raise self._wrong(f"expected nothing{of}{f' of the room {room!r}' if room else ''}")

    async def expect_close(self, code: int | None = None, *, within: float | None = None) -> Close:
        """How the application closes; frames before that stay."""
        seconds = self._within if within is None else within

        def closed() -> Close | None:
            self._failures.check()
            return self._closed

        await self._until(closed, seconds)
        if self._closed is None or code not in (None, self._closed.code):
            raise self._wrong(f"no close{'' if code is None else f' with {code}'} within {seconds:g} s")
        return self._closed

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes: it has left, or the application has closed."""
        return self._closed is not None or self._failure is not None or self._has_left

    async def _until(self, found: Callable[[], T | None], seconds: float) -> T | None:
        """What `found` finds; None where it does not in time, and where nothing more comes."""
        deadline = asyncio.get_running_loop().time() + seconds
        while (it := found()) is None and not self.is_over:
            self._news.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._news.wait()
            except TimeoutError:
                return found()
        return it

    async def _read(self) -> None:
        try:
            while True:
                frame = self._decoded(await self._wire.receive())
                self.received.append(frame)
                kind = self._get(frame, self._names.type)
                if kind == "call" and frame["call"] in self.answers:
                    await self._answer(frame)
                elif kind == "joined" and self._names.request_id not in frame:
                    self.joined = frame
                elif not self._drops(frame):
                    self._unread.append(frame)
                self._news.set()
        except Closed as exc:
            self._closed = Close(exc.code, exc.reason)
        except Exception as exc:
            self._failure = exc
        finally:
            self._news.set()

    async def _answer(self, frame: Frame) -> None:
        names = self._names
        handler = self.answers[frame["call"]]
        found = handler(frame.get(names.data)) if callable(handler) else handler
        found = await found if inspect.isawaitable(found) else found
        await self.send(
            {names.type: "answer", "call_id": frame["call_id"], names.data: to_jsonable_python(found)}
        )

    def _decoded(self, body: Body) -> Any:
        try:
            return self._names.decode(body)
        except ValueError:
            return body

    def _get(self, frame: Any, name: str) -> Any:
        return frame.get(name) if isinstance(frame, dict) else None

    def _is_event(self, frame: Any, name: str | None, room: str) -> bool:
        """Whether a frame is an event of that name, or any frame, if there is none; and of that room."""
        names = self._names
        named = name is None or self._get(frame, names.event) == name
        return named and (not room or self._get(frame, names.channel) == room)

    def _drop(self, id: str | int) -> None:
        """Nobody waits any more for what answers a request."""
        self._dropped.add(id)
        self._unread = [frame for frame in self._unread if not self._drops(frame)]

    def _drops(self, frame: Any) -> bool:
        id = self._get(frame, self._names.request_id)
        if not isinstance(id, str | int) or id not in self._dropped:
            return False
        if not frame.get("more", False):
            self._dropped.discard(id)
        return True

    def _wrong(self, what: str) -> BaseException:
        if self._failure is not None:
            return self._failure
        state = "left by this client" if self._has_left else "open"
        if self._closed is not None:
            state = f"closed: {self._closed.code} {self._closed.reason!r}"
        taken = len(self.received) - len(self._unread)
        wrong = AssertionError(
            f"{what}. What has come, and was not expected yet:{listed(self._unread)}\n"
            f"Before that {taken} frames were taken. The connection is {state}."
        )
        wrong.__cause__ = self._failures.elsewhere()
        return wrong


def fields_of(payload: Payload, more: Mapping[str, Any]) -> dict[str, Any]:
    """Both, as they are in a frame."""
    fields: dict[str, Any] = to_jsonable_python(payload or {})
    return {**fields, **to_jsonable_python(dict(more))}


def _has(data: Any, fields: Mapping[str, Any]) -> bool:
    return not fields or (
        isinstance(data, dict) and all(name in data and data[name] == value for name, value in fields.items())
    )
