"""The metrics by name: what each says, and its labels. All values of a label are from a set that the code
bounds: classes, actions, codes, never a room, a user or an address."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

PREFIX: Final = "fastapi_channels_"
PROCESS: Final = "process"
"""The label that every metric has: a small number, which a process that is started anew uses again."""

QUICK: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds, of what a client waits for."""
ROUND_TRIP: Final = (0.0005, 0.001, 0.0025, 0.005, 0.025, 0.1, 0.5, 2.0)
"""Those of a question to a server, which has two seconds for it."""
LONG: Final = (0.1, 1.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 21600.0, 86400.0)
"""Those of how long a connection lasts."""


class Family(NamedTuple):
    """
    Attributes:
        kind: as Prometheus has it. A counter's name goes without the `_total` that its samples have.
        help: what it says.
        labels: beside the process.
        bounds: of a histogram.
    """

    kind: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


FAMILIES: Final[dict[str, Family]] = {
    "info": Family("gauge", "Always 1: the version of the package.", ("version",)),
    "connections": Family("gauge", "WebSockets that are open."),
    "memberships": Family("gauge", "Connections in rooms; one WebSocket can have several."),
    "rooms": Family("gauge", "Rooms that have a member in this process."),
    "users": Family("gauge", "Users with a connection in this process; in several, a sum counts one twice."),
    "draining": Family("gauge", "1 while the process lets its connections go."),
    "connections_opened": Family("counter", "WebSockets that were accepted."),
    "connections_refused": Family("counter", "Handshakes that were refused, by the error's code.", ("code",)),
    "connections_closed": Family(
        "counter",
        "WebSockets that have ended: by client, server or nobody (lost), and the close code.",
        ("by", "code"),
    ),
    "connection_duration_seconds": Family("histogram", "How long WebSockets were open.", (), LONG),
    "joins": Family("counter", "Clients that came into a room.", ("channel",)),
    "recoveries": Family(
        "counter",
        "Clients that came back and asked for what they had missed: full, or refused.",
        ("channel", "result"),
    ),
    "received_messages": Family("counter", "Messages of clients."),
    "received_bytes": Family("counter", "Bytes in the messages of clients."),
    "sent_messages": Family("counter", "Messages that left for clients."),
    "sent_bytes": Family("counter", "Bytes in the messages that left for clients."),
    "dropped_messages": Family(
        "counter",
        "Messages of rooms that slow clients did not get, by the policy of their channel.",
        ("policy",),
    ),
    "cut_off_clients": Family("counter", "Clients that took nothing within their send_timeout."),
    "outbox_bytes": Family("gauge", "Bytes that wait for clients which do not read."),
    "outbox_max_bytes": Family("gauge", "Bytes that wait for the slowest client."),
    "slow_clients": Family("gauge", "Clients that something waits for."),
    "action_duration_seconds": Family(
        "histogram",
        "Actions from their permissions to their last reply, those that failed too.",
        ("channel", "action"),
        QUICK,
    ),
    "errors": Family(
        "counter",
        "Errors that clients were told, by code; without an action what could not be read, or is none.",
        ("channel", "action", "code"),
    ),
    "late_calls": Family("counter", "Calls of actions that have a sunset.", ("channel", "action")),
    "publish_duration_seconds": Family(
        "histogram", "Broadcasts, until the broker has taken them, or has not.", (), QUICK
    ),
    "publish_failures": Family("counter", "Broadcasts that the broker, or the store, did not take."),
    "broker_up": Family("gauge", "1 while the broker is connected."),
    "broker_outages": Family("counter", "Times that the broker was lost."),
    "broker_outage_seconds": Family("counter", "Seconds without the broker, the outage of now included."),
    "store_up": Family("gauge", "1 while the store answers, or there is none."),
    "store_calls": Family(
        "counter",
        "Calls of the store that processes share: ok, unavailable, lost where the lease had ended, "
        "cancelled, or error.",
        ("operation", "outcome"),
    ),
    "store_call_duration_seconds": Family(
        "histogram", "How long they took, those that failed too.", ("operation",), ROUND_TRIP
    ),
    "presence_members": Family(
        "gauge", "Connections that are shown who is in a room; one can be in several."
    ),
    "presence_updates": Family(
        "counter",
        "What members were shown: changes, each once for a room, and lists, each for one client.",
        ("kind",),
    ),
    "topics": Family("gauge", "Topics that this process listens to."),
    "job_runs": Family(
        "counter",
        "Ticks of jobs that this process took: ok, error, timeout, cancelled, skipped as the one before "
        "still ran, or missed for want of a store.",
        ("job", "outcome"),
    ),
    "job_duration_seconds": Family("histogram", "How long runs of jobs took.", ("job",), LONG),
    "job_last_run_timestamp_seconds": Family(
        "gauge", "When the last run of a job in this process was due; 0 before the first.", ("job",)
    ),
    "job_next_run_timestamp_seconds": Family(
        "gauge", "When a job is due next, in one of all processes.", ("job",)
    ),
    "loop_delay_seconds": Family(
        "histogram", "How late the event loop calls what is due, looked at twice a second.", (), QUICK
    ),
}
"""By name, without the prefix."""


def sample_names() -> set[str]:
    """What can be asked for in a query."""
    suffixes = {"gauge": ("",), "counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    return {PREFIX + name + suffix for name, family in FAMILIES.items() for suffix in suffixes[family.kind]}
