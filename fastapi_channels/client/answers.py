"""What the server asks in a room, and who answers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

from pydantic_core import to_jsonable_python

from fastapi_channels.wire.words import Call

from .connection import Frame
from .errors import ClientError, NotSent
from .listeners import Stop
from .settings import Settings

Handler: TypeAlias = Callable[[Any], Any]


class Answers:
    """Those of one room.

    Args:
        say: sends a frame to the room.
    """

    def __init__(self, settings: Settings, say: Callable[[Frame], None]) -> None:
        self._settings = settings
        self._say = say
        self._handlers: dict[str, Handler] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    def add(self, call: type[Call[Any]] | str, handler: Handler) -> Stop:
        """Have the calls of a name answered by `handler`, and by no other."""
        if isinstance(call, str):
            name, answer = call, handler
        else:
            kind, name = call, call.call_name
            answer = lambda data: handler(kind.model_validate({} if data is None else data))  # noqa: E731
        self._handlers[name] = answer

        def stop() -> None:
            if self._handlers.get(name) is answer:
                del self._handlers[name]

        return stop

    def asked(self, frame: Frame) -> None:
        """Answer beside whatever goes on."""
        task = asyncio.get_running_loop().create_task(self._answer(frame))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _answer(self, frame: Frame) -> None:
        names = self._settings.envelope
        answer: Frame = {names.type: "answer", "call_id": frame.get("call_id")}
        handler = self._handlers.get(frame.get("call", ""))
        try:
            if handler is None:
                raise ClientError(f"nobody here answers {frame.get('call')}")
            found = handler(frame.get(names.data))
            found = await found if inspect.isawaitable(found) else found
            answer[names.data] = to_jsonable_python(found)
        except Exception as exc:
            answer[names.errors] = str(exc) or type(exc).__name__
            if not isinstance(exc, ClientError):
                self._settings.complain("a call was not answered", exc)
        try:
            self._say(answer)
        except NotSent as exc:  # it is too large, as a rule: then the server need not wait for it
            with suppress(NotSent):
                self._say({names.type: "answer", "call_id": frame.get("call_id"), names.errors: str(exc)})
