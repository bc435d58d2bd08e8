"""Questions to a client, and its answers."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import ValidationError

from fastapi_channels.actions.binding import faults
from fastapi_channels.exceptions import CallFailed, Disconnected
from fastapi_channels.wire.words import Call


class Calls:
    """The questions to one client that wait for an answer, by number."""

    __slots__ = ("_number", "_waiting")

    def __init__(self) -> None:
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    def ask(self) -> tuple[int, asyncio.Future[Any]]:
        """A number for a question, and the future of its answer; `forget` it in the end."""
        self._number += 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[self._number] = future
        return self._number, future

    def forget(self, number: int) -> None:
        """Nobody waits for the answer any more."""
        future = self._waiting.pop(number, None)
        if future is not None and future.done() and not future.cancelled():
            # Looked at, for who was interrupted did not: the loop complains of errors that nobody saw.
            future.exception()

    def answer(self, number: Any, data: Any, errors: Any) -> None:
        """Take an answer; one that nobody waits for, or waits for no longer, is dropped."""
        future = self._waiting.get(number) if isinstance(number, int) else None
        if future is None or future.done():
            return
        if errors is None:
            future.set_result(data)
        else:
            future.set_exception(CallFailed(errors))

    def fail(self) -> None:
        """The client has gone: nobody is going to answer."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Disconnected("the client left before it answered"))


def read(answer: Any, kind: type[Call[Any]] | None) -> Any:
    """What a client answered, as the type that such a call wants; None is for a call without one.

    Raises:
        CallFailed: it is something else.
    """
    if kind is None:
        return answer
    try:
        return kind.call_answer.validate_python(answer)
    except ValidationError as exc:
        raise CallFailed(list(faults(exc))) from None
