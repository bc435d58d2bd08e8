"""Who may not come for a time: a user, or an address, in every process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from ipaddress import ip_address, ip_network
from typing import Final, NamedTuple

from pydantic import TypeAdapter, ValidationError

from fastapi_channels.exceptions import CloseCode, ConfigurationError
from fastapi_channels.stores import Addition, Part, Record, Retention, Store
from fastapi_channels.throttling import address_group
from fastapi_channels.wire.rooms import RESERVED
from fastapi_channels.wire.writer import Writer

from .expulsions import Expulsions
from .orders import MAX_NAME, Banish, Order
from .sender import without_store

MAX_SECONDS: Final = 10 * 365 * 86_400.0
"""How long a ban may last."""
LISTED: Final = 1000
"""How many of the last bans, and ends of bans, are known to whoever asks for a list of them."""


class Ban(NamedTuple):
    """Of one user, or of one address.

    Attributes:
        user: its key.
        address: of IPv4; or the network of 64 bits that an address of IPv6 is in.
        until: seconds since 1970.
        reason: for those who look at the list.
        by: who said so.
    """

    user: str | None
    address: str | None
    until: float
    reason: str = ""
    by: str = ""

    @property
    def name(self) -> str:
        """Whom it is of, as a key in the store."""
        return f"user {self.user}" if self.user is not None else f"address {self.address}"

    @property
    def order(self) -> Banish:
        """That closes what is open."""
        return Banish(user=self.user, address=self.address)


class Barred(NamedTuple):
    """Whose a WebSocket is: the key of its user, and the address as bans name it."""

    user: str | None
    address: str


def new_ban(
    user: str | None, address: str | None, seconds: float = 0.0, reason: str = "", by: str = ""
) -> Ban:
    """
    Raises:
        ConfigurationError: it is of nobody, or of two; the address is none, or a network that has more or
            fewer than a ban is of; the key of the user is too long; or it would last too long.
    """
    if (user is None) == (address is None):
        raise ConfigurationError("a ban is of a user or of an address: give one of user= and address=")
    if not 0 <= seconds <= MAX_SECONDS:
        raise ConfigurationError(f"a ban lasts for 0 to {MAX_SECONDS:.0f} seconds, got {seconds!r}")
    if address is not None:
        address = _group(address)
    ban = Ban(user, address, time.time() + seconds, reason, by)
    try:
        ban.order  # noqa: B018  # before anything is written
    except ValidationError:
        raise ConfigurationError(
            f"the key of a user that is banned has 1 to {MAX_NAME} characters that UTF-8 can hold, "
            f"got {len(user or '')}"
        ) from None
    return ban


def _group(address: str) -> str:
    """What handshakes look up, who look up no other network."""
    host, slash, _ = address.partition("/")
    try:
        group = address_group(str(ip_address(host)))
        if not slash or ip_network(address, strict=False) == ip_network(group):
            return group
    except ValueError:
        raise ConfigurationError(f"address= takes an address of IPv4 or IPv6, got {address!r}") from None
    raise ConfigurationError(
        f"a ban is of one address of IPv4, or of a network of 64 bits of IPv6: address= was {address!r}, "
        f"say {group!r}, or have your proxy or firewall refuse the network"
    )


class Book:
    """The bans, in the store: of each whom it is of, which handshakes look up, and a list of the last ones.

    Args:
        store: of all processes; None where there is none.
        namespace: begins the keys there.
    """

    def __init__(self, store: Store | None, namespace: str) -> None:
        self._store = store
        self._namespace = namespace
        self._list = f"{namespace}{RESERVED}bans"

    async def write(self, ban: Ban) -> None:
        """
        Raises:
            ConfigurationError: there is no store.
            StoreUnavailable: it does not hold yet, or is not in the list.
        """
        store = self._kept_in()
        await store.put(self._key(ban.name), str(ban.until), max(1.0, ban.until - time.time()))
        await self._append(store, ban)

    async def strike(self, ban: Ban) -> None:
        """End the ban of whom `ban` is of. Raises as `write`."""
        store = self._kept_in()
        await store.take(self._key(ban.name))
        await self._append(store, ban._replace(until=0.0))

    async def has(self, who: Barred) -> bool:
        """Raises as `write`."""
        store = self._kept_in()
        names = [f"address {who.address}", *([f"user {who.user}"] if who.user is not None else [])]
        found = await asyncio.gather(*(store.get(self._key(name)) for name in names))
        return any(each is not None for each in found)

    async def listed(self) -> list[Ban]:
        """Those that hold, the newest first. Raises as `write`."""
        page = await self._kept_in().read(self._list, _KEPT, Part(limit=LISTED, reverse=True))
        last: dict[str, Ban] = {}
        for record in page.records:
            try:
                ban = _BAN.validate_json(record.body)
            except ValidationError:  # of another version, or of somebody else
                continue
            last.setdefault(ban.name, ban)
        now = time.time()
        return [ban for ban in last.values() if ban.until > now]

    async def _append(self, store: Store, ban: Ban) -> None:
        await store.append(self._list, Addition(Record(0, _BAN.dump_json(ban).decode()), _KEPT))

    def _kept_in(self) -> Store:
        if self._store is None:
            raise without_store("add_channel(bans=True)")
        return self._store

    def _key(self, name: str) -> str:
        return f"{self._namespace}banned {name}"


class Bans(Expulsions[Barred, Banish]):
    """Those that concern the WebSockets of this process.

    Args:
        on: whether handshakes ask.

    Attributes:
        book: where they stand.
    """

    def __init__(
        self,
        store: Store | None,
        namespace: str,
        send: Callable[[Order], Awaitable[None]],
        *,
        on: bool = True,
    ) -> None:
        super().__init__(store, namespace, send)
        self.book = Book(store, namespace)
        self._on = on

    async def has_to_go(self, who: Barred) -> bool:
        return await self.book.has(who)

    async def ban(self, ban: Ban) -> None:
        """Refuse them from now on, and close what is open in every process.

        Raises:
            ConfigurationError: there is no store, or no handshake asks.
            StoreUnavailable: it does not hold, or is not listed; what is open is closed all the same.
        """
        if not self._on:
            raise ConfigurationError("nobody is refused for a ban without add_channel(bans=True)")
        order = ban.order
        self.carry_out(order)
        try:
            await self.book.write(ban)
        finally:
            await self._give(ban.name, order)

    async def unban(self, ban: Ban) -> None:
        """
        Raises:
            ConfigurationError: there is no store.
            StoreUnavailable: it may hold still.
        """
        self._unsent.pop(ban.name, None)
        await self.book.strike(ban)

    def _means(self, order: Banish, who: Barred) -> bool:
        of_user = order.user is not None and order.user == who.user
        return of_user or (order.address is not None and order.address == who.address)

    def _close(self, writer: Writer) -> None:
        writer.start_close(CloseCode.BANNED, "banned")


_BAN: Final = TypeAdapter(Ban)
_KEPT: Final = Retention(LISTED, 1024 * 1024, MAX_SECONDS)
