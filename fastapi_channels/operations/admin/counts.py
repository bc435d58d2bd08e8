"""What a process counts for the operators who look at it: numbers that only rise, of which rates are made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from fastapi_channels.cluster.node import Node
from fastapi_channels.cluster.observer import Observer, Stay

MAX_CODES: Final = 100
"""Codes of errors that are told apart; others are `other`."""
TRAFFIC: Final = ("received", "received_bytes", "sent", "sent_bytes", "dropped", "cut_off")


class Counts(Observer):
    """Those of a node, beside what it says of its health.

    Args:
        health: what it says without them.
    """

    def __init__(self, node: Node, health: Callable[[], dict[str, Any]]) -> None:
        self._node = node
        self._health = health
        self._began = monotonic()
        self._opened = self._closed = 0
        self._errors: Counter[str] = Counter()
        node.observe(self)

    def opened(self) -> None:
        self._opened += 1

    def closed(self, stay: Stay) -> None:
        self._closed += 1

    def refused(self, code: str) -> None:
        self._count(code)

    def failed(self, channel: str, action: str, code: str, failure: BaseException | None) -> None:
        self._count(code)

    def _count(self, code: str) -> None:
        known = code in self._errors or len(self._errors) < MAX_CODES
        self._errors[code if known else "other"] += 1

    def described(self) -> dict[str, Any]:
        """How the process is, and what it has counted in `uptime` seconds: what operators see of it."""
        traffic = self._node.hub.traffic
        return {
            **self._health(),
            "uptime": round(monotonic() - self._began, 3),
            "opened": self._opened,
            "closed": self._closed,
            **{name: getattr(traffic, name) for name in TRAFFIC},
            "errors": dict(self._errors),
        }
