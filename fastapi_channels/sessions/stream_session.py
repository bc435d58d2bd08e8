"""A client in one room that has a stream of events in place of a WebSocket: it only receives."""

from __future__ import annotations

from typing import Any

from fastapi_channels.cluster.node import Node
from fastapi_channels.wire.stream import Stream, StreamWriter

from .plan import Plan
from .room_session import RoomSession


class StreamSession(RoomSession):
    """
    Args:
        stream: the client.
        plan, room, node, user: as of every session in one room.
    """

    is_one_way = True
    _writes = StreamWriter

    def __init__(self, plan: Plan, stream: Stream, room: str, node: Node, user: Any = None) -> None:
        super().__init__(plan, stream.websocket, room, node, user)

    async def _let_in(self) -> None:
        await super()._let_in()
        assert isinstance(self.writer, StreamWriter)
        self.writer.keep_alive(self.node.wheel)
