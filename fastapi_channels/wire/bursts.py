"""Frames that leave together: what a client has sent in one go is answered in one write.

Each write is a system call, and costs more than an action.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final, Generic, Protocol, TypeVar

MAX_KEPT: Final = 64 * 1024
"""Bytes that are kept for all connections together."""
MAX_WAIT: Final = 0.001
"""Seconds that a frame waits for others while those who make them take their time without waiting. It is
looked at with each further frame: code that blocks the event loop holds back what is kept too."""

T_contra = TypeVar("T_contra", contravariant=True)
T = TypeVar("T")


class Keeper(Protocol[T_contra]):
    """One connection that frames leave by."""

    def send_kept(self, frames: Sequence[T_contra], /) -> None:
        """Send `frames` in one write."""


class Bursts(Generic[T]):
    """What leaves when a turn of the event loop ends, at latest.

    Args:
        at_turns_end: calls a function when the current turn has ended.

    Attributes:
        kept: the frames for each connection that has any.
    """

    __slots__ = ("_at_turns_end", "_since", "_size", "kept")

    def __init__(self, at_turns_end: Callable[[Callable[[], None]], object]) -> None:
        self.kept: dict[Keeper[T], list[T]] = {}
        self._at_turns_end = at_turns_end
        self._since = 0.0
        self._size = 0

    def keep(self, keeper: Keeper[T], frame: T, size: int) -> None:
        """Let `frame`, of `size` bytes, leave together with what is kept for `keeper`."""
        if not self.kept:
            self._at_turns_end(self.flush)
            self._since = monotonic()
        self.kept.setdefault(keeper, []).append(frame)
        self._size += size
        if self._size >= MAX_KEPT or monotonic() - self._since > MAX_WAIT:
            self.flush()

    def flush(self) -> None:
        """Send what is kept."""
        if self.kept:
            kept, self.kept, self._size = self.kept, {}, 0
            for keeper, frames in kept.items():
                keeper.send_kept(frames)
