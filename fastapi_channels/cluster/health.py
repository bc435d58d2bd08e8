"""How a process is: what a probe asks."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

GRACE: Final = 5.0
"""Seconds that the broker may be away before the process counts as not ready: a restart of it is shorter."""


class Health(NamedTuple):
    """The state of one process at one moment.

    Attributes:
        started: whether the node runs.
        draining: whether it lets its connections go, and takes no new ones.
        broker_away: seconds that the broker has been away; 0.0 while it is there.
        connections: how many WebSockets are open here.
        rooms: in how many rooms they are.
    """

    started: bool
    draining: bool
    broker_away: float
    connections: int
    rooms: int

    @property
    def ready(self) -> bool:
        """Whether new connections should come here."""
        return self.started and not self.draining and self.broker_away < GRACE

    def as_dict(self) -> dict[str, Any]:
        return {"ready": self.ready, **self._asdict(), "broker_away": round(self.broker_away, 1)}
