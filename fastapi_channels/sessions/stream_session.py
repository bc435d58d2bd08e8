"""A client in one room that has a stream of events in place of a WebSocket: it only receives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fastapi_channels.cluster.node import Node
from fastapi_channels.wire.stream import Stream, StreamWriter

from .plan import Plan
from .room_session import RoomSession

BEAT: Final = 15.0
"""Seconds between two comments: proxies give up on a response that is silent for a minute."""


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
        self._spoke: set[Callable[[], None]] = set()

    async def _let_in(self) -> None:
        await super()._let_in()
        self._ride()

    def _ride(self) -> None:
        self._spoke = self.node.wheel.ride(self._beat, BEAT)

    def _beat(self) -> None:
        assert isinstance(self.writer, StreamWriter)
        self.writer.comment()
        if not self.writer.closed:
            self._ride()

    async def _end(self) -> None:
        self._spoke.discard(self._beat)
        await super()._end()
