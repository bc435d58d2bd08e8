"""A client as a test wants one: nothing waits for ever, and a failure says what did arrive."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, overload

from typing_extensions import TypeVar

from fastapi_channels.client.errors import ActionError, Refused
from fastapi_channels.client.names import action_of, answer_of, as_it_is, item_of
from fastapi_channels.client.room import Payload
from fastapi_channels.client.settings import Wire
from fastapi_channels.wire.messages import SUBPROTOCOL, Envelope

from .failures import Failures
from .receiver import WITHIN, Frame, Receiver, fields_of
from .texts import shortened

R = TypeVar("R")


class Client(Receiver):
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
        super().__init__(wire, within=within, envelope=envelope, failures=failures)
        self.id = ""
        self._numbers = itertools.count(1)

    @overload
    async def call(
        self,
        action: Callable[..., Coroutine[Any, Any, R]],
        payload: Payload = None,
        /,
        *,
        room: str = "",
        **fields: Any,
    ) -> R: ...

    @overload
    async def call(
        self, action: Callable[..., R], payload: Payload = None, /, *, room: str = "", **fields: Any
    ) -> R: ...

    @overload
    async def call(
        self, action: str, payload: Payload = None, /, *, room: str = "", **fields: Any
    ) -> Any: ...

    async def call(
        self,
        action: str | Callable[..., Any],
        payload: Payload = None,
        /,
        *,
        room: str = "",
        **fields: Any,
    ) -> Any:
        """The reply of an action; what comes meanwhile stays.

        Args:
            action: its name; or the method of the channel's class: the reply has the type that this returns.
            payload: its fields.
            room: on a socket with many.
            fields: the same as `payload`, and more.

        Raises:
            ActionError: the server said no.
        """
        name = action if isinstance(action, str) else action_of(action)
        id = await self._ask(name, room, fields_of(payload, fields))
        try:
            frame = await self._response(id, f"no reply to {name}")
        except BaseException:
            self._drop(id)
            raise
        if "more" in frame and self._names.code not in frame:
            await self._abandon(id, more=frame["more"])
            raise AssertionError(f"{name} streams: read it with stream()")
        data = self._data(frame)
        return data if isinstance(action, str) else answer_of(action).validate_python(data)

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
    ) -> AsyncGenerator[R]: ...

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
    ) -> AsyncGenerator[Any]: ...

    async def stream(
        self,
        action: str | Callable[..., Any],
        payload: Payload = None,
        /,
        *,
        room: str = "",
        request_id: str | int | None = None,
        **fields: Any,
    ) -> AsyncGenerator[Any]:
        """What an action streams. A `break`, or `aclose()`, ends it on the server; `aclose()` waits for that.

        Args:
            action, payload, room, fields: as of `call`.
            request_id: to `cancel` it by.
        """
        name = action if isinstance(action, str) else action_of(action)
        read = as_it_is if isinstance(action, str) else item_of(action).validate_python
        id = await self._ask(name, room, fields_of(payload, fields), request_id)
        more = True
        try:
            while True:
                frame = await self._response(id, f"no item, and no end, of {name}")
                more = frame.get("more", False)
                if not more and self._names.code not in frame:
                    return
                yield read(self._data(frame))
        finally:
            await self._abandon(id, more=more)

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

    async def welcomed(self) -> None:
        """Wait until the server has let it in.

        Raises:
            Refused: it does not.
        """
        if self._wire.subprotocol != SUBPROTOCOL:
            return
        names = self._names
        frame = await self.expect_frame(
            lambda frame: self._get(frame, names.type) == "welcome" or self._get(frame, names.code),
            "no welcome",
        )
        if frame.get(names.type) == "welcome":
            self.id = frame["connection"]
            return
        closed = await self.expect_close()
        raise Refused(closed.code, closed.reason, ActionError(frame))

    async def _ask(
        self, action: str, room: str, fields: dict[str, Any], id: str | int | None = None
    ) -> str | int:
        names = self._names
        id = f"{next(self._numbers)}" if id is None else id
        inner = fields if names.payload is None else {names.payload: fields}
        about = {names.channel: room} if room else {}
        await self.send({**inner, **about, names.action: action, names.request_id: id})
        return id

    async def _response(self, id: str | int, what: str) -> Frame:
        found: Frame = await self.expect_frame(
            lambda frame: self._get(frame, self._names.request_id) == id, what
        )
        return found

    async def _abandon(self, id: str | int, *, more: bool) -> None:
        """Have the server end a stream that nobody reads on, if there is more of it; returns when it has."""
        if not more:
            return
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


async def refused(asked: Awaitable[Any]) -> ActionError:
    """The error that a call, or a join, ends with.

    Raises:
        AssertionError: it ends without one.
    """
    try:
        data = await asked
    except ActionError as exc:
        return exc
    raise AssertionError(f"not refused, but answered: {shortened(data)}")
