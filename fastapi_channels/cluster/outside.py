"""What is no process of an application, and speaks to those that are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from broadcaster import BroadcastBackend

from fastapi_channels.brokers import Broker
from fastapi_channels.brokers.backend import apart, within
from fastapi_channels.encryption import NONE, Encryption
from fastapi_channels.encryption.notice import check
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.stores import Occupancy, Store, StoreUnavailable
from fastapi_channels.wire.messages import Body, Publication
from fastapi_channels.wire.positions import Position
from fastapi_channels.wire.rooms import check_namespace

from .bans import Ban, Book
from .observer import Observers
from .orders import Revoke
from .recovery import Keeping
from .revocations import remember
from .sender import Nobody, Sender
from .tasks import shared
from .threads import in_its_loop
from .users import UserKey, UserKeys

logger = logging.getLogger("fastapi_channels")
CHECKING: Final = 60.0
"""Seconds between two looks whether the application reads what is said."""
AGAIN: Final = 5.0
"""The same where the store did not say."""
PATIENCE: Final = 0.25
"""The part of `publish_timeout` in which the store has to answer."""


class Outside:
    """Connects with its first call, in the event loop in which that is; in the next one anew.

    Every call raises ConfigurationError where the store says that the application has other keys, or where
    there are keys here and it does not say that the application has some. A store that does not answer, or a
    broker without one, holds nothing up.

    Args:
        backend: reaches the broker of the application.
        deliver: takes what is published to the topics that are subscribed.
        namespace: that of the application.
        user_key: what names a user, as the application has it.
        publish_timeout: seconds that a call may take.
        encryption: that of the application.
        make_store: makes a store, which the application shares, for one event loop.
        observers: are told of what is published.

    Raises:
        ConfigurationError: the backend, or the store, reaches nobody.
    """

    def __init__(
        self,
        backend: BroadcastBackend,
        deliver: Callable[[Publication], None] | None = None,
        *,
        namespace: str = "",
        user_key: UserKey = None,
        publish_timeout: float = 2.0,
        encryption: Encryption = NONE,
        make_store: Callable[[], Store | None] = lambda: None,
        observers: Observers | None = None,
    ) -> None:
        self._namespace = check_namespace(namespace)
        self._encryption = encryption
        self._make_store = make_store
        self._listens = deliver is not None
        self._checks_at = 0.0
        self._checking: asyncio.Task[None] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.key_of = UserKeys(user_key)
        packing, store = encryption.packing, encryption.over(make_store(), True)
        self._broker = Broker(backend, deliver or _ignore, packing=packing, publish_timeout=publish_timeout)
        self.sender = Sender(
            self._publish,
            self._broker.echoing,
            namespace,
            self.key_of,
            store,
            packing,
            Nobody(),
            observers or Observers(),
        )
        self._timeout = publish_timeout
        self.send_to_connection = self.sender.send_to_connection
        self.send_to_user = self.sender.send_to_user
        self.order = self.sender.order
        if self._broker.local or (self.sender.store is not None and not self.sender.store.shared):
            raise ConfigurationError(
                "memory:// never leaves its process: give the URL of the broker that the application has; "
                "inside the application, depend on current_publisher"
            )

    @in_its_loop
    async def close(self) -> None:
        """Disconnect; what is sent later connects again."""
        if self.loop is asyncio.get_running_loop():
            await self._broker.stop()
            if self.sender.store is not None:
                await self.sender.store.close()
        self.loop = None

    @in_its_loop
    async def publish(
        self,
        room: str,
        body: Body,
        exclude: frozenset[str] = frozenset(),
        *,
        keeping: Keeping | None = None,
        key: str | None = None,
        for_each: str = "",
    ) -> Position | None:
        """As `Sender.publish`."""
        with within(self._timeout):
            await self._begin()
            return await self.sender.publish(room, body, exclude, keeping=keeping, key=key, for_each=for_each)

    @in_its_loop
    async def revoke(self, order: Revoke, seconds: float) -> None:
        """Remember it for `seconds`, and have every process close what is open.

        Raises:
            ConfigurationError: there is no store.
            BrokerUnavailable, StoreUnavailable: one of the two is not done, or neither.
        """
        with within(self._timeout):
            await self._begin()
            await remember(self.sender.store, self._namespace, order, seconds)
            await self.sender.order(order)

    @in_its_loop
    async def ban(self, ban: Ban) -> None:
        """Have them refused, and every process close what is open.

        Raises:
            ConfigurationError: there is no store.
            BrokerUnavailable, StoreUnavailable: one of the two is not done, or neither.
        """
        with within(self._timeout):
            await self._begin()
            await Book(self.sender.store, self._namespace).write(ban)
            await self.sender.order(ban.order)

    @in_its_loop
    async def unban(self, ban: Ban) -> None:
        """As `Book.strike`."""
        with within(self._timeout):
            await self._begin()
            await Book(self.sender.store, self._namespace).strike(ban)

    @in_its_loop
    async def banned(self) -> list[Ban]:
        """As `Book.listed`."""
        with within(self._timeout):
            await self._begin()
            return await Book(self.sender.store, self._namespace).listed()

    @in_its_loop
    async def occupancy(self, room: str) -> Occupancy:
        """As `Rooms.occupancy`."""
        with within(self._timeout):
            await self._begin()
            return await self.sender.wanted("people()").occupancy(self._namespace + room)

    @in_its_loop
    async def count_people(self, room: str) -> int:
        """As `Rooms.count_people`."""
        with within(self._timeout):
            await self._begin()
            return await self.sender.wanted("count_people()").count_people(self._namespace + room)

    @in_its_loop
    async def subscribe(self, topic: str) -> None:
        """Hear what is published to `topic` from now on.

        Raises:
            BrokerUnavailable: it was not confirmed before the deadline.
        """
        await self._begin()
        await self._broker.subscribe(self._namespace + topic)

    @in_its_loop
    async def _publish(self, publication: Publication) -> None:
        with within(self._timeout):
            await self._begin()
            await self._broker.publish(publication)

    async def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        if self.loop is not loop:
            self._broker.reset()
            self.sender.store = self._encryption.over(self._make_store(), True)
            self._checks_at, self._checking = 0.0, None
            self.loop = loop
        with apart():
            self._broker.begin()
        if loop.time() >= self._checks_at and self.sender.store is not None:
            if self._checking is None:
                self._checking = shared(self._check())
            await asyncio.shield(self._checking)

    async def _check(self) -> None:
        """Ask the store what the application can read. Nothing else may ever need the store, so this does not
        keep its connection."""
        store, pause = self._make_store(), CHECKING
        assert store is not None
        try:
            async with asyncio.timeout(PATIENCE * self._timeout):
                await check(store, self._namespace, self._encryption.keys, self._listens)
        except (StoreUnavailable, TimeoutError) as exc:
            logger.debug("the store does not say whether the application encrypts: %s", exc)
            pause = AGAIN
        finally:
            self._checking = None
            await store.close()
        self._checks_at = asyncio.get_running_loop().time() + pause


def _ignore(publication: Publication) -> None:
    """Nothing is subscribed, so nothing comes."""
