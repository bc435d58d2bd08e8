"""A client as a test wants one: nothing waits for ever, and a failure says what did arrive."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple, overload

from pydantic_core import to_jsonable_python
from typing_extensions import TypeVar

from fastapi_channels.client.errors import ActionError, Refused
from fastapi_channels.client.names import action_of
from fastapi_channels.client.settings import Closed, Wire
from fastapi_channels.wire.messages import SUBPROTOCOL, Envelope
from fastapi_channels.wire.words import Event

from .failures import SHOWN, Failures

T = TypeVar("T")
E = TypeVar("E", bound=Event)
Frame = dict[str, Any]

WITHIN: Final = 1.0
"""Seconds that anything may take, unless a test says more."""


class Close(NamedTuple):
    """How the application closed a WebSocket."""

    code: int
    reason: str


class Client:
    """A client that was let in.

    What is expected is taken out of what came; the rest stays for what is expected next. Every wait ends
    after `within` seconds with an AssertionError that lists what came instead. What the application has
    raised as it served this client is raised in place of that, once.

    Attributes:
        id: of the connection, as the application knows it.
        joined: what a room with history says first.
        received: all frames, in their order.
        answers: what the server's calls are answered with, by name: a function of the data, or a value.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        within: float = WITHIN,
        envelope: Envelope | None = None,
        failures: Failures | None = None,
    ) -> None:
        self.id = ""
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
        self._numbers = itertools.count(1)
        self._reading = asyncio.get_running_loop().create_task(self._read())

    # What it says

    async def send(self, frame: Any) -> None:
        """Send text and bytes as they are, anything else as a frame."""
        body = frame if isinstance(frame, str | bytes) else self._names.encode(frame)
        with suppress(Closed):
            await self._wire.send(body)

    async def call(self, action: str | Callable[..., Any], /, *, room: str = "", **fields: Any) -> Any:
        """The reply of an action; what comes meanwhile stays.

        Args:
            action: its name, or the method.
            room: on a socket with many.
            fields: the payload.

        Raises:
            ActionError: the server said no.
        """
        name = action if isinstance(action, str) else action_of(action)
        id = await self._ask(name, room, fields)
        try:
            frame = await self._response(id, f"no reply to {name}")
        except BaseException:
            self._drop(id)
            raise
        return self._data(frame)

    async def stream(
        self,
        action: str | Callable[..., Any],
        /,
        *,
        room: str = "",
        request_id: str | int | None = None,
        **fields: Any,
    ) -> AsyncGenerator[Any]:
        """What an action streams. A `break`, or `aclose()`, ends it on the server; `aclose()` waits for that.

        Args:
            request_id: to `cancel` it by.
        """
        name = action if isinstance(action, str) else action_of(action)
        id = await self._ask(name, room, fields, request_id)
        more = True
        try:
            while True:
                frame = await self._response(id, f"no item, and no end, of {name}")
                more = frame.get("more", False)
                if not more and self._names.code not in frame:
                    return
                yield self._data(frame)
        finally:
            if more:
                await self._abandon(id)

    async def cancel(self, request_id: str | int) -> None:
        """Have the server end a request, which is then answered with the error `cancelled`."""
        await self.send({self._names.type: "cancel", self._names.request_id: request_id})

    async def join(self, room: str, **said: Any) -> Frame:
        """Join a room of a `Socket`; the frame that says so.

        Raises:
            ActionError: it refuses.
        """
        return await self._control("join", {self._names.channel: room, **said})

    async def leave(self, room: str) -> Frame:
        return await self._control("leave", {self._names.channel: room})

    async def refresh(self, token: str) -> Frame:
        """Bring a new token; the frame that says for how long it is good.

        Raises:
            ActionError: it does not hold.
        """
        return await self._control("refresh", {"token": token})

    async def close(self) -> None:
        """Leave, and wait until everything of it is undone, on a server until that has answered."""
        await self.left()
        self._failures.check()

    async def left(self) -> None:
        """Leave, whatever the application has raised."""
        self._reading.cancel()
        await asyncio.wait((self._reading,))
        self._has_left = True
        self._news.set()
        await self._wire.close(1000)

    # What it expects

    @overload
    async def expect(self, event: type[E], /, *, within: float | None = None, **fields: Any) -> E: ...

    @overload
    async def expect(self, event: str, /, *, within: float | None = None, **fields: Any) -> Any: ...

    async def expect(self, event: type[Event] | str, /, *, within: float | None = None, **fields: Any) -> Any:
        """The data of the next event of a name: an instance, where the type is given. Others stay.

        Args:
            fields: that its data must have; events of the name without them are passed over.
        """
        name = event if isinstance(event, str) else event.event_name
        names = self._names

        def wanted(frame: Frame) -> bool:
            return frame.get(names.event) == name and _has(frame.get(names.data), fields)

        what = f"no event {name!r}" + (f" with {fields}" if fields else "")
        data = (await self.expect_frame(wanted, what, within=within)).get(names.data)
        return data if isinstance(event, str) else event.model_validate({} if data is None else data)

    async def expect_frame(
        self, wanted: Callable[[Frame], Any], what: str = "no such frame", *, within: float | None = None
    ) -> Frame:
        """The first frame that is wanted, of those that were not expected yet."""
        seconds = self._within if within is None else within

        def taken() -> Frame | None:
            self._failures.check()
            for number, frame in enumerate(self._unread):
                if wanted(frame):
                    return self._unread.pop(number)
            return None

        frame = await self._until(taken, seconds)
        if frame is None:
            raise self._wrong(f"{what} within {seconds:g} s")
        return frame

    async def expect_nothing(self, event: type[Event] | str | None = None) -> None:
        """Nothing has come that was not expected; or no event of that name. Costs no time: a ping is answered
        behind all that was sent before."""
        names = self._names
        await self.send({names.type: "ping"})
        await self.expect_frame(lambda frame: frame.get(names.type) == "pong", "no pong")
        name = event if event is None or isinstance(event, str) else event.event_name
        found = [frame for frame in self._unread if name is None or frame.get(names.event) == name]
        if found:
            raise self._wrong(f"expected nothing{'' if name is None else f' named {name!r}'}")

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

    # What comes

    async def welcomed(self) -> None:
        """Wait until the server has let it in.

        Raises:
            Refused: it does not.
        """
        if self._wire.subprotocol != SUBPROTOCOL:
            return
        names = self._names
        frame = await self.expect_frame(
            lambda frame: frame.get(names.type) == "welcome" or names.code in frame, "no welcome"
        )
        if frame.get(names.type) == "welcome":
            self.id = frame["connection"]
            return
        closed = await self.expect_close()
        raise Refused(closed.code, closed.reason, ActionError(frame))

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
                frame = self._names.decode(await self._wire.receive())
                self.received.append(frame)
                kind = frame.get(self._names.type) if isinstance(frame, dict) else None
                if kind == "call":
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
        handler = self.answers.get(frame["call"], self._unread.append)
        found = handler(frame.get(names.data)) if callable(handler) else handler
        found = await found if inspect.isawaitable(found) else found
        await self.send(
            {names.type: "answer", "call_id": frame["call_id"], names.data: to_jsonable_python(found)}
        )

    async def _ask(
        self, action: str, room: str, fields: Mapping[str, Any], id: str | int | None = None
    ) -> str | int:
        names = self._names
        id = f"{next(self._numbers)}" if id is None else id
        payload: Any = to_jsonable_python(dict(fields))
        inner = payload if names.payload is None else {names.payload: payload}
        about = {names.channel: room} if room else {}
        await self.send({**inner, **about, names.action: action, names.request_id: id})
        return id

    async def _response(self, id: str | int, what: str) -> Frame:
        return await self.expect_frame(lambda frame: frame.get(self._names.request_id) == id, what)

    def _drop(self, id: str | int) -> None:
        """Nobody waits any more for what answers a request."""
        self._dropped.add(id)
        self._unread = [frame for frame in self._unread if not self._drops(frame)]

    def _drops(self, frame: Any) -> bool:
        id = frame.get(self._names.request_id) if isinstance(frame, dict) else None
        if not isinstance(id, str | int) or id not in self._dropped:
            return False
        if not frame.get("more", False):
            self._dropped.discard(id)
        return True

    async def _abandon(self, id: str | int) -> None:
        """Have the server end a stream that nobody reads on; returns when it has."""
        self._drop(id)
        await self.cancel(id)
        await self._until(lambda: None if id in self._dropped else True, self._within)

    async def _control(self, kind: str, said: Mapping[str, Any]) -> Frame:
        names, id = self._names, next(self._numbers)
        await self.send({names.type: kind, names.request_id: id, **said})
        frame = await self._response(id, f"no answer to {kind}")
        if names.code in frame:
            raise ActionError(frame)
        return frame

    def _data(self, frame: Frame) -> Any:
        if self._names.code in frame:
            raise ActionError(frame)
        return frame.get(self._names.data)

    def _wrong(self, what: str) -> BaseException:
        if self._failure is not None:
            return self._failure
        lines = [json.dumps(frame, ensure_ascii=False, default=repr)[:SHOWN] for frame in self._unread]
        came = "".join(f"\n  {line}" for line in lines) or " nothing"
        state = "left by this client" if self._has_left else "open"
        if self._closed is not None:
            state = f"closed: {self._closed.code} {self._closed.reason!r}"
        taken = len(self.received) - len(lines)
        wrong = AssertionError(
            f"{what}. What has come, and was not expected yet:{came}\n"
            f"Before that {taken} frames were taken. The connection is {state}."
        )
        wrong.__cause__ = self._failures.elsewhere()
        return wrong


async def refused(asked: Awaitable[Any]) -> ActionError:
    """The error that a call, or a join, ends with.

    Raises:
        AssertionError: it ends without one.
    """
    try:
        data = await asked
    except ActionError as exc:
        return exc
    raise AssertionError(f"not refused, but answered: {data!r}")


def _has(data: Any, fields: Mapping[str, Any]) -> bool:
    return not fields or (
        isinstance(data, dict) and all(name in data and data[name] == value for name, value in fields.items())
    )
