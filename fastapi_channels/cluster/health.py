"""How a process is: what a probe asks."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from socket import gethostname
from typing import Any, Final, NamedTuple

from fastapi import APIRouter
from starlette.responses import JSONResponse

logger = logging.getLogger("fastapi_channels")

GRACE: Final = 5.0
"""Seconds that the broker, or the store, may be away before the process counts as not ready: a restart of
either is shorter."""


class Health(NamedTuple):
    """The state of one process at one moment.

    Attributes:
        started: whether the node runs.
        draining: whether it lets its connections go, and takes no new ones.
        broker_away: seconds that the broker has been away; 0.0 while it is there.
        store_away: the same of the store.
        connections: how many WebSockets are open here.
        rooms: in how many rooms they are.
    """

    started: bool
    draining: bool
    broker_away: float
    store_away: float
    connections: int
    rooms: int

    @property
    def ready(self) -> bool:
        """Whether new connections should come here."""
        return self.started and not self.draining and not self.missing

    @property
    def missing(self) -> str:
        """What has been away for too long; empty if nothing has."""
        away = {"the broker": self.broker_away, "the store": self.store_away}
        return " and ".join(name for name, seconds in away.items() if seconds >= GRACE)

    def as_dict(self) -> dict[str, Any]:
        seconds = {name: round(getattr(self, name), 1) for name in ("broker_away", "store_away")}
        return {"ready": self.ready, **self._asdict(), **seconds}


def this_process() -> dict[str, Any]:
    """Where it runs, and which version of this package; None where it is not installed."""
    return {"host": gethostname(), "pid": os.getpid(), "version": _version()}


@cache
def _version() -> str | None:
    try:
        return version("fastapi-channels")
    except PackageNotFoundError:
        return None


def add_probes(router: APIRouter, url: str, look: Callable[[], Health]) -> None:
    """Answer the probes of an orchestrator. Liveness says that the event loop turns; readiness, whether new
    connections should come here."""

    async def live() -> dict[str, bool]:
        return {"live": True}

    async def ready() -> JSONResponse:
        health = look()
        return JSONResponse(health.as_dict(), 200 if health.ready else 503)

    router.add_api_route(f"{url}/live", live, include_in_schema=False)
    router.add_api_route(f"{url}/ready", ready, include_in_schema=False)


class Readiness:
    """Tells the log when a process is not ready because something is missing, and when it is again: a line
    for each. Of a drain the log is told where it begins, of an outage where it is noticed."""

    def __init__(self) -> None:
        self._missing = ""

    def look(self, health: Health) -> None:
        missing, before = health.missing, self._missing
        self._missing = missing
        if missing and not before:
            have = "have" if " and " in missing else "has"
            logger.warning("not ready: %s %s been away for %g s", missing, have, GRACE)
        elif before and not missing:
            logger.warning("ready again")
