"""Calls that a client makes again because it has not seen the reply: they act once, and get the same reply.

A call is named by the client's request id, its room, its action, and its user. Without a user the request id
alone has to tell clients apart, so it must be one that nobody guesses. Two pages of a user may both count
from one. So a call with the name of another and not its payload is refused, as it is by Stripe.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, Final

from pydantic_core import from_json, to_jsonable_python

from fastapi_channels.actions.spec import Recall
from fastapi_channels.exceptions import CloseCode, WebSocketException
from fastapi_channels.signatures.callables import finish
from fastapi_channels.stores import MAX_OUTCOME, Store, StoreUnavailable
from fastapi_channels.wire.messages import Message, encode_json

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


class RequestIdReused(WebSocketException):
    """Another call was made with the same request id."""

    error_code = "request_id_reused"
    http_status = 422
    code = CloseCode.BAD_REQUEST


async def once(
    store: Store,
    room: str,
    user: str | None,
    message: Message,
    payload: dict[str, Any],
    call: Callable[[Recall | None], Awaitable[Any]],
) -> Any:
    """What `call` returns, or what it returned when it was called for the same request.

    Args:
        room: as the store knows it.
        message: the request; where its id cannot tell that two requests are one, each is a new one.
        payload: which two requests that are one have in common.
        call: asks what it is given before it acts, and returns what that says.

    Raises:
        InProgress: the same request is being handled.
        AlreadyDone: it was handled, and what was returned is not known any more.
        RequestIdReused: what was handled had another payload.
        StoreUnavailable: the store did not say whether it was; nothing was done.
    """
    id = message.request_id
    if id is None or (user is None and not (isinstance(id, str) and len(id) >= LONG_ENOUGH)):
        return await call(None)
    key = f"call {_digest([room, user, message.action, id])}"
    owner, digest = secrets.token_hex(8), _digest(payload)
    is_ours = False

    async def recall() -> tuple[Any] | None:
        nonlocal is_ours
        claim = await store.claim(key, owner, UNDER_WAY)
        if claim.state == "running":
            raise InProgress(close=False, retry_after=1.0)
        is_ours = claim.state == "new"
        return None if is_ours else (_kept(claim.outcome, digest),)

    try:
        result = await call(recall)
    except BaseException:
        if is_ours:
            await finish(_settle(store, key, owner, None))
        raise
    if is_ours:
        outcome = digest + encode_json(result)
        await finish(_settle(store, key, owner, outcome if len(outcome) <= MAX_OUTCOME else digest))
    return result


def _kept(outcome: str, digest: str) -> Any:
    """The reply in an outcome: behind the digest of the payload, and nothing if it is not kept."""
    if outcome and not outcome.startswith(digest):
        raise RequestIdReused(close=False)
    if len(outcome) <= len(digest):
        raise AlreadyDone(close=False)
    return from_json(outcome[len(digest) :])


def _digest(value: Any) -> str:
    """The same for what a client may write in another order."""
    plain = to_jsonable_python(value, bytes_mode="base64", fallback=repr)
    return sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


async def _settle(store: Store, key: str, owner: str, outcome: str | None) -> None:
    try:
        await store.settle(key, owner, outcome, REMEMBERED)
    except StoreUnavailable as exc:
        logger.warning("how a call has ended is not remembered: %s", exc)
