"""The consumers of Django Channels: plain or async methods, frames as they come or as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ParamSpec

from starlette.concurrency import run_in_threadpool

from fastapi_channels.exceptions import ParseError
from fastapi_channels.sessions.http import Headers
from fastapi_channels.wire.messages import decode_json

from .consumer import Consumer, Handler, checked_groups, closing, data_of

P = ParamSpec("P")


class AsyncWebsocketConsumer(Consumer):
    """A consumer whose methods are coroutines."""

    async def connect(self) -> None:
        """The client has come: `accept`, or `close` to refuse it."""
        await self.accept()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """A frame has come."""

    async def disconnect(self, code: int) -> None:
        """The client has left, or was refused; 1006 where it did not say goodbye."""

    async def accept(
        self, subprotocol: str | None = None, headers: Headers | Mapping[str, str] = None
    ) -> None:
        """Accept the client; returns when it is there. `headers` are pairs of bytes, or a mapping of texts.

        Raises:
            ConfigurationError: it was accepted, or refused, before.
        """
        await self._session.let_in(subprotocol, headers)

    async def send(
        self, text_data: str | None = None, bytes_data: bytes | None = None, close: bool | int = False
    ) -> None:
        """Send a frame, and then close if that is wanted; nothing is raised for a client that has gone.

        Raises:
            ConfigurationError: it is not accepted yet, or there is nothing to send.
        """
        await self._send(text_data, bytes_data, close)

    async def close(self, code: int | None = None, reason: str | None = None) -> None:
        """Close, behind what is queued. Before `accept` it refuses the client, with the HTTP status 403."""
        await self._session.close(*closing(code, reason))

    async def group_add(self, group: str) -> None:
        """Put this client's channel into a group; it leaves with the client."""
        await self.channel_layer.group_add(group, self.channel_name)

    async def group_discard(self, group: str) -> None:
        """Take this client's channel out of a group."""
        await self.channel_layer.group_discard(group, self.channel_name)

    async def group_send(self, group: str, message: Mapping[str, Any]) -> None:
        """Send `message` to each channel in a group."""
        await self.channel_layer.group_send(group, message)

    async def websocket_connect(self, message: dict[str, Any]) -> None:
        """The client has come; joins `groups`, and calls `connect`."""
        for group in checked_groups(self):
            await self.channel_layer.group_add(group, self.channel_name)
        await self.connect()

    async def websocket_receive(self, message: dict[str, Any]) -> None:
        """A frame has come; calls `receive` with its text, or its bytes."""
        await self.receive(**data_of(message))

    async def websocket_disconnect(self, message: dict[str, Any]) -> None:
        """The client has left, or was refused; calls `disconnect`."""
        await self.disconnect(message["code"])

    async def websocket_send(self, message: dict[str, Any]) -> None:
        """A message of the layer that says what to send to the client."""
        await self._pass_on(message)

    async def _call(self, handler: Handler, message: dict[str, Any]) -> None:
        await handler(message)


class AsyncJsonWebsocketConsumer(AsyncWebsocketConsumer):
    """Frames are JSON. What is none is answered with an error."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.receive_json(await self.decode_json(_text(text_data)))

    async def receive_json(self, content: Any) -> None:
        """A value has come."""

    async def send_json(self, content: Any, close: bool | int = False) -> None:
        """Send a value."""
        await self.send(await self.encode_json(content), close=close)

    @classmethod
    async def decode_json(cls, text_data: str) -> Any:
        """Override it to read frames otherwise."""
        return _decoded(text_data)

    @classmethod
    async def encode_json(cls, content: Any) -> str:
        """Override it to write frames otherwise."""
        return json.dumps(content)


class WebsocketConsumer(Consumer):
    """A consumer whose methods are plain functions, each called in a thread."""

    def connect(self) -> None:
        """The client has come: `accept`, or `close` to refuse it."""
        self.accept()

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """A frame has come."""

    def disconnect(self, code: int) -> None:
        """The client has left, or was refused; 1006 where it did not say goodbye."""

    def accept(self, subprotocol: str | None = None, headers: Headers | Mapping[str, str] = None) -> None:
        """Accept the client; returns when it is there. `headers` are pairs of bytes, or a mapping of texts.

        Raises:
            ConfigurationError: it was accepted, or refused, before.
        """
        self._wait(self._session.let_in, subprotocol, headers)

    def send(
        self, text_data: str | None = None, bytes_data: bytes | None = None, close: bool | int = False
    ) -> None:
        """Send a frame, and then close if that is wanted; nothing is raised for a client that has gone.

        Raises:
            ConfigurationError: it is not accepted yet, or there is nothing to send.
        """
        self._wait(self._send, text_data, bytes_data, close)

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        """Close, behind what is queued. Before `accept` it refuses the client, with the HTTP status 403."""
        self._wait(self._session.close, *closing(code, reason))

    def group_add(self, group: str) -> None:
        """Put this client's channel into a group; it leaves with the client."""
        self._wait(self.channel_layer.group_add, group, self.channel_name)

    def group_discard(self, group: str) -> None:
        """Take this client's channel out of a group."""
        self._wait(self.channel_layer.group_discard, group, self.channel_name)

    def group_send(self, group: str, message: Mapping[str, Any]) -> None:
        """Send `message` to each channel in a group."""
        self._wait(self.channel_layer.group_send, group, message)

    def websocket_connect(self, message: dict[str, Any]) -> None:
        """The client has come; joins `groups`, and calls `connect`."""
        for group in checked_groups(self):
            self._wait(self.channel_layer.group_add, group, self.channel_name)
        self.connect()

    def websocket_receive(self, message: dict[str, Any]) -> None:
        """A frame has come; calls `receive` with its text, or its bytes."""
        self.receive(**data_of(message))

    def websocket_disconnect(self, message: dict[str, Any]) -> None:
        """The client has left, or was refused; calls `disconnect`."""
        self.disconnect(message["code"])

    def websocket_send(self, message: dict[str, Any]) -> None:
        """A message of the layer that says what to send to the client."""
        self._wait(self._pass_on, message)

    def _wait(self, call: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call it in the event loop of the client, and wait for it in this thread."""

        async def called() -> None:
            await call(*args, **kwargs)

        asyncio.run_coroutine_threadsafe(called(), self._session.loop).result()

    async def _call(self, handler: Handler, message: dict[str, Any]) -> None:
        await run_in_threadpool(handler, message)


class JsonWebsocketConsumer(WebsocketConsumer):
    """Frames are JSON. What is none is answered with an error."""

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.receive_json(self.decode_json(_text(text_data)))

    def receive_json(self, content: Any) -> None:
        """A value has come."""

    def send_json(self, content: Any, close: bool | int = False) -> None:
        """Send a value."""
        self.send(self.encode_json(content), close=close)

    @classmethod
    def decode_json(cls, text_data: str) -> Any:
        """Override it to read frames otherwise."""
        return _decoded(text_data)

    @classmethod
    def encode_json(cls, content: Any) -> str:
        """Override it to write frames otherwise."""
        return json.dumps(content)


def _text(text: str | None) -> str:
    if text is None:
        raise ParseError(close=False, context={"problem": "a text frame is expected"})
    return text


def _decoded(text: str) -> Any:
    try:
        return decode_json(text)
    except ValueError as exc:
        raise ParseError(close=False, context={"problem": str(exc)[:200]}) from None
