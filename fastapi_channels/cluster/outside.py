"""What is no process of an application, and speaks to those that are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from broadcaster import BroadcastBackend

from fastapi_channels.brokers import Broker
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.stores import Occupant, Store
from fastapi_channels.wire.messages import Body, Publication
from fastapi_channels.wire.packing import PLAIN, Packing
from fastapi_channels.wire.positions import Position
from fastapi_channels.wire.rooms import check_namespace

from .orders import Revoke
from .recovery import Keeping
from .revocations import remember
from .sender import Nobody, Sender
from .threads import in_its_loop
from .users import UserKey, UserKeys


class Outside:
    """Connects with its first call, in the event loop in which that is; in the next one anew.

    Args:
        backend: reaches the broker of the application.
        deliver: takes what is published to the topics that are subscribed.
        namespace: that of the application.
        user_key: what names a user, as the application has it.
        publish_timeout: seconds that a call may take.
        packing: makes the texts that the broker carries.
        make_store: makes a store, which the application shares, for one event loop.

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
        packing: Packing = PLAIN,
        make_store: Callable[[], Store | None] = lambda: None,
    ) -> None:
        self._namespace = check_namespace(namespace)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.key_of = UserKeys(user_key)
        self._broker = Broker(backend, deliver or _ignore, packing=packing, publish_timeout=publish_timeout)
        self.sender = Sender(
            self._publish, self._broker.echoing, namespace, self.key_of, make_store(), packing, Nobody()
        )
        self.send_to_connection = self.sender.send_to_connection
        self.send_to_user = self.sender.send_to_user
        self.order = self.sender.order
        self._make_store = make_store
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
        self._begin()
        return await self.sender.publish(room, body, exclude, keeping=keeping, key=key, for_each=for_each)

    @in_its_loop
    async def revoke(self, order: Revoke, seconds: float) -> None:
        """Remember it for `seconds`, and have every process close what is open.

        Raises:
            ConfigurationError: there is no store.
            BrokerUnavailable, StoreUnavailable: one of the two is not done, or neither.
        """
        self._begin()
        await remember(self.sender.store, self._namespace, order, seconds)
        await self.sender.order(order)

    @in_its_loop
    async def occupants(self, room: str) -> list[Occupant]:
        """As `Rooms.occupants`."""
        self._begin()
        return (await self.sender.wanted("people()").occupancy(self._namespace + room)).occupants

    @in_its_loop
    async def count_people(self, room: str) -> int:
        """As `Rooms.count_people`."""
        self._begin()
        return await self.sender.wanted("count_people()").count_people(self._namespace + room)

    @in_its_loop
    async def subscribe(self, topic: str) -> None:
        """Hear what is published to `topic` from now on.

        Raises:
            BrokerUnavailable: it was not confirmed before the deadline.
        """
        self._begin()
        await self._broker.subscribe(self._namespace + topic)

    @in_its_loop
    async def _publish(self, publication: Publication) -> None:
        self._begin()
        await self._broker.publish(publication)

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        if self.loop is not loop:
            self._broker.reset()
            self.sender.store = self._make_store()
            self.loop = loop
        self._broker.begin()


def _ignore(publication: Publication) -> None:
    """Nothing is subscribed, so nothing comes."""
