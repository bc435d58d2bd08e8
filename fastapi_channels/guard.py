"""May this call go ahead? Permissions, then rates."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from .actions import ActionSpec
from .callables import is_failure
from .exceptions import FOR_CLIENTS, PermissionDenied, RateLimitExceeded
from .permission import ALLOW, BasePermission, ask
from .throttling import ForeignLimiter, Rate, address_group, limit_key
from .users import user_key

if TYPE_CHECKING:
    from .connection import Connection
    from .session import Session

_Items: TypeAlias = list[tuple[str, Rate]]


class Guard:
    """Asks the application's, the channel's and the action's rules about one client in one room.

    Args:
        connection: whom it is about.
        permissions: of the application and the channel.
        throttles: of the application and the channel, over all messages.
    """

    __slots__ = ("_address", "_connection", "_counted", "_foreign", "_permissions", "_rates", "_session")

    def __init__(
        self,
        connection: Connection,
        session: Session,
        permissions: Sequence[BasePermission],
        throttles: Sequence[Any],
    ) -> None:
        self._connection = connection
        self._session = session
        self._permissions = [p for p in permissions if p is not ALLOW]
        self._foreign = [limit for limit in throttles if isinstance(limit, ForeignLimiter)]
        self._rates = [limit for limit in throttles if not isinstance(limit, ForeignLimiter)]
        self._address: str | None = None
        self._counted: dict[str, tuple[str, _Items]] = {}
        """For each action, whom it was last counted for, and what that counts under."""

    async def check_permissions(self, spec: ActionSpec | None = None, data: Any = None) -> None:
        """Ask every permission for a call of `spec`, or for the connection itself.

        Raises:
            PermissionDenied: one of them did not answer True. What a permission itself raises for the
                client passes through; any other exception refuses.
        """
        for permission in self._permissions:
            await self._ask(permission, spec, data)
        if spec is not None and spec.permission is not ALLOW:
            await self._ask(spec.permission, spec, data)

    async def check_rates(self, spec: ActionSpec | None = None) -> bool:
        """Count one call of `spec`, or one message, under all its rates; False if a callback has
        answered in place of the error.

        Raises:
            RateLimitExceeded: over a rate, and nobody wants to answer otherwise.
        """
        limits = spec.limits if spec is not None else ()
        if not limits and not self._rates and not self._foreign:
            return True
        for limit in self._foreign:
            wait = await limit.hit(await self._key(limit, ""))
            if wait:
                return await self._exceeded([limit], wait)
        action = spec.name if spec is not None else ""
        who, items = self._counted.get(action, (None, ()))
        if who != (user_key(self._connection.user) or ""):
            items = await self._items(action, limits)
        wait = await self._session.node.limiter.hit(items) if items else 0.0
        return not wait or await self._exceeded([rate for _, rate in items], wait)

    async def _ask(self, permission: BasePermission, spec: ActionSpec | None, data: Any) -> None:
        action = spec.name if spec is not None else None
        extras = {"channel": self._connection.room, "connection": self._connection, "data": data}
        try:
            found = ask(permission, self._connection.websocket, action, extras)
            if type(found) is not bool and inspect.isawaitable(found):
                found = await found
        except FOR_CLIENTS:
            raise
        except BaseException as exc:
            if not is_failure(exc):
                raise
            self._session.log.exception("a permission failed, and so refuses")
            found = False
        if found is not True:
            raise PermissionDenied(close=action is None)

    async def _items(self, action: str, limits: Sequence[Rate]) -> _Items:
        """The keys and rates that one call counts under; a rate that is said twice counts once."""
        who = user_key(self._connection.user) or ""
        keyed = [(await self._key(limit, ""), limit) for limit in self._rates]
        keyed += [(await self._key(limit, action), limit) for limit in limits]
        items = list(dict.fromkeys(keyed))
        if not any(self._identifier(limit) for _, limit in items):
            self._counted[action] = who, items
        return items

    def _identifier(self, limit: Any) -> Callable[..., Any] | None:
        return limit.identifier or self._session.node.settings.identifier

    async def _key(self, limit: Any, action: str) -> str:
        identifier = self._identifier(limit)
        if identifier is not None:
            found = identifier(self._connection.websocket)
            kind, who = "custom", str(await found if inspect.isawaitable(found) else found)
        else:
            user = user_key(self._connection.user)
            kind, who = ("user", user) if user else ("address", self._client())
        channel = type(self._connection.channel).__qualname__
        return limit_key(kind, who, channel, self._connection.room, action, str(limit))

    def _client(self) -> str:
        if self._address is None:
            self._address = address_group(self._connection.address)
        return self._address

    async def _exceeded(self, limits: Sequence[Any], wait: float) -> bool:
        callback = next((limit.ws_callback for limit in limits if limit.ws_callback), None)
        callback = callback or self._session.node.settings.ws_callback
        if callback is None:
            raise RateLimitExceeded(close=False, retry_after=None if math.isinf(wait) else wait)
        milliseconds = 0 if math.isinf(wait) else math.ceil(wait * 1000)
        result = callback(self._connection.websocket, milliseconds)
        if inspect.isawaitable(result):
            await result
        return False
