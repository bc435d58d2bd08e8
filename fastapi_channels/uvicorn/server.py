"""What the connections of one uvicorn server have in common, so that none has it for itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

from uvicorn.config import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState
from websockets.protocol import Protocol as Parser
from websockets.protocol import Side

from fastapi_channels.wire.bursts import Bursts
from fastapi_channels.wire.wheel import Wheel

from .handshake import Handshake, Headers

_KEY: Final = "fastapi_channels"
"""Where a server's state has its own."""


class Server:
    """One of them.

    Attributes:
        app: the application, with what uvicorn puts around it.
        connections, tasks: those that uvicorn waits for before it ends.
        pings: calls a connection that is to be pinged; None if none is.
        pongs: calls one whose pong did not come in time; None if that does not matter.
        bursts: what answers messages that came in one go.
    """

    def __init__(
        self,
        config: Config,
        state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
        ping: Callable[[Any], None],
        fail: Callable[[Any], None],
    ) -> None:
        self.config = config
        self.app: Any = config.loaded_app
        self.loop = loop
        self.logger = logging.getLogger("uvicorn.error")
        self.connections: set[Any] = state.connections
        self.tasks = state.tasks
        self.pings: Wheel[Any] | None = None
        self.pongs: Wheel[Any] | None = None
        self.bursts: Bursts[bytes] = Bursts(loop.call_soon)
        self._state = state
        self._app_state = app_state
        self._root = config.root_path
        self._raw_root = config.root_path.encode("ascii")
        if config.ws_ping_interval:
            self.pings = Wheel(config.ws_ping_interval, ping)
            if config.ws_ping_timeout is not None:
                self.pongs = Wheel(config.ws_ping_timeout, fail)

    @classmethod
    def of(
        cls,
        config: Config,
        state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None,
        ping: Callable[[Any], None],
        fail: Callable[[Any], None],
    ) -> Server:
        """That of a server, made for its first connection."""
        found: Server | None = getattr(state, _KEY, None)
        if found is None:
            if not config.loaded:
                config.load()
            found = cls(config, state, app_state, loop or asyncio.get_event_loop(), ping, fail)
            setattr(state, _KEY, found)
        return found

    @property
    def headers(self) -> Headers:
        """Those of each response that accepts."""
        return self._state.default_headers

    def parser(self) -> Parser:
        """What reads the frames that are not plain, on a connection that is open."""
        return Parser(Side.SERVER, max_size=self.config.ws_max_size, logger=self.logger)

    def scope(self, handshake: Handshake, transport: asyncio.Transport) -> dict[str, Any]:
        """What the application is called with."""
        server, client = _addresses(transport)
        path, _, query = handshake.target.partition(b"?")
        return {
            "type": "websocket",
            "asgi": {"version": self.config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if is_ssl(transport) else "ws",
            "server": server,
            "client": client,
            "root_path": self._root,
            "path": self._root + unquote(path.decode("ascii")),
            "raw_path": self._raw_root + path,
            "query_string": query,
            "headers": handshake.headers,
            "subprotocols": handshake.subprotocols,
            "state": self._app_state.copy(),
            "extensions": {"websocket.http.response": {}},
        }


def _addresses(transport: asyncio.Transport) -> tuple[Any, Any]:
    """Of the server and of the client. uvicorn's HTTP protocol, which is there until now, has asked the
    kernel for them. It and its parser refer to each other, and are of no use any more."""
    http: Any = transport.get_protocol()
    if not hasattr(http, "server") or not hasattr(http, "client"):
        return get_local_addr(transport), get_remote_addr(transport)
    if hasattr(http, "parser"):
        http.parser = None
    return http.server, http.client
