"""How often a client may begin anew, and how often it may be there."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Protocol

from starlette.websockets import WebSocket

from fastapi_channels.cluster.bans import Barred
from fastapi_channels.cluster.charge import charge
from fastapi_channels.cluster.node import Node
from fastapi_channels.exceptions import Banned, CloseCode, RateLimitExceeded
from fastapi_channels.texts import text
from fastapi_channels.throttling import Rate, address_group, normalize
from fastapi_channels.wire.writer import Writer

from .plan import Terms


class Guest(Protocol):
    """The session of a WebSocket."""

    node: Node
    websocket: WebSocket
    writer: Writer
    user: Any

    @property
    def language(self) -> str: ...


async def check_ban(guest: Guest) -> None:
    """Let nobody in who is banned; who is in has to leave from then on as soon as it is.

    Raises:
        Banned: it is.
        StoreUnavailable: the store did not say.
    """
    node = guest.node
    who = Barred(node.key_of(guest.user), address_group(node.address_of(guest.websocket)))
    if await node.bans.enter(guest.writer, who):
        raise Banned


async def check_arrival(node: Node, websocket: WebSocket, user: Any, terms: Terms) -> None:
    """Count one handshake.

    Raises:
        RateLimitExceeded: its user, or its address, has begun too many.
    """
    limits = [each for each in normalize(terms.connect_throttle_classes) if isinstance(each, Rate)]
    wait = await charge(node, websocket, user, limits, type(terms).__qualname__)
    if wait:
        raise RateLimitExceeded(retry_after=None if math.isinf(wait) else wait)


async def take_place(guest: Guest) -> None:
    """Count a client among the connections of its user, until `give_place`.

    Raises:
        TooManyConnections: the user has as many others.
        StoreUnavailable: the store did not say.
    """
    allowances, limits = guest.node.rooms.allowances, guest.node.settings.per_user
    if allowances is not None and limits is not None:
        await allowances.connect(guest.writer.name, guest.user, limits, partial(_replaced, guest))


def give_place(guest: Guest) -> None:
    """Undo `take_place`; never waits and never fails."""
    if guest.node.rooms.allowances is not None:
        guest.node.rooms.allowances.disconnect(guest.writer.name)


def _replaced(guest: Guest) -> None:
    guest.writer.start_close(CloseCode.REPLACED, text("replaced", guest.language, {}))
