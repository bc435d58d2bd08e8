"""What every channel is: its settings, how WebSockets reach it, and how it sends."""

from __future__ import annotations

import inspect
import logging
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.params import Depends

from fastapi_channels.actions.spec import is_action
from fastapi_channels.cluster.node import Node, current_node
from fastapi_channels.cluster.users import Member
from fastapi_channels.connection import Connection, Exclude, ids_of
from fastapi_channels.exceptions import BrokerUnavailable, CloseCode, ConfigurationError, WebSocketException
from fastapi_channels.permission import Permission, as_permission
from fastapi_channels.sessions.handlers import EventType, Handlers, JoinLeave
from fastapi_channels.sessions.http import headers_of
from fastapi_channels.sessions.plan import Plan
from fastapi_channels.sessions.room_session import RoomSession
from fastapi_channels.sessions.session import CONNECTION_KEY
from fastapi_channels.throttling import normalize
from fastapi_channels.wire.messages import Body, Envelope, Event, events_by_name
from fastapi_channels.wire.outbox import DEFAULT_LIMIT, SlowPolicy
from fastapi_channels.wire.rooms import RoomPattern, check_room
from fastapi_channels.wire.vocabulary import Vocabulary

from . import upstream
from .hooks import HOOKS, check_authorize, hook
from .misspelt import refuse_misspelt
from .mounting import add_route, names_room

logger = logging.getLogger("fastapi_channels")

Handler = TypeVar("Handler", bound=Callable[..., Any])


class BaseChannel:
    """A room that relays: what a client sends goes to everybody in it, as it came.

    The attributes are settings: set them on a subclass, or give those in `__init__` to an instance.

    Attributes:
        channel: the room of `connect()` without one.
        max_connection: how many connections a room takes, over all processes; None for any number.
        permission_classes: who may connect, and is asked again for each action.
        throttle_classes: rates over all messages of a client in a room.
        dependencies: resolved for each action beside its own, as `dependencies=` of a FastAPI router.
        room_pattern: the pattern of the rooms' names, such as `"room:{room_id:int}"`; None for any name.
        max_rooms: how many rooms a connection may be in.
        scope: channels with the same scope share the rooms of one name, with all who are in them and all
            that is sent there. Empty for the rooms of the whole application, as upstream has them. None
            is empty too, but the name of the class where it has a `room_pattern` or overrides `authorize`:
            who may enter such a room must not be decided by another channel.
        event_types: the types of all events that may be sent; None for any event.
        envelope: the names of the frames' fields, and their codec.
        max_message_size: bytes of a client's message; a larger one closes with 1009.
        outbox_limit: bytes that may wait for a client that does not read.
        slow_policy: what happens beyond that: `disconnect`, `drop_oldest` or `drop_newest`.
        send_timeout: seconds that the server may need for one frame before the client is cut off.
        finish_timeout: seconds that running actions get when their client has gone.
        leave_timeout: seconds for all leave handlers of one connection.
        resync: whether clients are sent `{"type": "resync", "channel": …}` where messages of a room may be
            missing: the broker was away, or dropped some. A channel that relays sends none.
        ack: whether an action that returns None is replied to when the client sent a request id.
    """

    channel: str = "default_channel"
    max_connection: int | None = None
    permission_classes: Permission = None
    throttle_classes: Any = None
    dependencies: Sequence[Depends] = ()
    event_types: Sequence[type[Event]] | None = None
    room_pattern: str | None = None
    max_rooms: int = 100
    scope: str | None = None
    envelope: Envelope = Envelope()
    max_message_size: int = 64 * 1024
    outbox_limit: int = DEFAULT_LIMIT
    slow_policy: SlowPolicy = "disconnect"
    send_timeout: float = 20.0
    finish_timeout: float = 1.0
    leave_timeout: float = 10.0
    resync: bool = True
    ack: bool = False
    on_join: Handlers = None
    on_leave: Handlers = None
    lifespan: Callable[..., AbstractAsyncContextManager[Any]] | None = None

    def __init__(
        self,
        *,
        channel: str | None = None,
        max_connection: int | None = None,
        permission_classes: Permission = None,
        throttle_classes: Any = None,
        on_join: Handlers = None,
        on_leave: Handlers = None,
        lifespan: Callable[..., AbstractAsyncContextManager[Any]] | None = None,
        **unused: Any,
    ) -> None:
        if lifespan is not None and (on_join is not None or on_leave is not None):
            raise ConfigurationError("use either 'lifespan' or 'on_join' and 'on_leave', not both")
        upstream.drop(f"{type(self).__name__}()", unused, upstream.CHANNEL)
        if channel is not None:
            self.channel = channel
        if max_connection is not None:
            self.max_connection = max_connection
        if permission_classes is not None:
            self.permission_classes = permission_classes
        if throttle_classes is not None:
            self.throttle_classes = throttle_classes
        self._check_settings()
        check_authorize(type(self), BaseChannel)
        lifespan = lifespan or hook(self, BaseChannel, "lifespan")
        self._plan = Plan(
            self,
            words_of(self),
            permission=as_permission(self.permission_classes),
            throttles=normalize(self.throttle_classes),
            join_leave=JoinLeave(on_join or self.on_join, on_leave or self.on_leave, lifespan),
            authorize=hook(self, BaseChannel, "authorize"),
            decode=hook(self, BaseChannel, "decode_json"),
            seat_of=self._seat_of,
        )
        self._encode_json = hook(self, BaseChannel, "encode_json")
        self._node: weakref.ref[Node] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        upstream.warn_of_overrides(cls, is_action)
        refuse_misspelt(cls, (*BaseChannel.__annotations__, *HOOKS), is_action)
        if cls.event_types is not None:
            events_by_name(cls.event_types)
        if cls.room_pattern is not None:
            check_authorize(cls, BaseChannel)

    # Wiring

    async def connect(
        self,
        websocket: WebSocket,
        channel: str | None = None,
        *,
        user: Any = None,
        subprotocol: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Serve `websocket` in the room `channel`, in any FastAPI endpoint; returns when it has left.

        Refuses before the handshake is accepted: a foreign origin, a permission, a full room. Accepts
        once nothing that is broadcast to the room can be missed.

        Args:
            user: who the client is; `connection.user`.
            subprotocol: the one to accept.
            headers: of the handshake's response.

        Raises:
            ConfigurationError: no add_channel() covers the endpoint.
        """
        node = Node.of(websocket.scope)
        self._use(node)
        await node.ensure_started(websocket.scope)
        session = RoomSession(self._plan, websocket, channel or self.channel, node, user)
        await session.run(subprotocol, headers_of(headers))

    def mount(
        self,
        app: FastAPI | APIRouter,
        path: str,
        *,
        name: str | None = None,
        user: Callable[..., Any] | None = None,
        **options: Any,
    ) -> None:
        """Add a WebSocket route for this channel; a path parameter `{channel}` names the room.

        Raises:
            ConfigurationError: the path has parameters, and none of them is `channel`; or another guarded
                class of this name is in the application.

        Args:
            name: of the route; that of the class unless given.
            user: a dependency, whose value is `connection.user`.
            options: whatever `app.websocket()` takes, such as `dependencies`.
        """
        node = Node.attached(app)
        if node is not None and self._plan.own_scope:
            node.scopes.claim(self._plan.own_scope, type(self))
        add_route(
            app,
            path,
            self,
            partial(BaseChannel.connect, self),
            name=name or type(self).__name__,
            in_room=names_room(path),
            user=user,
            options=options,
        )

    def bind(self, app: FastAPI | APIRouter) -> None:
        """Broadcast through the node of `app` also outside of its requests and lifespan."""
        node = Node.attached(app)
        if node is None:
            raise ConfigurationError("bind() needs an application or router that add_channel() was called on")
        self._use(node)

    @classmethod
    def room(cls, **params: Any) -> str:
        """The name of the room with these parameters: `Auction.room(number=7)` is `"auction:7"`.

        Raises:
            ConfigurationError: the channel has no `room_pattern`, or a value does not fit it.
        """
        if cls.room_pattern is None:
            raise ConfigurationError(f"{cls.__name__} has no room_pattern to make a room's name from")
        return RoomPattern(cls.room_pattern).name(params)

    def on_event(self, event_type: EventType) -> Callable[[Handler], Handler]:
        """Decorator: run the function when a client has joined, or has left."""

        def decorate(func: Handler) -> Handler:
            self._plan.join_leave.add(event_type, func)
            return func

        return decorate

    def add_event_handler(self, event_type: EventType, func: Callable[..., Any]) -> None:
        """Run `func` when a client has joined, or has left. A leave handler runs for every join that
        began, once."""
        self._plan.join_leave.add(event_type, func)

    def exception_handler(self, exc_type: type[Exception]) -> Callable[[Handler], Handler]:
        """Decorator: let the function, called with the websocket and the exception, answer for
        `exc_type` and its subclasses. What it returns is sent; None says that it has answered."""

        def decorate(func: Handler) -> Handler:
            self._plan.exception_handlers[exc_type] = func
            return func

        return decorate

    # Sending

    async def broadcast(
        self,
        room: str | Iterable[str],
        event: Event | str,
        data: Any = None,
        *,
        exclude: Exclude = None,
        required: bool = True,
    ) -> bool:
        """Send an event frame to everybody in a room, or in each of several, in every process.

        Args:
            event: a typed Event, or the name of an event with its `data`.
            exclude: connections, or their ids, that do not get it.
            required: False where what it tells of is done, and stands without it: that the broker does not
                take it is then logged, and not raised.

        Returns:
            Whether the broker took it, for every room.

        Raises:
            ParseError: a room's name is not usable.
            ConfigurationError: it does not fit the channel's `room_pattern`.
            BrokerUnavailable: the broker did not take it before its deadline.
        """
        node, skip = self._current_node(), ids_of(exclude)
        try:
            for each in (room,) if isinstance(room, str) else tuple(room):
                await node.publish(self._plan.key(each), self._plan.event(event, data, each), skip)
        except BrokerUnavailable as exc:
            if required:
                raise
            logger.warning("a broadcast that was not required is lost: %s", exc)
            return False
        return True

    async def broadcast_to_channel(self, channel: str, message: Any, *, exclude: Exclude = None) -> None:
        """Send `message` to everybody in the room `channel`: text and bytes as they are, any other value
        as `encode_json` gives it."""
        await self._current_node().publish(
            self._plan.key(channel), await self._encode(message), ids_of(exclude)
        )

    async def broadcast_to_personal(self, websocket: WebSocket, message: Any) -> None:
        """Send `message` to one client alone; nothing happens if it has gone."""
        if CONNECTION_KEY not in websocket.scope:
            raise ConfigurationError("this websocket is not connected to a channel: call connect() first")
        connection = websocket.scope[CONNECTION_KEY]
        if connection is not None:
            await connection.send(message if self._encode_json is None else await self._encode(message))

    async def send_to_connection(self, connection_id: str, event: Event | str, data: Any = None) -> None:
        """Send an event frame to one connection, by its id, in whichever process it is."""
        await self._current_node().send_to_connection(connection_id, self._plan.event(event, data))

    async def send_to_user(self, user: Any, event: Event | str, data: Any = None) -> None:
        """Send an event frame to all connections of a user (an object, or its key), in every process."""
        await self._current_node().send_to_user(user, self._plan.event(event, data))

    async def get_connection_count(self, channel: str) -> int:
        """How many connections are in the room, over all processes."""
        return await self._current_node().rooms.count(self._plan.key(channel))

    async def members(self, channel: str) -> list[Member]:
        """Who is in the room, over all processes: `id` and `user` (its key or None) of each connection."""
        return await self._current_node().rooms.members(self._plan.key(channel))

    async def close(
        self, websocket: WebSocket, code: int = CloseCode.NORMAL, reason: str | None = None
    ) -> None:
        """Close one client's connection, behind the frames that are queued for it; nothing happens if it
        is closed already."""
        served = websocket.scope.get(CONNECTION_KEY, websocket)
        if served is not None:
            await served.close(code, reason or "")

    async def disconnect(self, websocket: WebSocket) -> None:
        """Close one client's connection normally."""
        await BaseChannel.close(self, websocket)

    @staticmethod
    async def send_error(error_msg: Any, close: bool = False) -> None:
        """Answer the message being handled with an error.

        Raises:
            WebSocketException: always; it is how the answer travels.
        """
        raise WebSocketException(error_msg=error_msg, close=close)

    async def authorize(self, connection: Connection, *args: Any, **params: Any) -> bool:
        """Whether a client may enter a room: override it, plain or async, with the parameters of its name.

        Asked after the permissions; only True allows.
        """
        # `*args` is never passed: with both, type checkers let an override name the parameters it takes.
        return True

    # Codec: override these, plain or async, static or not

    async def encode_json(self, data: Any) -> Body:
        """The body that `broadcast_to_channel` and `broadcast_to_personal` send for `data`."""
        return self.envelope.encode(data)

    async def decode_json(self, message: Body) -> Any:
        """The object in a client's frame; raises ValueError for what it cannot read."""
        return self.envelope.decode(message)

    # For the session. Nothing here calls a public method: an action may have its name.

    async def _encode(self, data: Any) -> Body:
        if isinstance(data, str | bytes):
            return data
        if self._encode_json is None:
            return self.envelope.encode(data)
        body = self._encode_json(data)
        found: Body = await body if inspect.isawaitable(body) else body
        return found

    def _seat_of(self, connection: Connection) -> str:
        """Whose place a connection takes in a room with a `max_connection`."""
        return connection.id

    def _use(self, node: Node) -> None:
        """Broadcast through `node` where no request says otherwise."""
        if self._node is None or self._node() is not node:
            if self._plan.own_scope:
                node.scopes.claim(self._plan.own_scope, type(self))
            self._node = weakref.ref(node)

    def _current_node(self) -> Node:
        bound = self._node() if self._node is not None else None
        return current_node.get() or bound or Node.of()

    def _check_settings(self) -> None:
        check_room(self.channel)
        for name in ("max_connection", "max_message_size", "outbox_limit"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ConfigurationError(f"{type(self).__name__}.{name} must be 1 or more, got {value!r}")


def words_of(channel: BaseChannel | type[BaseChannel]) -> Vocabulary:
    """The words of a channel; or of a class, as long as it has no settings that are an instance's own."""
    cls = channel if isinstance(channel, type) else type(channel)
    speaker: Any = channel
    return Vocabulary(
        speaker,
        cls.__name__,
        event_types=channel.event_types,
        pattern=channel.room_pattern,
        scope=channel.scope,
        guarded=hook(channel, BaseChannel, "authorize") is not None,
    )
