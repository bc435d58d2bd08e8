"""What leaves by a server that is not uvicorn: here one that stands for daphne, and refuses as it does."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest
from starlette.websockets import WebSocket, WebSocketState

from fastapi_channels.cluster.hub import Hub
from fastapi_channels.wire.messages import Envelope, Frame
from fastapi_channels.wire.outbox import Outbox
from fastapi_channels.wire.writer import Writer


def made(websocket: WebSocket) -> Writer:
    hub: Hub[Any] = Hub(lambda flush: None)
    return Writer(websocket, Outbox(1000, "disconnect"), Envelope(), name="1", timeout=5.0, collector=hub)


@pytest.mark.parametrize(
    ("code", "sent"),
    [(1000, 1000), (1003, 4515), (1008, 4503), (1009, 4513), (1011, 4003), (1012, 4003), (4000, 4000)],
)
async def test_a_close_code_that_a_server_refuses_is_replaced_by_one_that_it_takes(code: int, sent: int):
    """An application may send 1000 and 3000 to 4999 through daphne; for any other code it raises."""
    closed: list[Any] = []

    async def send(event: MutableMapping[str, Any]) -> None:
        if event["type"] == "websocket.close":
            if event["code"] != 1000 and not 3000 <= event["code"] <= 4999:
                raise Exception(f"invalid close code {event['code']}")
            closed.append((event["code"], event["reason"]))

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "websocket.connect"}

    websocket = WebSocket({"type": "websocket", "headers": []}, receive, send)
    await websocket.accept()
    writer = Writer(
        websocket,
        Outbox(1000, "disconnect"),
        Envelope(),
        name="1",
        timeout=5.0,
        collector=Hub(lambda flush: None),
    )
    writer.release()
    await writer.close(code, "why")
    assert closed == [(sent, "why")]


async def test_a_close_before_the_handshake_is_answered_comes_behind_the_answer():
    sent: list[str] = []

    async def send(event: MutableMapping[str, Any]) -> None:
        sent.append(event["type"])

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "websocket.connect"}

    websocket = WebSocket({"type": "websocket", "headers": []}, receive, send)
    writer = Writer(
        websocket,
        Outbox(1000, "disconnect"),
        Envelope(),
        name="1",
        timeout=5.0,
        collector=Hub(lambda flush: None),
    )
    await writer.close(4509, "why")
    assert sent == []
    await websocket.accept()
    writer.release()
    assert websocket.application_state is WebSocketState.DISCONNECTED
    await writer.drained()
    assert sent == ["websocket.accept", "websocket.close"]


async def test_replies_that_were_kept_wait_where_the_transport_takes_no_more():
    sent: list[Any] = []

    async def send(event: MutableMapping[str, Any]) -> None:
        sent.append(event.get("text"))

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "websocket.connect"}

    websocket = WebSocket({"type": "websocket", "headers": []}, receive, send)
    await websocket.accept()
    writer = made(websocket)
    writer.release()
    writer.send_kept([Frame("1"), Frame("2")])
    await writer.write(Frame("3"))
    await writer.close(1000, "")
    writer.send_kept([Frame("4")])
    await writer.drained()
    assert sent == [None, "1", "2", "3", None]
