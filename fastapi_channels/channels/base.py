"""What every channel is: its settings, how WebSockets reach it, and how it sends."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, FastAPI, WebSocket

from fastapi_channels.actions.spec import is_action
from fastapi_channels.cluster.node import Node
from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import CloseCode, ConfigurationError, WebSocketException
from fastapi_channels.permission import Permission, as_permission
from fastapi_channels.sessions.call_session import CallSession
from fastapi_channels.sessions.handlers import EventType, Handlers, JoinLeave
from fastapi_channels.sessions.http import headers_of
from fastapi_channels.sessions.plan import Plan
from fastapi_channels.sessions.room_session import RoomSession
from fastapi_channels.sessions.session import CONNECTION_KEY
from fastapi_channels.sessions.stream_session import StreamSession
from fastapi_channels.throttling import normalize
from fastapi_channels.topics.words import TopicWords
from fastapi_channels.wire.rooms import RoomPattern
from fastapi_channels.wire.stream import Exchange, Stream
from fastapi_channels.wire.vocabulary import Vocabulary
from fastapi_channels.wire.words import calls_by_name, events_by_name, functions_by_name

from . import upstream
from .hooks import HOOKS, check_authorize, check_reception, hook
from .http import Mounted
from .misspelt import refuse_misspelt
from .mounting import add_route, names_room
from .sending import Sending
from .settings import Settings

logger = logging.getLogger("fastapi_channels")

Handler = TypeVar("Handler", bound=Callable[..., Any])


class BaseChannel(Sending):
    """A room that relays: what a client sends goes to everybody in it, as it came.

    Its settings are attributes: set them on a subclass, or give those in `__init__` to an instance.
    """

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
        given = {
            "channel": channel,
            "max_connection": max_connection,
            "permission_classes": permission_classes,
            "throttle_classes": throttle_classes,
        }
        vars(self).update((name, value) for name, value in given.items() if value is not None)
        self._check_settings()
        check_authorize(type(self), BaseChannel)
        check_reception(type(self), BaseChannel)
        lifespan = lifespan or hook(self, BaseChannel, "lifespan")
        self._plan = Plan(
            self,
            words_of(self),
            permission=as_permission(self.permission_classes),
            throttles=normalize(self.throttle_classes),
            join_leave=JoinLeave(on_join or self.on_join, on_leave or self.on_leave, lifespan),
            authorize=hook(self, BaseChannel, "authorize"),
            may_receive=hook(self, BaseChannel, "may_receive"),
            decode=hook(self, BaseChannel, "decode_json"),
            seat_of=self._seat_of,
            present=hook(self, BaseChannel, "presence_data") or _nothing,
        )
        self._encode_json = hook(self, BaseChannel, "encode_json")
        self._load_history = hook(self, BaseChannel, "load_history")
        self._node: weakref.ref[Node] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        upstream.warn_of_overrides(cls, is_action)
        known = (*Settings.__annotations__, *BaseChannel.__annotations__, *HOOKS)
        refuse_misspelt(cls, BaseChannel, known, is_action)
        if cls.event_types is not None:
            events_by_name(cls.event_types)
        if cls.call_types is not None:
            calls_by_name(cls.call_types)
        functions_by_name(cls.for_each)
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
        node = await self._node_of(websocket)
        session = RoomSession(self._plan, websocket, channel or self.channel, node, user)
        await session.run(subprotocol, headers_of(headers))

    def mount(
        self,
        app: FastAPI | APIRouter,
        path: str,
        *,
        name: str | None = None,
        user: Callable[..., Any] | None = None,
        sse: bool = False,
        http: bool = False,
        **options: Any,
    ) -> None:
        """Add a WebSocket route for this channel; a path parameter `{channel}` names the room.

        Raises:
            ConfigurationError: the path has parameters, and none of them is `channel`; a dependency takes a
                `Request`; or another guarded class of this name is in the application. Over HTTP: the
                envelope is binary, there are no actions, or a dependency takes a WebSocket.

        Args:
            name: of the route; that of the class unless given.
            user: a dependency, whose value is `connection.user`.
            sse: whether `GET {path}/events` is the room as Server-Sent Events.
            http: whether `POST {path}/actions/{name}` calls an action.
            options: whatever `app.websocket()` takes, such as `dependencies`.
        """
        node = Node.attached(app)
        if node is not None:
            self._claim(node)
        name, in_room = name or type(self).__name__, names_room(path, self.room_pattern)
        connect = partial(BaseChannel.connect, self)
        add_route(app, path, self, connect, name=name, in_room=in_room, user=user, options=options)
        if not (sse or http):
            return
        if self.envelope.binary:
            raise ConfigurationError(f"{type(self).__name__}.envelope is binary: over HTTP frames are texts")
        if http and self._plan.actions is None:
            raise ConfigurationError(f"{type(self).__name__} has no actions to call: leave out http=")
        dependencies = options.get("dependencies") or ()
        mounted = Mounted(app, path, name=name, in_room=in_room, user=user, dependencies=dependencies)
        if sse:
            mounted.add_stream(
                partial(BaseChannel._stream, self), self.envelope, keeps=self._plan.history is not None
            )
        if http:
            actions = list((self._plan.actions or {}).values())
            mounted.add_actions(partial(BaseChannel._exchange, self), actions, self.envelope)

    def bind(self, app: FastAPI | APIRouter) -> None:
        """Broadcast through the node of `app` also outside of its requests and lifespan."""
        node = Node.attached(app)
        if node is None:
            raise ConfigurationError("bind() needs an application or router that add_channel() was called on")
        self._use(node)

    @classmethod
    def room(cls, **params: Any) -> str:
        """The name of the room, or of the topic, with these parameters: `Auction.room(number=7)` is
        `"auction:7"`.

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

    # Ending

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

    def may_receive(self, connection: Connection, *args: Any, **params: Any) -> bool:
        """Whether a client receives what is broadcast to a topic: override it, plain, with the parameters of
        the topic's name.

        Asked for each client that has subscribed with a filter that fits, in every process; only True allows.
        """
        return True

    def presence_data(self, connection: Connection) -> Any:
        """What the others in a room are told of a client that joins: override it, plain or async. JSON of at
        most 4096 bytes; its type stands in the AsyncAPI document."""
        return None

    # For the session. Nothing here calls a public method: an action may have its name.

    def _seat_of(self, connection: Connection) -> str:
        """Whose place a connection takes in a room with a `max_connection`."""
        return connection.id

    async def _stream(self, stream: Stream, channel: str | None = None, user: Any = None) -> None:
        """Serve a stream of events in the room `channel`; returns when its client has left."""
        node = await self._node_of(stream.websocket)
        await StreamSession(self._plan, stream, channel or self.channel, node, user).run()

    async def _exchange(
        self, exchange: Exchange, action: str, channel: str | None = None, user: Any = None
    ) -> None:
        """Serve a call of an action in the room `channel`."""
        node = await self._node_of(exchange.websocket)
        await CallSession(self._plan, exchange, action, channel or self.channel, node, user).run()

    async def _node_of(self, websocket: WebSocket) -> Node:
        """The node that serves `websocket`, and runs."""
        node = Node.of(websocket.scope)
        self._use(node)
        await node.ensure_started(websocket.scope)
        return node

    def _use(self, node: Node) -> None:
        """Broadcast through `node` where no request says otherwise."""
        if self._node is None or self._node() is not node:
            self._claim(node)
            self._node = weakref.ref(node)

    def _claim(self, node: Node) -> None:
        """Take what the channel needs of `node`.

        Raises:
            ConfigurationError: it does not have it.
        """
        node.scopes.claim(type(self), self._plan.words, keeps=self._plan.history is not None)
        if self.topics and self._plan.actions is None:
            raise ConfigurationError(
                f"{type(self).__name__} relays what clients send to a room, and a topic is none: topics need "
                "a Channel, with an action that broadcasts"
            )
        for spec in (self._plan.actions or {}).values():
            if spec.idempotent:
                node.rooms.check_store(f"{type(self).__name__}.{spec.name} (idempotent)")
        for name in ("max_connection", "max_per_user", "max_rooms_per_user"):
            if getattr(self, name) is not None:
                node.rooms.check_store(f"{type(self).__name__}.{name}")
        if self.authenticator is not None and self.authenticator.revocable:
            node.rooms.check_store(f"{type(self).__name__}.authenticator (revocable)")
        if self._plan.showing is not None:
            if self._plan.actions is None:
                raise ConfigurationError(
                    f"{type(self).__name__} relays what clients send, and sends them nothing of its own: "
                    "presence needs a Channel"
                )
            node.rooms.check_store(f"{type(self).__name__}.presence")
        if self._plan.history is not None:
            if self._plan.actions is None:
                raise ConfigurationError(
                    f"{type(self).__name__} relays what clients send, which has no place for a position: "
                    "a history needs a Channel, with an action that broadcasts"
                )
            node.rooms.check_store(f"{type(self).__name__}.history")


def _nothing(connection: Connection) -> None:
    """What is said of a client where the channel says nothing."""


def words_of(channel: BaseChannel | type[BaseChannel]) -> Vocabulary:
    """The words of a channel; or of a class, as long as it has no settings that are an instance's own."""
    cls = channel if isinstance(channel, type) else type(channel)
    speaker: Any = channel
    guards = [hook(channel, BaseChannel, name) for name in ("authorize", "may_receive")]
    return (partial(TopicWords, home=channel.channel) if channel.topics else Vocabulary)(
        speaker,
        cls.__name__,
        event_types=channel.event_types,
        call_types=channel.call_types,
        for_each=channel.for_each,
        pattern=channel.room_pattern,
        scope=channel.scope,
        guarded=any(each is not None for each in guards),
    )
