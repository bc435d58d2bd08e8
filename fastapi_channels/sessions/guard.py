"""May this call go ahead? Permissions, then rates."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from starlette.websockets import WebSocket

from fastapi_channels.actions.spec import ActionSpec
from fastapi_channels.cluster.node import Node
from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import FOR_CLIENTS, PermissionDenied, RateLimitExceeded
from fastapi_channels.permission import ALLOW, BasePermission
from fastapi_channels.signatures.callables import MaybeAwaited, awaited, is_failure
from fastapi_channels.signatures.dependencies import dependencies_of
from fastapi_channels.signatures.graph import Resolution
from fastapi_channels.throttling import ForeignLimiter, Rate, address_group, budget_key, limit_key
from fastapi_channels.wire.failures import raised

logger = logging.getLogger("fastapi_channels")

CATCHING_UP: Final = 1.0
"""Seconds between two times that a client is given what it has missed in a room."""
_Items: TypeAlias = list[tuple[str, Rate]]
_NOT_COUNTED: Final[tuple[None, _Items]] = (None, [])


class Rules:
    """What the application and a channel say of every call, whichever action it is of.

    Args:
        permissions: who may call, and enter.
        throttles: the rates over all messages of a client in a room.
        entry: who may enter, beside that.
    """

    __slots__ = ("depends", "entry", "foreign", "permissions", "rates")

    def __init__(
        self, permissions: Iterable[BasePermission], throttles: Iterable[Any], entry: BasePermission = ALLOW
    ) -> None:
        throttles = tuple(throttles)
        self.permissions = tuple(p for p in permissions if p is not ALLOW)
        self.entry = entry
        self.depends = any(permission._depends for permission in self.permissions)
        self.foreign = tuple(limit for limit in throttles if isinstance(limit, ForeignLimiter))
        self.rates = tuple(limit for limit in throttles if not isinstance(limit, ForeignLimiter))


class Entry(BasePermission):
    """A channel's `authorize` as a permission: it is asked with the parameters of the room's name.

    Args:
        guards: whether it is asked about a room of that name.
    """

    def __init__(self, authorize: Callable[..., Any], guards: Callable[[str], bool]) -> None:
        self._authorize = authorize
        self._guards = guards
        self._dependencies = dependencies_of(authorize)
        self._depends = self._dependencies is not None

    def has_permission(
        self,
        websocket: WebSocket,
        action: str | None,
        *,
        channel: str = "",
        connection: Any = None,
        data: Any = None,
        params: dict[str, Any] | None = None,
        **resolved: Any,
    ) -> Any:
        if not self._guards(channel):
            return True
        return self._authorize(connection, **(connection.params if params is None else params), **resolved)


class Guard:
    """Asks the rules, and those of an action, about one client in one room.

    Args:
        connection: whom it is about.
        node: where rates are counted.
        rules: of the application and the channel.
    """

    __slots__ = ("_address", "_connection", "_counted", "_next_catch_up", "_node", "_rules")

    def __init__(self, connection: Connection, node: Node, rules: Rules) -> None:
        self._connection = connection
        self._node = node
        self._rules = rules
        self._address: str | None = None
        self._counted: dict[str, tuple[str, _Items]] = {}
        """For each action, whom it was last counted for, and what that counts under."""
        self._next_catch_up = 0.0
        """When it may be given again what it has missed, by the clock of the loop."""

    def check_permissions(self, spec: ActionSpec | None = None, data: Any = None) -> MaybeAwaited[None]:
        """Ask every permission for a call of `spec`, or for the connection itself. What is returned has to be
        awaited for the answer; None says that all have allowed it.

        Raises:
            PermissionDenied: one of them did not answer True. What a permission itself raises for the
                client passes through; any other exception refuses.
        """
        rules = self._rules
        asked, own = rules.permissions, rules.entry if spec is None else spec.permission
        if own is not ALLOW:
            asked = (*asked, own) if asked else (own,)
        if not asked:
            return None
        connection = self._connection
        action = spec.name if spec is not None else None
        extras = {"channel": connection.room, "connection": connection, "data": data}
        if rules.depends or own._depends:
            return self._ask_resolved(asked, action, extras)
        return self._ask(iter(asked), action, extras, None)

    def check_entry(self, room: str, params: dict[str, Any]) -> MaybeAwaited[None]:
        """Ask the channel's `authorize` about one more room, whose name has these parameters.

        Raises:
            as `check_permissions`.
        """
        entry = self._rules.entry
        if entry is ALLOW:
            return None
        extras = {"channel": room, "connection": self._connection, "data": None, "params": params}
        if entry._depends:
            return self._ask_resolved((entry,), "subscribe", extras)
        return self._ask(iter((entry,)), "subscribe", extras, None)

    def check_rates(self, spec: ActionSpec | None = None) -> MaybeAwaited[bool]:
        """Count one call of `spec`, or one message, under all its rates; False if a callback has
        answered in place of the error. It may have to be awaited.

        Raises:
            RateLimitExceeded: over a rate, and nobody wants to answer otherwise.
        """
        action, limits = (spec.name, spec.limits) if spec is not None else ("", ())
        rules = self._rules
        if not limits and not rules.rates and not rules.foreign:
            return True
        who, items = self._counted.get(action, _NOT_COUNTED)
        if rules.foreign or who != (self._node.key_of(self._connection.user) or ""):
            return self._count(action, limits)
        return self._hit(items)

    async def wait_to_catch_up(self) -> None:
        """Return when the client may have what it has missed in the room: at once, and then once a second. It
        may cost as much as the whole history each time, and no rate counts it."""
        loop = asyncio.get_running_loop()
        if (wait := self._next_catch_up - loop.time()) > 0:
            await asyncio.sleep(wait)
        self._next_catch_up = loop.time() + CATCHING_UP

    async def _ask_resolved(
        self, permissions: Iterable[BasePermission], action: str | None, extras: dict[str, Any]
    ) -> None:
        """Ask where something is to be resolved: once for all of them. What fails as it is closed refuses
        too."""
        try:
            async with Resolution(self._connection.websocket, self._connection) as resolution:
                pending = self._ask(iter(permissions), action, extras, resolution)
                if pending is not None:
                    await pending
        except BaseException as exc:
            refusal(exc, self._connection.id, self._connection.websocket)
            raise PermissionDenied(close=action is None) from None

    def _ask(
        self,
        permissions: Iterator[BasePermission],
        action: str | None,
        extras: dict[str, Any],
        resolution: Resolution | None,
    ) -> MaybeAwaited[None]:
        for permission in permissions:
            try:
                found = permission._ask(self._connection.websocket, action, extras, resolution)
            except BaseException as exc:
                found = refusal(exc, self._connection.id, self._connection.websocket)
            if type(found) is not bool and inspect.isawaitable(found):
                return self._ask_on(found, permissions, action, extras, resolution)
            if found is not True:
                raise PermissionDenied(close=action is None)
        return None

    async def _ask_on(
        self,
        answer: Awaitable[Any],
        permissions: Iterator[BasePermission],
        action: str | None,
        extras: dict[str, Any],
        resolution: Resolution | None,
    ) -> None:
        try:
            found = await answer
        except BaseException as exc:
            found = refusal(exc, self._connection.id, self._connection.websocket)
        if found is not True:
            raise PermissionDenied(close=action is None)
        pending = self._ask(permissions, action, extras, resolution)
        if pending is not None:
            await pending

    async def _count(self, action: str, limits: Sequence[Rate]) -> bool:
        for limit in self._rules.foreign:
            wait = await limit.hit(await self._key(limit, ""))
            if wait:
                return await self._exceeded([limit], wait)
        if not limits and not self._rules.rates:
            return True
        found = self._hit(await self._items(action, limits))
        return found if isinstance(found, bool) else await found

    def _hit(self, items: _Items) -> MaybeAwaited[bool]:
        wait = self._node.limiter.hit(items)
        if isinstance(wait, (float, int)):
            return not wait or self._exceeded([rate for _, rate in items], wait)
        return self._hit_later(wait, items)

    async def _hit_later(self, wait: Awaitable[float], items: _Items) -> bool:
        seconds = await wait
        return not seconds or await self._exceeded([rate for _, rate in items], seconds)

    async def _items(self, action: str, limits: Sequence[Rate]) -> _Items:
        """The keys and rates that one call counts under; a rate that is said twice counts once."""
        who = self._node.key_of(self._connection.user) or ""
        keyed = [(await self._key(limit, ""), limit) for limit in self._rules.rates]
        keyed += [(await self._key(limit, action), limit) for limit in limits]
        # Of those of one budget the dearest counts.
        items = list(dict(sorted(keyed, key=lambda item: item[1].cost)).items())
        if not any(self._identifier(limit) for _, limit in items):
            self._counted[action] = who, items
        return items

    def _identifier(self, limit: Any) -> Callable[..., Any] | None:
        return limit.identifier or self._node.settings.identifier

    async def _key(self, limit: Any, action: str) -> str:
        identifier = self._identifier(limit)
        if identifier is not None:
            kind, who = "custom", str(await awaited(identifier(self._connection.websocket)))
        else:
            user = self._node.key_of(self._connection.user)
            kind, who = ("user", user) if user else ("address", self._client())
        if limit.budget:
            return budget_key(kind, who, limit)
        channel = type(self._connection.channel).__qualname__
        return limit_key(kind, who, channel, self._connection.room, action, str(limit))

    def _client(self) -> str:
        if self._address is None:
            self._address = address_group(self._connection.address)
        return self._address

    async def _exceeded(self, limits: Sequence[Any], wait: float) -> bool:
        callback = next((limit.ws_callback for limit in limits if limit.ws_callback), None)
        callback = callback or self._node.settings.ws_callback
        if callback is None:
            raise RateLimitExceeded(close=False, retry_after=None if math.isinf(wait) else wait)
        milliseconds = 0 if math.isinf(wait) else math.ceil(wait * 1000)
        await awaited(callback(self._connection.websocket, milliseconds))
        return False


def refusal(exc: BaseException, connection: str, websocket: WebSocket) -> bool:
    """The answer of a permission that has raised `exc`: what fails, refuses.

    Args:
        connection: the id of the one that it was asked about.
        websocket: its WebSocket.

    Raises:
        BaseException: `exc`, if it was raised for the client, or if it is no failure.
    """
    if isinstance(exc, FOR_CLIENTS) or not is_failure(exc):
        raise exc
    logger.error("a permission failed, and so refuses", exc_info=exc, extra={"connection": connection})
    raised(websocket.scope, exc)
    return False
