"""For whom bytes cost more than memory: clients that can compress get uvicorn's own protocol."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from .handshake import offers_deflate
from .protocol import Protocol


class DeflateProtocol(Protocol):
    """As `Protocol`, but a client that offers permessage-deflate is served by the protocol that uvicorn
    chooses itself, unless `--ws-per-message-deflate false`. All browsers offer it."""

    __slots__ = ("_arguments", "_heir")

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._arguments = (config, server_state, app_state, _loop)
        self._heir: asyncio.Protocol | None = None

    def _begin(self, head: bytes) -> None:
        if not self._arguments[0].ws_per_message_deflate or not offers_deflate(head):
            super()._begin(head)
            return
        server, transport = self._server, self.transport
        heir = self._heir = WebSocketsSansIOProtocol(*self._arguments)
        server.connections.discard(self)
        # uvicorn is about to put this object at the transport; before the application runs, it is replaced.
        server.loop.call_soon(transport.set_protocol, heir)
        heir.connection_made(transport)
        heir.data_received(head)

    def _read(self, data: bytes) -> None:
        if self._heir is None:
            super()._read(data)
        else:
            self._heir.data_received(data)
