"""What the log is told once: warnings that would else come with every message."""

from __future__ import annotations

from typing import Final

MAX_TOLD: Final = 100
"""What clients choose, such as an origin, must not fill the memory, nor the log."""


class Once:
    """Tells whether something is new; beyond `MAX_TOLD` things nothing is."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: set[str] = set()

    def is_new(self, what: str) -> bool:
        if what in self._told or len(self._told) >= MAX_TOLD:
            return False
        self._told.add(what)
        return True
