"""What the four consumers have in common: one object for each client, which has a channel of a layer."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Final, TypeAlias, cast

from fastapi import WebSocket

from fastapi_channels.channels import BaseChannel
from fastapi_channels.channels.misspelt import refuse_misspelt
from fastapi_channels.cluster.node import Node
from fastapi_channels.exceptions import CloseCode, ConfigurationError, ParseError
from fastapi_channels.wire.messages import encode_json
from fastapi_channels.wire.rooms import MAX_ROOM, check_room

from .aliases import DEFAULT, get_channel_layer
from .base import BaseChannelLayer
from .session import ConsumerSession

Handler: TypeAlias = Callable[[dict[str, Any]], Any]
SETTINGS: Final = (
    *("authenticator", "permission_classes", "throttle_classes", "connect_throttle_classes"),
    *("max_message_size", "send_timeout", "finish_timeout", "leave_timeout", "idle_timeout"),
    *("max_lifetime", "heartbeat"),
)
"""Attributes of a consumer that mean what they mean on a channel."""
_WAITS: Final = "send() waits until the frame has left, for send_timeout seconds"
_OF_ALL: Final = "it is an argument of add_channel()"
ELSEWHERE: Final = {
    "outbox_limit": _WAITS,
    "slow_policy": _WAITS,
    "max_connection": "max_connections of add_channel() bounds a process, max_connection of a Channel a room",
    **dict.fromkeys(("allowed_origins", "max_connections", "max_connections_per_user"), _OF_ALL),
}
"""Attributes that would do nothing on a consumer, and what does something instead."""


class Consumer(ABC):
    """Serves one client. Its channel is `channel_name`. A message there calls the method that its `type`
    names, with `_` for each `.`. One for which there is no method is logged. One method runs at a time. What
    the server says comes the same way: `websocket.connect`, `websocket.receive` and `websocket.disconnect`.

    What is raised for a client, such as an HTTPException, it is told; any other exception closes with 1011.
    The settings of a channel that are in `SETTINGS` can be attributes of the class.

    Attributes:
        groups: the channel is in them from before `connect` until after `disconnect`; `websocket_connect`
            puts it there.
        channel_layer_alias: of the layer.
        channel_layer: the layer.
        channel_name: its channel; empty before the client has come.
        scope: of ASGI; with `url_route` as Django Channels has it.
        websocket: Starlette's object.

    Args:
        layer: the one of the alias unless given.
    """

    groups: Sequence[str] | None = ()
    channel_layer_alias: str = DEFAULT
    _served_by: ClassVar[_Consumers | None] = None

    scope: Any
    websocket: WebSocket
    _session: ConsumerSession

    def __init__(self, *, layer: BaseChannelLayer | None = None) -> None:
        self.channel_layer = layer or get_channel_layer(self.channel_layer_alias)
        self.channel_name = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._served_by = None
        refuse_misspelt(cls, Consumer, SETTINGS, inspect.isfunction)
        for name, instead in ELSEWHERE.items():
            if hasattr(cls, name):
                raise ConfigurationError(f"{cls.__name__}.{name} does nothing on a consumer: {instead}")
        if not hasattr(cls.groups, "__get__"):  # a property is known with its consumer
            checked_groups(cls)

    async def __call__(self, websocket: WebSocket) -> None:
        """Serve `websocket`, in any FastAPI endpoint; returns when it has left.

        Raises:
            ConfigurationError: no add_channel() covers the endpoint, or this object has served one already.
        """
        cls = type(self)
        if cls._served_by is None:
            cls._served_by = _Consumers.of(cls)
        await cls._served_by.serve(self, websocket)

    @classmethod
    def as_route(cls, **arguments: Any) -> Callable[[WebSocket], Awaitable[None]]:
        """An endpoint that serves each client with a new consumer, made with `arguments`:
        `app.add_api_websocket_route("/ws/{room}", Chat.as_route())`.

        Raises:
            ConfigurationError: a setting makes no sense.
        """
        _Consumers.of(cls)  # what cannot be is told now: what serves is made with the first client

        async def endpoint(websocket: WebSocket) -> None:
            await cls(**arguments)(websocket)

        endpoint.__name__ = cls.__name__
        endpoint.__doc__ = cls.__doc__
        return endpoint

    @property
    def path_params(self) -> dict[str, Any]:
        """The parameters of the path."""
        return self.websocket.path_params

    @property
    def user(self) -> Any:
        """Who the client is, by the authenticator of the class or by a middleware; None where nobody says."""
        return self._session.client.user

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Call the method for a message: `websocket.connect`, `websocket.receive` and `websocket.disconnect`
        of the server, and those of the layer."""
        kind = message.get("type")
        name = kind.replace(".", "_") if isinstance(kind, str) else "_"
        handler: Handler | None = getattr(self, name, None)
        if name.startswith("_") or not callable(handler):
            self._session.log.warning("%s has no method for a message of type %r", type(self).__name__, kind)
        else:
            await self._call(handler, message)

    # For the four

    @abstractmethod
    async def _call(self, handler: Handler, message: dict[str, Any]) -> None: ...

    async def _send(self, text: str | None, data: bytes | None, close: bool | int) -> None:
        body = data if text is None else text
        if body is None:
            raise ConfigurationError("send() takes text_data, or bytes_data")
        await self._session.send(body)
        if close is not False:
            await self._session.close(*closing(close, None))

    async def _pass_on(self, message: dict[str, Any]) -> None:
        """Send the client what a message of the layer says."""
        match message:
            case {"text": str(body)} | {"bytes": bytes(body)} | {"mode": "bytes", "body": bytes(body)}:
                await self._session.send(body)
            case {"mode": "json", "body": body}:
                await self._session.send(encode_json(body))
            case _:
                self._session.log.warning(
                    "a message of type 'websocket.send' is ignored: it has neither text, bytes, nor what "
                    "websocket_json_message() or websocket_bytes_message() gives"
                )


def data_of(message: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `receive` for a frame."""
    text = message.get("text")
    return {"bytes_data": message["bytes"]} if text is None else {"text_data": text}


def checked_groups(consumer: Consumer | type[Consumer]) -> Sequence[str]:
    """Its groups.

    Raises:
        ConfigurationError: they are no list of names.
    """
    groups = consumer.groups or ()
    try:
        if isinstance(groups, str):
            raise TypeError
        return [check_room(group) for group in groups]
    except (TypeError, ParseError):
        name = (consumer if isinstance(consumer, type) else type(consumer)).__name__
        raise ConfigurationError(
            f"{name}.groups must be a list of names, each of 1 to {MAX_ROOM} printable characters, "
            f"got {groups!r:.200}"
        ) from None


def closing(code: bool | int | None, reason: str | None) -> tuple[int, str]:
    """The code and the reason of a close, of which a consumer may say neither."""
    return CloseCode.NORMAL if code is None or code is True else int(code), reason or ""


class _Consumers(BaseChannel):
    """What holds for the consumers of one class. They alone are in its room, and nothing is sent there."""

    @classmethod
    def of(cls, kind: type[Consumer]) -> _Consumers:
        """Those of `kind`, whose name is in errors and figures.

        Raises:
            ConfigurationError: a setting makes no sense.
        """
        named = type(kind.__name__, (cls,), {"__qualname__": kind.__qualname__})
        return cast("type[_Consumers]", named)(kind)

    def __init__(self, kind: type[Consumer]) -> None:
        own = {setting: getattr(kind, setting) for setting in SETTINGS if hasattr(kind, setting)}
        scope = f"consumers of {kind.__module__}.{kind.__qualname__}"
        vars(self).update(own, scope=scope[:MAX_ROOM])
        super().__init__(channel=kind.__qualname__[:MAX_ROOM])

    async def serve(self, consumer: Consumer, websocket: WebSocket) -> None:
        if hasattr(consumer, "websocket"):
            raise ConfigurationError("a consumer serves one client: make another, or use as_route()")
        if not hasattr(consumer, "channel_name"):
            raise ConfigurationError(f"{type(consumer).__name__}.__init__() has to call super().__init__()")
        node = Node.of(websocket.scope)
        self._use(node)
        await node.ensure_started(websocket.scope)
        consumer.websocket, consumer.scope = websocket, websocket.scope
        websocket.scope.setdefault("url_route", {"args": (), "kwargs": websocket.path_params})
        session = ConsumerSession(consumer, self._plan, websocket, self.channel, node)
        consumer._session = session
        try:
            await session.run()
        finally:
            del consumer._session
