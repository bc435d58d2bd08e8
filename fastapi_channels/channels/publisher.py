"""Sending into rooms from anywhere: from a worker, a script, another service, or any route."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, TypeVar

from pydantic import ValidationError
from starlette.requests import HTTPConnection

from fastapi_channels.brokers import create_backend
from fastapi_channels.cluster.bans import MAX_SECONDS, Ban, new_ban
from fastapi_channels.cluster.node import Node
from fastapi_channels.cluster.observer import Observers, Tracer
from fastapi_channels.cluster.orders import DisconnectConnection, DisconnectUser, Join, Leave, Order, Revoke
from fastapi_channels.cluster.outside import Outside
from fastapi_channels.cluster.recovery import Keeping
from fastapi_channels.cluster.revocations import REMEMBERED, now
from fastapi_channels.cluster.scopes import Scopes
from fastapi_channels.cluster.tasks import all_of
from fastapi_channels.cluster.users import UserKey, UserKeys
from fastapi_channels.connection import Exclude, ForEach, ids_of
from fastapi_channels.encryption import encryption_by
from fastapi_channels.exceptions import CloseCode, ConfigurationError
from fastapi_channels.sessions.plan import keeping_of
from fastapi_channels.stores import Occupancy, store_beside
from fastapi_channels.wire.messages import Body
from fastapi_channels.wire.positions import Position, Published
from fastapi_channels.wire.rooms import rooms_of
from fastapi_channels.wire.vocabulary import Vocabulary
from fastapi_channels.wire.words import Event

from .base import BaseChannel, words_of
from .people import Person, people_of

Voice: TypeAlias = BaseChannel | type[BaseChannel]
"""In whose words something is said: a channel, or its class."""
T = TypeVar("T")
O = TypeVar("O", bound=Order)  # noqa: E741  # of orders


class Outlet(Protocol):
    """Where a publisher sends: a process of the application, or what only sends to them."""

    key_of: UserKeys

    def publish(
        self,
        room: str,
        body: Body,
        exclude: frozenset[str] = frozenset(),
        *,
        keeping: Keeping | None = None,
        key: str | None = None,
        for_each: str = "",
    ) -> Awaitable[Position | None]: ...

    def send_to_connection(self, connection_id: str, body: Body) -> Awaitable[None]: ...

    def send_to_user(self, user: Any, body: Body) -> Awaitable[None]: ...

    def order(self, order: Order) -> Awaitable[None]: ...

    def revoke(self, order: Revoke, seconds: float) -> Awaitable[None]: ...

    def ban(self, ban: Ban) -> Awaitable[None]: ...

    def unban(self, ban: Ban) -> Awaitable[None]: ...

    def banned(self) -> Awaitable[list[Ban]]: ...


class Crowd(Protocol):
    """Who is in the rooms of an application."""

    def occupancy(self, room: str) -> Awaitable[Occupancy]: ...

    def count_people(self, room: str) -> Awaitable[int]: ...


class Publisher:
    """Sends to the clients of an application from outside of it, over the broker that its processes share.

    It connects with its first call. `async with` closes it; so does `close()`. It listens to nothing, so a
    call returns when the broker has taken what was sent. Inside the application, `current_publisher` gives
    one that needs no connection.

    The methods with a `channel` speak as that channel, or as that class of channels: in its rooms, with its
    envelope, and its events checked. Without one, the rooms are those of the whole application.

    Args:
        url: the broker, as `add_channel()` has it.
        store_url: the store of the application, for rooms with history, for `key=` and for who is in a room;
            that of `url` unless given.
        encryption_keys: those of the application.
        namespace: that of the application.
        user_key: what names a user, as the application has it.
        publish_timeout: seconds until `BrokerUnavailable`, or `StoreUnavailable`: of the whole call.
        tracing: a `Tracing()`: what is sent is traced, on into the processes of the application.

    Raises:
        ConfigurationError: the URL is none of a broker that others can reach, or a package is missing. Later,
            of each method: the application has other `encryption_keys`, as its store says, or it does not say
            that the application has some, and there are some here.
    """

    def __init__(
        self,
        url: str,
        *,
        store_url: str | None = None,
        encryption_keys: str | Sequence[str] | None = None,
        namespace: str = "",
        user_key: UserKey = None,
        publish_timeout: float = 2.0,
        tracing: Tracer | None = None,
    ) -> None:
        self._outside: Outside | None = Outside(
            create_backend(url),
            namespace=namespace,
            user_key=user_key,
            publish_timeout=publish_timeout,
            encryption=encryption_by(encryption_keys),
            make_store=lambda: store_beside(url, store_url, namespace=namespace, timeout=publish_timeout),
            observers=Observers() if tracing is None else Observers(tracing.observer),
        )
        self._outlet: Outlet = self._outside
        self._crowd: Crowd = self._outside
        self._scopes: Scopes | None = None
        self._words: dict[Voice, Vocabulary] = {}

    @classmethod
    def _of(cls, node: Node) -> Self:
        """One that sends through `node`."""
        publisher = cls.__new__(cls)
        publisher._outside, publisher._outlet, publisher._words = None, node, {}
        publisher._crowd, publisher._scopes = node.rooms, node.scopes
        return publisher

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Disconnect. What is sent later connects again."""
        if self._outside is not None:
            await self._outside.close()

    async def broadcast(
        self,
        room: str | Iterable[str],
        event: Event | str,
        data: Any = None,
        *,
        exclude: Exclude = None,
        key: str | None = None,
        for_each: ForEach | None = None,
        channel: Voice | None = None,
    ) -> Published:
        """Send an event frame to everybody in a room, or in each of several. A room named twice is one.

        Args:
            event: a typed Event, or the name of an event with its `data`.
            exclude: connections, or their ids, that do not get it.
            key: a text that names it: what was broadcast with it within five minutes is not sent again to
                the same room.
            for_each: one of the channel's `for_each`, as `Channel.broadcast` has it.
            channel: whose rooms and events these are.

        Returns:
            Its positions, in rooms with history.

        Raises:
            ParseError: a room's name is not usable.
            ConfigurationError: `room` is no name; or the channel has no such room, event or `for_each`.
            pydantic.ValidationError: the data does not fit the event.
            pydantic_core.PydanticSerializationError: the data cannot be encoded; a ValueError.
            BrokerUnavailable, StoreUnavailable: it was not taken before the deadline, for one of the rooms.
        """
        words, skip = self._words_of(channel), ids_of(exclude)
        voice: Any = channel
        keeping, function = None if voice is None else keeping_of(voice), words.function(for_each)
        rooms = rooms_of(room)
        said = [(self._target(each, channel), words.event(event, data, each)) for each in rooms]

        def send(to: tuple[str, Body]) -> Awaitable[Position | None]:
            return self._outlet.publish(*to, skip, keeping=keeping, key=key, for_each=function)

        positions = await all_of(send, said)
        found = zip(rooms, positions, strict=True)
        return Published(True, {each: str(position) for each, position in found if position is not None})

    async def send_to_user(
        self, user: Any, event: Event | str, data: Any = None, *, channel: Voice | None = None
    ) -> None:
        """Send an event frame to all connections of a user: an object, or its key.

        Raises:
            ConfigurationError: `user` is nobody, or has no key; or the channel has no such event.
            BrokerUnavailable: the broker did not take it before its deadline.
        """
        await self._outlet.send_to_user(user, self._words_of(channel).event(event, data))

    async def send_to_connection(
        self, connection_id: str, event: Event | str, data: Any = None, *, channel: Voice | None = None
    ) -> None:
        """Send an event frame to one connection, by its id; nothing happens if there is none.

        Raises:
            ConfigurationError: the channel has no such event.
            BrokerUnavailable: the broker did not take it before its deadline.
        """
        await self._outlet.send_to_connection(connection_id, self._words_of(channel).event(event, data))

    async def people(self, room: str, *, channel: Voice | None = None) -> list[Person]:
        """Who is in a room with presence, over all processes: as `Channel.people()`.

        Raises:
            ParseError: the room's name is not usable.
            ConfigurationError: the channel has no such room; there is no store; or what is said of somebody
                was encrypted with none of the `encryption_keys` here.
            StoreUnavailable: the store did not answer in time.
        """
        found = await self._crowd.occupancy(self._words_of(channel).key(room))
        return people_of(found.occupants)

    async def count_people(self, room: str, *, channel: Voice | None = None) -> int:
        """How many `people()` there are, without reading who. Raises as that."""
        return await self._crowd.count_people(self._words_of(channel).key(room))

    # Orders. What they ask for is done after they returned, by the processes.

    async def disconnect_user(self, user: Any, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Close every WebSocket that a user has now. It may come back, if the codes and permissions let it.

        Args:
            code: what the client is told: 4000 to 4499 says come back, 4500 to 4999 stay away.
            reason: in at most 123 bytes; what is longer is cut.

        Raises:
            ConfigurationError: `user` is nobody, or has no key; or the code is none that may be sent.
            BrokerUnavailable: the broker did not take it before its deadline.
        """
        await self._order(
            DisconnectUser, user=self._outlet.key_of.named(user), code=_close_code(code), reason=reason
        )

    async def revoke_user(self, user: Any, *, seconds: float = REMEMBERED) -> None:
        """Close every WebSocket of a user with 4501, and refuse the tokens that it has got so far: where an
        authenticator is `revocable`.

        Args:
            seconds: how long that is remembered: as long as a token may live, or longer.

        Raises:
            ConfigurationError: `user` is nobody, or has no key; `seconds` are none, or more than ten years;
                or there is no store.
            StoreUnavailable, BrokerUnavailable: call again.
        """
        await self._revoke(seconds, user=self._outlet.key_of.named(user))

    async def revoke_session(self, session: str, *, seconds: float = REMEMBERED) -> None:
        """The same for one log-in of a user: what `Identity.session` names, such as the `sid` of a JWT."""
        await self._revoke(seconds, session=session)

    async def _revoke(self, seconds: float, **whom: str) -> None:
        if not 0 < seconds <= MAX_SECONDS:
            raise ConfigurationError(
                f"a revocation is remembered for up to {MAX_SECONDS:.0f} seconds, got {seconds!r}"
            )
        await self._outlet.revoke(_order_of(Revoke, at=now(), **whom), seconds)

    async def ban(
        self,
        *,
        user: Any = None,
        address: str | None = None,
        seconds: float = REMEMBERED,
        reason: str = "",
        by: str = "",
    ) -> None:
        """Refuse a user, or an address, for a time: close what is open with 4503, and answer each handshake
        with 403 and `banned`, where the application says `add_channel(bans=True)`.

        Args:
            address: that of a client. One of IPv6 stands for its network of 64 bits.
            seconds: how long; a ban takes the place of the one before.
            reason, by: for `bans()`. No client is told.

        Raises:
            ConfigurationError: it is of nobody, or of two; `user` has no key; or there is no store.
            StoreUnavailable, BrokerUnavailable: call again.
        """
        await self._outlet.ban(new_ban(self._named(user), address, seconds, reason, by))

    async def unban(self, *, user: Any = None, address: str | None = None) -> None:
        """End a ban before its time. Nothing happens if there is none.

        Raises:
            ConfigurationError: as of `ban`.
            StoreUnavailable: call again.
        """
        await self._outlet.unban(new_ban(self._named(user), address))

    async def bans(self) -> list[Ban]:
        """Those that hold, the newest first; of the last thousand that were begun, or ended.

        Raises:
            ConfigurationError: there is no store.
            StoreUnavailable: the store did not answer in time.
        """
        return await self._outlet.banned()

    def _named(self, user: Any) -> str | None:
        return None if user is None else self._outlet.key_of.named(user)

    async def disconnect_connection(
        self, connection_id: str, code: int = CloseCode.NORMAL, reason: str = ""
    ) -> None:
        """Close one connection, by its id; on a `Socket`, its room. Nothing happens if there is none.

        Raises:
            ConfigurationError: the code is none that may be sent.
            BrokerUnavailable: the broker did not take it before its deadline.
        """
        await self._order(
            DisconnectConnection, connection=connection_id, code=_close_code(code), reason=reason
        )

    async def join_room(self, user: Any, room: str, *, channel: Voice | None = None) -> None:
        """Let the connections that a user has now join a room, those whose channel has that room.

        What `connection.join()` would refuse is refused, and logged. On a `Socket` it is as if the client had
        asked: permissions are asked too, and it is told.

        Raises:
            ParseError: the room's name is not usable.
            ConfigurationError: `user` is nobody, or has no key; or the channel has no such room.
            BrokerUnavailable: the broker did not take it before its deadline.
        """
        key = self._key(room, channel)
        await self._order(Join, user=self._outlet.key_of.named(user), room=key)

    async def leave_room(self, user: Any, room: str, *, channel: Voice | None = None) -> None:
        """Let the connections that a user has now leave a room.

        Raises:
            ParseError: the room's name is not usable.
            ConfigurationError: `user` is nobody, or has no key; or the channel has no such room.
            BrokerUnavailable: the broker did not take it before its deadline.
        """
        key = self._key(room, channel)
        await self._order(Leave, user=self._outlet.key_of.named(user), room=key)

    async def _order(self, kind: type[Order], **fields: Any) -> None:
        await self._outlet.order(_order_of(kind, **fields))

    def _key(self, room: str, channel: Voice | None) -> str:
        """A room as the processes know it; with a warning, inside of one, where that is hardly meant."""
        if channel is None and self._scopes is not None:
            self._scopes.warn_of(room, kept=False)
        return self._words_of(channel).key(room)

    def _target(self, room: str, channel: Voice | None) -> str:
        """The same for a room, or a topic, where something is to be said."""
        if channel is None and self._scopes is not None:
            self._scopes.warn_of(room, kept=True)
        return self._words_of(channel).target(room)

    def _words_of(self, channel: Voice | None) -> Vocabulary:
        voice = BaseChannel if channel is None else channel
        if not isinstance(voice, BaseChannel) and not (
            isinstance(voice, type) and issubclass(voice, BaseChannel)
        ):
            raise ConfigurationError(f"channel= takes a channel, or its class, got {channel!r}")
        words = self._words.get(voice)
        if words is None:
            words = self._words[voice] = words_of(voice)
        return words


async def current_publisher(connection: HTTPConnection) -> Publisher:
    """Dependency: publishes through the application's own process, in any of its routes.

    `Annotated[Publisher, Depends(current_publisher)]`
    """
    return Publisher._of(Node.of(connection.scope))


def _close_code(code: object) -> int:
    """
    Raises:
        ConfigurationError: it is no number.
    """
    if not isinstance(code, int):
        raise ConfigurationError(f"a close code is a number, got {code!r}: a text is given as reason=")
    return int(code)


def _order_of(kind: type[O], **fields: Any) -> O:
    try:
        return kind(**fields)
    except ValidationError as exc:
        fault = exc.errors()[0]
        raise ConfigurationError(f"{fault['loc'][0]} {fault['input']!r}: {fault['msg']}") from None
