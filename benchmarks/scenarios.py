"""What is done to a server, and what is read from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

WINDOWS: Final = (1, 8, 32)
PIPELINED: Final = (1, 8)
"""Of each client, where it does not wait for one answer before it sends the next message."""


@dataclass(frozen=True)
class Sample:
    """One measurement. Rates are per second of the measured time, shares are of one core."""

    round: int
    system: str
    scenario: str
    window: int
    rate: float
    """Messages received, or connections made, per second."""
    cpu: float
    """Microseconds of the servers' CPU time for one of them."""
    server_share: float
    load_share: float
    broker_share: float
    foreign_share: float
    """What neither of them used: of other programs, and of the kernel for nobody in particular."""
    memory: float
    """Bytes per connection that the servers grew by while the clients connected."""
    growth: float
    """Bytes that they grew by while the clients worked."""
    p50: float
    p99: float
    """Milliseconds from sending to receiving."""
    lost: int
    duplicates: int
    reordered: int
    closed: int
    stalled: bool
    attempt: int = 0

    def asdict(self) -> dict[str, Any]:
        return asdict(self)


Value = Callable[[Sample], float]


def rate(sample: Sample) -> float:
    return sample.rate


def memory(sample: Sample) -> float:
    return sample.memory / 1000


def cpu(sample: Sample) -> float:
    return sample.cpu


@dataclass(frozen=True)
class Scenario:
    """One kind of work.

    Attributes:
        sends: the kind of message; a system that does not know it is left out.
        options: of the load generator.
        value: what a table shows of a sample.
        unit: of that value.
        only: systems to measure; empty for all that can do it.
        servers: how many processes of the system share the work.
    """

    title: str
    sends: str
    options: Mapping[str, Any]
    unit: str = "deliveries/s"
    value: Value = rate
    windows: tuple[int, ...] = (1,)
    only: tuple[str, ...] = ()
    servers: int = 1
    joins: bool = False
    """Whether the clients join rooms before they begin."""
    quick: bool = False
    """Whether it is part of a quick run."""
    notes: Mapping[str, str] = field(default_factory=dict[str, str])


MEMORY_SYSTEMS: Final = (
    *(
        "plain",
        "ours",
        "ours-protocol",
        "plain-protocol",
        "broadcaster",
        "upstream",
        "socketio",
        "django",
        "litestar",
        "chanx",
        "bare",
        "ws",
    ),
)
ROOMS: Final = ("plain", "ours", "ours-protocol")
SCENARIOS: Final[dict[str, Scenario]] = {
    "fanout-1000": Scenario(
        "fan-out to 1,000 members", "say", {"clients": 1000}, windows=WINDOWS, quick=True
    ),
    "fanout-100": Scenario(
        "fan-out to 100 members", "say", {"clients": 100}, windows=WINDOWS, only=MEMORY_SYSTEMS
    ),
    "fanout-5000": Scenario(
        "fan-out to 5,000 members",
        "say",
        {"clients": 5000, "stall": 10},
        windows=WINDOWS,
        only=MEMORY_SYSTEMS,
    ),
    "echo": Scenario(
        "an action echoed, 100 connections",
        "echo",
        {"scenario": "echo", "clients": 100},
        unit="replies/s",
        windows=PIPELINED,
        quick=True,
    ),
    "raw": Scenario(
        "a text echoed by a plain endpoint, 100 connections",
        "raw",
        {"scenario": "echo", "clients": 100, "path": "/raw"},
        unit="replies/s",
        windows=PIPELINED,
        only=("plain", "plain-protocol", "asgi", "asgi-protocol", "bare"),
        quick=True,
    ),
    "connect": Scenario(
        "connect, join, leave, close",
        "say",
        {"scenario": "connect", "clients": 50},
        unit="connections/s",
        only=MEMORY_SYSTEMS,
        quick=True,
    ),
    "memory": Scenario(
        "memory of an idle, joined connection",
        "say",
        {"scenario": "idle", "clients": 2000, "settle": 1.5, "warmup": 0, "seconds": 0.5},
        unit="kB",
        value=memory,
        only=MEMORY_SYSTEMS,
        quick=True,
    ),
    "crowd": Scenario(
        "19,900 members in one process, which may open 20,000 files",
        "say",
        {"clients": 19_900, "stall": 10},
        only=("plain", "ours", "ours-protocol"),
    ),
    "all-read": Scenario(
        "16 kB to 50 members, all read", "say", {"clients": 50, "payload": 16000}, only=MEMORY_SYSTEMS
    ),
    "one-stops": Scenario(
        "the same, one of them stops reading",
        "say",
        {"clients": 50, "payload": 16000, "slow": 1},
        only=MEMORY_SYSTEMS,
    ),
    "one-room": Scenario(
        "one room of 10", "tell", {"clients": 10, "rooms": 1, "members": 10}, only=ROOMS, joins=True
    ),
    "many-rooms": Scenario(
        "10,000 rooms of 10, on 1,000 connections",
        "tell",
        {"clients": 1000, "rooms": 10000, "members": 10},
        only=ROOMS,
        joins=True,
    ),
    "typed": Scenario(
        "an action with a payload model",
        "typed",
        {"scenario": "echo", "clients": 100},
        unit="replies/s",
        quick=True,
    ),
    "depends": Scenario(
        "the same with two async dependencies and one that yields",
        "depends",
        {"scenario": "echo", "clients": 100},
        unit="replies/s",
        quick=True,
    ),
    "history": Scenario(
        "fan-out to 1,000 members, with and without a history of 1,000",
        "say",
        {"clients": 1000},
        windows=(1, 8),
        only=("ours", "ours-history", "ours-redis", "ours-history-redis"),
    ),
    "publishers": Scenario(
        "fan-out to 1,000 members, 8 of them publish, Redis",
        "say",
        {"clients": 1000, "senders": 8},
        windows=(1, 8),
        only=("ours-redis", "litestar-redis"),
    ),
    "one-process": Scenario(
        "1,000 members in one process, Redis",
        "say",
        {"clients": 1000},
        unit="µs of CPU/delivery",
        value=cpu,
        only=("ours-redis", "upstream-redis", "litestar-redis"),
    ),
    "two-processes": Scenario(
        "1,000 members in two processes, Redis",
        "say",
        {"clients": 1000},
        unit="µs of CPU/delivery",
        value=cpu,
        only=("ours-redis", "upstream-redis", "litestar-redis"),
        servers=2,
    ),
}
