"""What the four consumers have in common: one object for each client, which has a channel of a layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Final

from fastapi import WebSocket

from fastapi_channels.channels import BaseChannel
from fastapi_channels.cluster.node import Node
from fastapi_channels.exceptions import CloseCode, ConfigurationError
from fastapi_channels.wire.messages import Body, encode_json
from fastapi_channels.wire.rooms import MAX_ROOM

from .aliases import DEFAULT, get_channel_layer
from .base import BaseChannelLayer
from .session import ConsumerSession

SETTINGS: Final = (
    *("authenticator", "permission_classes", "throttle_classes", "max_message_size", "outbox_limit"),
    "slow_policy",
    *("send_timeout", "finish_timeout", "leave_timeout", "idle_timeout", "max_lifetime", "heartbeat"),
)
"""Attributes of a consumer that mean what they mean on a channel."""


class Consumer(ABC):
    """Serves one client. Its channel is `channel_name`. A message there calls the method that its `type`
    names, with `_` for each `.`. One for which there is no method is logged. One method runs at a time.

    What is raised for a client, such as an HTTPException, it is told; any other exception closes with 1011.
    The settings of a channel that are in `SETTINGS` can be attributes of the class.

    Attributes:
        groups: the channel is in them from before `connect` until after `disconnect`.
        channel_layer_alias: of the layer.
        channel_layer: the layer.
        channel_name: its channel; empty before the client has come.
        scope: of ASGI; with `url_route` as Django Channels has it.
        websocket: Starlette's object.

    Args:
        layer: the one of the alias unless given.
    """

    groups: Sequence[str] = ()
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

    async def __call__(self, websocket: WebSocket) -> None:
        """Serve `websocket`, in any FastAPI endpoint; returns when it has left.

        Raises:
            ConfigurationError: no add_channel() covers the endpoint, or this object has served one already.
        """
        cls = type(self)
        if cls._served_by is None:
            cls._served_by = _Consumers(cls)
        await cls._served_by.serve(self, websocket)

    @classmethod
    def as_route(cls, **arguments: Any) -> Callable[[WebSocket], Awaitable[None]]:
        """An endpoint that serves each client with a new consumer, made with `arguments`:
        `app.add_api_websocket_route("/ws/{room}", Chat.as_route())`."""

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

    # For the session, and for the four

    @abstractmethod
    async def _opens(self) -> None: ...

    @abstractmethod
    async def _takes(self, body: Body) -> None: ...

    @abstractmethod
    async def _hears(self, message: dict[str, Any]) -> None: ...

    @abstractmethod
    async def _leaves(self, code: int) -> None: ...

    def _handler(self, message: dict[str, Any]) -> Callable[[dict[str, Any]], Any] | None:
        """The method for a message of the layer."""
        kind = message.get("type")
        name = kind.replace(".", "_") if isinstance(kind, str) else "_"
        handler: Callable[[dict[str, Any]], Any] | None = getattr(self, name, None)
        if name.startswith("_") or not callable(handler):
            self._session.log.warning("%s has no method for a message of type %r", type(self).__name__, kind)
            return None
        return handler

    async def _send(self, text: str | None, data: bytes | None, close: bool | int) -> None:
        body = data if text is None else text
        if body is None:
            raise ConfigurationError("send() takes text_data, or bytes_data")
        await self._session.send(body)
        if close is not False:
            await self._session.close(*closing(close, None))

    @staticmethod
    def _split(body: Body) -> dict[str, Any]:
        """The arguments of `receive` for a frame."""
        return {"text_data": body} if isinstance(body, str) else {"bytes_data": body}

    @staticmethod
    def _to_client(message: dict[str, Any]) -> tuple[str | None, bytes | None]:
        """The text, or the bytes, of a message that says what to send to the client."""
        body = message.get("body")
        return (None, body) if isinstance(body, bytes) else (encode_json(body), None)


def closing(code: bool | int | None, reason: str | None) -> tuple[int, str]:
    """The code and the reason of a close, of which a consumer may say neither."""
    return CloseCode.NORMAL if code is None or code is True else int(code), reason or ""


class _Consumers(BaseChannel):
    """What holds for the consumers of one class. They alone are in its room, and nothing is sent there."""

    def __init__(self, kind: type[Consumer]) -> None:
        name = f"{kind.__module__}.{kind.__qualname__}"
        own = {setting: getattr(kind, setting) for setting in SETTINGS if hasattr(kind, setting)}
        vars(self).update(own, scope=f"consumers of {name}"[:MAX_ROOM])
        super().__init__(channel=kind.__qualname__[:MAX_ROOM])

    async def serve(self, consumer: Consumer, websocket: WebSocket) -> None:
        if hasattr(consumer, "websocket"):
            raise ConfigurationError("a consumer serves one client: make another, or use as_route()")
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
