"""Saying no to a handshake."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.responses import JSONResponse
from starlette.websockets import WebSocketDisconnect, WebSocketState

from fastapi_channels.exceptions import WebSocketException

from .report import Line


async def refuse(
    line: Line, exc: WebSocketException, accept: Callable[[], Awaitable[None]], *, tells: bool
) -> None:
    """Answer with `exc`: by an HTTP status where the server can, else by a close.

    Args:
        accept: answers the handshake.
        tells: whether the client is accepted first, and told in a frame.
    """
    line.log.info("refused: %s", exc.error_code)
    for tell in line.node.observers.refused:
        tell(exc.error_code)
    websocket, writer = line.websocket, line.writer
    frame = line.envelope.error(exc, action=None, request_id=None, language=line.language)
    try:
        if tells and websocket.application_state is WebSocketState.CONNECTING:
            await accept()
        if websocket.application_state is WebSocketState.CONNECTING:
            await _deny(line, frame, exc)
        else:
            writer.release()
            await writer.write(line.envelope.frame(frame))
            await writer.close(exc.code, exc.reason)
    except (WebSocketDisconnect, RuntimeError, OSError) as error:
        line.log.debug("gone before it was refused: %r", error)


async def _deny(line: Line, frame: dict[str, Any], exc: WebSocketException) -> None:
    websocket, closing = line.websocket, line.writer.closing
    if "websocket.http.response" in websocket.scope.get("extensions", {}):
        await websocket.send_denial_response(JSONResponse(frame, exc.http_status, exc.http_headers))
    elif closing is not None:  # who refuses it has said more than that
        await websocket.close(closing["code"], closing["reason"])
    else:
        await websocket.close(exc.code, exc.reason)
