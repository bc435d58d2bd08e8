"""What is counted of one process; and how it is at the moment, read when somebody asks."""

from __future__ import annotations

import asyncio
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from fastapi_channels.actions.spec import ActionSpec
from fastapi_channels.cluster.observer import Observer, Stay
from fastapi_channels.cluster.sender import PERSONAL
from fastapi_channels.exceptions import CloseCode
from fastapi_channels.sessions.plan import Plan
from fastapi_channels.sessions.session import Session
from fastapi_channels.wire.messages import Publication
from fastapi_channels.wire.traffic import Timer, Traffic

from .families import LONG, QUICK
from .figures import OTHER, Counter, Histogram, Sample
from .jobs.keeper import QUESTION, State
from .store_calls import CountedStore

if TYPE_CHECKING:
    from fastapi_channels.cluster.node import Node

Snapshot: TypeAlias = dict[str, list[Sample]]
"""The samples of each metric, by its name without the prefix."""

LOOK: Final = 0.5
"""Seconds between two looks at how late the event loop is."""
CODES: Final = frozenset(map(str, CloseCode)) | {"1000", "1001", "1005", "1006", "1009", "1012"}
"""Close codes that are told apart: a client may send any from 3000 to 4999."""


class Metrics(Observer):
    """Observes a node.

    Args:
        node: whose process it is.
        store: the one that it shares with others, if it has one.
    """

    def __init__(self, node: Node, store: CountedStore | None = None) -> None:
        self._node = node
        self._store = store
        self._opened = 0
        self._refused = Counter()
        self._closed = Counter()
        self._lasted = Histogram(LONG)
        self._joins = Counter()
        self._recoveries = Counter()
        self._actions: dict[ActionSpec, tuple[str, Histogram]] = {}
        self._errors = Counter()
        self._runs = Counter()
        self._ran: dict[str, Histogram] = {}
        self._published = Histogram(QUICK)
        self._failures = 0
        self._outages = 0
        self._outage_seconds = 0.0
        self._lost_at: float | None = None
        self._delays = Histogram(QUICK)
        self._timer: asyncio.TimerHandle | None = None

    def expect(self, plan: Plan) -> None:
        """Have the series of a channel from the start, at 0: what is not there cannot be seen to begin."""
        self._joins.expect(plan.name)
        for spec in (plan.actions or {}).values():
            self._actions.setdefault(spec, (plan.name, Histogram(QUICK)))
            self._errors.expect(plan.name, spec.name, "internal_error")

    # What it is told

    def opened(self) -> None:
        self._opened += 1

    def refused(self, code: str) -> None:
        self._refused.add(code)

    def closed(self, stay: Stay) -> None:
        told = str(stay.code)
        self._closed.add(stay.by, told if told in CODES else OTHER)
        self._lasted.add(stay.seconds)

    def joined(self, channel: str, recovered: bool | None) -> None:
        self._joins.add(channel)
        if recovered is not None:
            self._recoveries.add(channel, "full" if recovered else "refused")

    def timer(self, channel: str, spec: ActionSpec) -> Timer:
        return self._actions.setdefault(spec, (channel, Histogram(QUICK)))[1]

    def failed(self, channel: str, action: str, code: str, failure: BaseException | None) -> None:
        self._errors.add(channel, action, code)

    def published(self, publication: Publication, seconds: float, failure: BaseException | None) -> None:
        if publication.kind in PERSONAL:
            return
        if failure is not None:
            self._failures += 1
        timer = self._published
        timer.seconds += seconds  # as `add` does: to call it for each message would cost as much as it does
        if seconds <= timer.least:
            timer.quick += 1
        else:
            timer.add_slow(seconds)

    def ran(self, job: str, seconds: float | None, outcome: str, failure: BaseException | None) -> None:
        self._runs.add(job, outcome)
        if seconds is not None:
            self._ran.setdefault(job, Histogram(LONG)).add(seconds)

    def broker_changed(self, up: bool) -> None:
        now = time.monotonic()
        if self._lost_at is not None:
            self._outage_seconds += now - self._lost_at
            self._lost_at = None
        if not up:
            self._outages += 1
            self._lost_at = now

    # Beside the node

    def start(self) -> None:
        """Look at how late the running event loop is, from now on."""
        self._look_at(asyncio.get_running_loop(), None)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_at(self, loop: asyncio.AbstractEventLoop, due: float | None) -> None:
        now = loop.time()
        if due is not None:
            self._delays.add(max(0.0, now - due))
        self._timer = loop.call_at(now + LOOK, self._look_at, loop, now + LOOK)

    # What it tells

    def snapshot(self) -> Snapshot:
        """All samples of this moment, as JSON can hold them. Safe to be called from another thread."""
        traffic, outage = self._node.hub.traffic or Traffic(), self._outage_seconds
        if self._lost_at is not None:
            outage += time.monotonic() - self._lost_at
        totals = {
            "connections_opened": self._opened,
            "received_messages": traffic.received,
            "received_bytes": traffic.received_bytes,
            "sent_messages": traffic.sent,
            "sent_bytes": traffic.sent_bytes,
            "cut_off_clients": traffic.cut_off,
            "publish_failures": self._failures,
            "broker_outages": self._outages,
            "broker_outage_seconds": outage,
        }
        counters = {
            "connections_refused": self._refused,
            "connections_closed": self._closed,
            "joins": self._joins,
            "recoveries": self._recoveries,
            "errors": self._errors,
        }
        histograms = {
            "connection_duration_seconds": self._lasted,
            "publish_duration_seconds": self._published,
            "loop_delay_seconds": self._delays,
        }
        return {
            "info": [("", [version("fastapi-channels")], 1)],
            **{name: [("", [], value)] for name, value in self._gauges().items()},
            **{name: [("_total", [], value)] for name, value in totals.items()},
            **{name: counter.samples() for name, counter in counters.items()},
            **{name: histogram.samples(()) for name, histogram in histograms.items()},
            "dropped_messages": [
                ("_total", ["drop_oldest"], traffic.dropped_oldest),
                ("_total", ["drop_newest"], traffic.dropped_newest),
            ],
            **self._of_actions(),
            **self._of_jobs(),
            **self._of_presence(),
            **self._of_store(),
        }

    def _gauges(self) -> dict[str, float]:
        node = self._node
        waiting = [
            session.writer.waiting
            for session in list(node.sessions)
            if isinstance(session, Session) and session.writer.is_writing
        ]
        return {
            "connections": len(node.sessions),
            "memberships": len(node.rooms.connections),
            "rooms": len(node.hub.rooms),
            "users": len(node.users),
            "draining": int(node.draining),
            "outbox_bytes": sum(waiting),
            "outbox_max_bytes": max(waiting, default=0),
            "slow_clients": len(waiting),
            "broker_up": int(node.broker.up),
            "store_up": int(not node.rooms.store_away),
            "topics": len(node.broker.topics),
        }

    def _of_presence(self) -> Snapshot:
        presences = self._node.rooms.presences
        if presences is None:
            return {}
        return {
            "presence_members": [("", [], presences.members)],
            "presence_updates": [
                ("_total", ["change"], presences.changes),
                ("_total", ["list"], presences.lists),
            ],
        }

    def _of_store(self) -> Snapshot:
        store = self._store
        if store is None:
            return {}
        return {
            "store_calls": store.calls.samples(),
            "store_call_duration_seconds": [
                sample
                for operation, histogram in store.durations.items()
                for sample in histogram.samples((operation,))
            ],
        }

    def _of_jobs(self) -> Snapshot:
        """Of those that are kept here, which answer when this process is asked for them."""
        states: dict[str, State] = self._node.questions.answers.get(QUESTION, dict)()
        for job in states:
            self._runs.expect(job, "ok")
            self._ran.setdefault(job, Histogram(LONG))
        lasts = {job: state["last"]["due"] if state["last"] else 0.0 for job, state in states.items()}
        return {
            "job_runs": self._runs.samples(),
            "job_duration_seconds": [
                sample for job, histogram in list(self._ran.items()) for sample in histogram.samples((job,))
            ],
            "job_last_run_timestamp_seconds": [("", [job], last) for job, last in lasts.items()],
            "job_next_run_timestamp_seconds": [("", [job], state["next"]) for job, state in states.items()],
        }

    def _of_actions(self) -> Snapshot:
        """Of actions of one name in channels of one class, the sums."""
        durations: dict[tuple[str, str], list[Sample]] = {}
        late: dict[tuple[str, str], int] = {}
        for spec, (channel, histogram) in list(self._actions.items()):
            labels = (channel, spec.name)
            samples = histogram.samples(labels)
            if labels in durations:
                samples = [
                    (*one[:2], one[2] + other[2])
                    for one, other in zip(samples, durations[labels], strict=True)
                ]
            durations[labels] = samples
            if spec.sunset is not None:
                late[labels] = late.get(labels, 0) + spec.late_calls
        return {
            "action_duration_seconds": [sample for samples in durations.values() for sample in samples],
            "late_calls": [("_total", [*labels], calls) for labels, calls in late.items()],
        }


def is_snapshot(value: Any) -> bool:
    """Whether what came from another process can be one; only it knows what its figures mean."""
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(samples, list) and all(map(_is_sample, samples))
        for name, samples in value.items()
    )


def _is_sample(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 3
        and isinstance(value[0], str)
        and isinstance(value[1], list)
        and all(isinstance(label, str) for label in value[1])
        and isinstance(value[2], int | float)
    )
