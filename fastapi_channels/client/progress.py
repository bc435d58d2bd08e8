"""How far a client is in the history of a room, and what becomes of events that follow a hole in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from fastapi_channels.cluster.recovery import Reason

from .connection import Frame
from .errors import FOR_NOW, ActionError
from .settings import MOST_UNTAKEN, Settings


class Progress:
    """
    Args:
        since: the position to begin at; empty for that of the room.
        recover: asks the server for what comes after `position`; the id of what it sent, empty for nothing.
        tell: tells of an event.
        gap: tells that something is missing for good, why, and how much, where that is known.

    Attributes:
        position: of the newest event that was told; empty in a room without history.
    """

    def __init__(
        self,
        settings: Settings,
        since: str,
        *,
        recover: Callable[[], str],
        tell: Callable[[Frame], None],
        gap: Callable[[Literal["lagged"], int | None], None],
    ) -> None:
        self.position = since
        self._told = _offset(since)
        self._settings = settings
        self._recover = recover
        self._tell = tell
        self._gap = gap
        self._asked = ""
        """Id of the join that asks for what the server has dropped; empty where nothing is missing."""
        self._kept: list[Frame] = []
        """What has come since, in case the server cannot give it again."""
        self._timer: asyncio.TimerHandle | None = None

    def event(self, frame: Frame) -> None:
        """One has come: it is told now, or when what is missing before it has come; or it was told before."""
        position = self._position_of(frame)
        if position and self._asked:
            self._kept.append(frame)
            if len(self._kept) > MOST_UNTAKEN:
                self._give_up()
        # It moves before anybody is told: who leaves and joins in a listener gets nothing twice.
        elif not position or self.move(position):
            self._tell(frame)

    def move(self, position: str) -> bool:
        """Go on to a position; whether it lies ahead."""
        offset = _offset(position)
        if _epoch(position) == _epoch(self.position) and offset <= self._told:
            return False
        self._told, self.position = offset, position
        return True

    def lagged(self, frame: Frame) -> None:
        """The server has dropped events here. In a room with history it is asked for them."""
        since = frame.get("since") or ""
        if self._asked:
            return  # what it is asked for has these too
        if since and _epoch(since) == _epoch(self.position):
            self._asked = self._recover()
        if not self._asked:
            self._gap("lagged", frame.get("dropped"))

    def refused(self, frame: Frame) -> bool:
        """Whether that is what `frame` says of what the server was asked for."""
        names = self._settings.envelope
        if not self._asked or frame.get(names.request_id) != self._asked:
            return False
        error = ActionError(frame, names)
        if error.code in FOR_NOW:
            delay = max(self._settings.times.rejoin, error.retry_after or 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay, self._recover_again)
        else:
            self._give_up()
        return True

    def joined(self, frame: Frame) -> Reason | None:
        """The server says where the room is. Why something is missing for good; None where nothing is.

        `go_on` is to be called when that has been told.
        """
        position: str = frame[self._settings.envelope.position]
        is_lost = frame.get("recovered") is False
        self._asked = ""
        if not is_lost:
            # All of it comes again; but for that of other rooms.
            self._kept = [each for each in self._kept if _epoch(self._position_of(each)) != _epoch(position)]
        if not is_lost or not self._kept:
            # Without `recovered` the latest event may follow, which stands at this position itself.
            self._told, self.position = _offset(position) - ("recovered" not in frame), position
        return (frame.get("reason") or "expired") if is_lost else None

    def go_on(self, position: str | None = None) -> None:
        """Tell what was kept, if it does not come again, and be at `position` then."""
        kept, self._kept = self._kept, []
        for frame in kept:
            self.event(frame)
        if position:
            self.move(position)

    def stop(self) -> None:
        """The room is not joined any more: when it is, the server says what is missing."""
        if self._timer is not None:
            self._timer.cancel()

    def _recover_again(self) -> None:
        self._asked = self._recover()
        if not self._asked:
            self._give_up()

    def _position_of(self, frame: Frame) -> str:
        return frame.get(self._settings.envelope.position) or ""

    def _give_up(self) -> None:
        self._asked = ""
        self._gap("lagged", None)
        self.go_on()


def _offset(position: str) -> int:
    return int(position.rpartition(":")[2]) if position else -1


def _epoch(position: str) -> str:
    return position.partition(":")[0]
