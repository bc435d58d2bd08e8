"""What a client says of requests of its own that were read, and have not had their turn."""

from __future__ import annotations

from typing import Final, TypeAlias

from fastapi_channels.wire.messages import Message, RequestId

MAX_FORETOLD: Final = 64
"""Of how many requests that wait for their turn a client may say that it cancels them, or gives credit."""

Foretold: TypeAlias = dict[RequestId, Message]
"""What stands for requests until their turn, by their ids. Nothing but a dict: each connection has one."""


def stand_in(foretold: Foretold, request_id: RequestId) -> Message:
    """What stands for the first request of that id. Beyond `MAX_FORETOLD` the oldest are forgotten."""
    found = foretold.pop(request_id, None) or Message("", {}, request_id)
    foretold[request_id] = found
    if len(foretold) > MAX_FORETOLD:
        del foretold[next(iter(foretold))]
    return found


def tell(foretold: Foretold, message: Message, *, is_last: bool) -> None:
    """It is the turn of `message`.

    Args:
        is_last: whether nothing else waits.
    """
    told = foretold.pop(message.request_id, None)
    if told is not None:
        message.cancelled = told.cancelled
        message.give(told.credit)
    if is_last:
        foretold.clear()
