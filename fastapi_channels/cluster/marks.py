"""High-water marks: how far the histories had come that this process last knew something of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fastapi_channels.wire.positions import Position

MOST: Final = 10_000
"""Rooms whose marks are kept, those that were noted last."""


class Marks:
    """A store that has come back as it was before gives offsets a second time. Whoever knows that it was
    further says so when it publishes, and the store begins a new epoch."""

    def __init__(self) -> None:
        self._positions: dict[str, Position] = {}

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._positions))

    def note(self, room: str, position: Position) -> None:
        """Keep `position`, unless a higher one of its epoch is kept."""
        before = self._positions.pop(room, position)
        self._positions[room] = max(before, position) if before.epoch == position.epoch else position
        if len(self._positions) > MOST:
            del self._positions[next(iter(self._positions))]

    def get(self, room: str) -> Position | None:
        return self._positions.get(room)

    def clear(self) -> None:
        self._positions.clear()
