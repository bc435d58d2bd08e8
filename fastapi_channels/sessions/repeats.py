"""Calls that a client makes again because it has not seen the reply: they act once, and get the same reply.

A call is named by the client's request id, its room, its action, and its user. Without a user the request id
alone has to tell clients apart, so it must be one that nobody guesses.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, Final

from pydantic_core import from_json

from fastapi_channels.exceptions import CloseCode, WebSocketException
from fastapi_channels.signatures.callables import finish
from fastapi_channels.stores import MAX_OUTCOME, Store, StoreUnavailable
from fastapi_channels.wire.messages import RequestId, encode_json

logger = logging.getLogger("fastapi_channels")

REMEMBERED: Final = 300.0
"""Seconds that a reply is kept."""
UNDER_WAY: Final = 60.0
"""Seconds after which a call that has not ended is taken for one whose process is gone."""
LONG_ENOUGH: Final = 16
"""Characters of a request id that tells a client without a user from others."""


class InProgress(WebSocketException):
    """The same call is under way."""

    error_code = "in_progress"
    http_status = 409
    code = CloseCode.TRY_AGAIN_LATER


class AlreadyDone(WebSocketException):
    """The same call is done, and its reply was too large to be kept."""

    error_code = "already_done"
    http_status = 409
    code = CloseCode.BAD_REQUEST


async def once(
    store: Store, room: str, user: str | None, action: str, id: RequestId, call: Callable[[], Awaitable[Any]]
) -> Any:
    """What `call` returns, or what it returned when it was called for the same request.

    Args:
        room: as the store knows it.
        id: of the request; where it cannot tell that two requests are one, `call` is called.

    Raises:
        InProgress: the same request is being handled.
        AlreadyDone: it was handled, and what was returned is not known any more.
        StoreUnavailable: the store did not say whether it was; nothing was called.
    """
    if id is None or (user is None and not (isinstance(id, str) and len(id) >= LONG_ENOUGH)):
        return await call()
    named = encode_json([room, user, action, id])
    key, owner = f"call {sha256(named.encode()).hexdigest()}", secrets.token_hex(8)
    claim = await store.claim(key, owner, UNDER_WAY)
    if claim.state == "running":
        raise InProgress(close=False, retry_after=1.0)
    if claim.state == "done":
        if not claim.outcome:
            raise AlreadyDone(close=False)
        return from_json(claim.outcome)
    try:
        result = await call()
    except BaseException:
        await finish(_settle(store, key, owner, None))
        raise
    outcome = encode_json(result)
    await finish(_settle(store, key, owner, outcome if len(outcome) <= MAX_OUTCOME else ""))
    return result


async def _settle(store: Store, key: str, owner: str, outcome: str | None) -> None:
    try:
        await store.settle(key, owner, outcome, REMEMBERED)
    except StoreUnavailable as exc:
        logger.warning("how a call has ended is not remembered: %s", exc)
