"""Makes dashboard.json, which Grafana imports.

python docs/monitoring/make_dashboard.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

FILE: Final = Path(__file__).with_name("dashboard.json")
P: Final = "fastapi_channels_"
OF: Final = '{process=~"$process"}'
OURS: Final = '{process=~"$process", code="internal_error"}'
RATE: Final = "$__rate_interval"


class Panel(NamedTuple):
    """
    Attributes:
        queries: by their legend.
        unit: as Grafana calls it.
        kind: of the panel.
    """

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"


def total(name: str, by: str = "", of: str = OF) -> str:
    """How fast a counter rises, over all processes that are chosen."""
    grouped = f" by ({by}) " if by else ""
    return f"sum{grouped}(rate({P}{name}_total{of}[{RATE}]))"


def calls(by: str = "") -> str:
    grouped = f" by ({by}) " if by else ""
    return f"sum{grouped}(rate({P}action_duration_seconds_count{OF}[{RATE}]))"


def gauge(name: str) -> str:
    return f"sum({P}{name}{OF})"


def quantile(share: float, name: str, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({P}{name}_bucket{OF}[{RATE}])))"


ROWS: Final[dict[str, list[Panel]]] = {
    "At a glance": [
        Panel("Connections", {"open": gauge("connections")}, kind="stat"),
        Panel("Calls", {"a second": calls()}, "reqps", "stat"),
        Panel("Slowest hundredth of calls", {"p99": quantile(0.99, "action_duration_seconds")}, "s", "stat"),
        Panel("Errors of ours", {"a second": total("errors", of=OURS)}, "ops", "stat"),
        Panel("Broker", {"process {{process}}": f"{P}broker_up{OF}"}, "bool_on_off", "stat"),
        Panel("Store", {"process {{process}}": f"{P}store_up{OF}"}, "bool_on_off", "stat"),
    ],
    "Clients": [
        Panel("Connections", {"process {{process}}": f"{P}connections{OF}"}),
        Panel(
            "Opened and refused",
            {
                "opened": total("connections_opened"),
                "refused: {{code}}": total("connections_refused", "code"),
            },
            "ops",
        ),
        Panel("Closed", {"{{by}} {{code}}": total("connections_closed", "by, code")}, "ops"),
        Panel(
            "Rooms, memberships, users",
            {"rooms": gauge("rooms"), "memberships": gauge("memberships"), "users": gauge("users")},
        ),
        Panel(
            "Joins",
            {"{{channel}}": total("joins", "channel"), "back: {{result}}": total("recoveries", "result")},
            "ops",
        ),
        Panel(
            "Presence",
            {"shown": gauge("presence_members"), "{{kind}}": total("presence_updates", "kind")},
        ),
        Panel(
            "How long they stay",
            {
                "half stay": quantile(0.5, "connection_duration_seconds"),
                "a tenth stays": quantile(0.9, "connection_duration_seconds"),
            },
            "s",
        ),
    ],
    "Calls": [
        Panel(
            "Calls",
            {"{{channel}}.{{action}}": calls("channel, action")},
            "reqps",
        ),
        Panel(
            "Slowest hundredth",
            {"{{channel}}.{{action}}": quantile(0.99, "action_duration_seconds", "channel, action")},
            "s",
        ),
        Panel("Errors by code", {"{{code}}": total("errors", "code")}, "ops"),
        Panel(
            "Calls of actions that have a sunset",
            {"{{channel}}.{{action}}": total("late_calls", "channel, action")},
            "ops",
        ),
    ],
    "Messages": [
        Panel("Messages", {"in": total("received_messages"), "out": total("sent_messages")}, "ops"),
        Panel("Bytes", {"in": total("received_bytes"), "out": total("sent_bytes")}, "Bps"),
        Panel(
            "Clients that do not read",
            {
                "clients": gauge("slow_clients"),
                "{{policy}}": total("dropped_messages", "policy"),
                "cut off": total("cut_off_clients"),
            },
        ),
        Panel(
            "What waits for them",
            {"all": gauge("outbox_bytes"), "the slowest": f"max({P}outbox_max_bytes{OF})"},
            "bytes",
        ),
    ],
    "Behind it": [
        Panel(
            "Broadcasts, until the broker has them",
            {
                "half": quantile(0.5, "publish_duration_seconds"),
                "all but a hundredth": quantile(0.99, "publish_duration_seconds"),
            },
            "s",
        ),
        Panel(
            "Broadcasts that failed, outages",
            {
                "failed": total("publish_failures"),
                "outages": total("broker_outages"),
                "share of the time without": total("broker_outage_seconds"),
            },
        ),
        Panel(
            "How late the event loop is",
            {"process {{process}}": quantile(0.99, "loop_delay_seconds", "process")},
            "s",
        ),
        Panel(
            "Calls of the store",
            {"{{operation}} {{outcome}}": total("store_calls", "operation, outcome")},
            "ops",
        ),
        Panel(
            "How long the store takes",
            {"{{operation}}": quantile(0.99, "store_call_duration_seconds", "operation")},
            "s",
        ),
        Panel("Jobs", {"{{job}} {{outcome}}": total("job_runs", "job, outcome")}, "ops"),
        Panel("How long jobs take", {"{{job}}": quantile(0.99, "job_duration_seconds", "job")}, "s"),
        Panel(
            "Since jobs were last due",
            {"{{job}}": f"time() - max by (job) ({P}job_last_run_timestamp_seconds{OF})"},
            "s",
        ),
        Panel(
            "Until jobs are due",
            {"{{job}}": f"min by (job) ({P}job_next_run_timestamp_seconds{OF}) - time()"},
            "s",
        ),
        Panel(
            "Topics, versions, drains",
            {
                "topics": gauge("topics"),
                "version {{version}}": f"sum by (version) ({P}info{OF})",
                "draining": gauge("draining"),
            },
        ),
    ],
}


def dashboard() -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        panels.append({"type": "row", "title": title, "collapsed": False, "gridPos": place(0, top, 24, 1)})
        top += 1
        width, height = (4, 4) if row[0].kind == "stat" else (12, 8)
        for number, panel in enumerate(row):
            left, down = number * width % 24, number * width // 24 * height
            panels.append(drawn(panel, place(left, top + down, width, height)))
        top += -(-len(row) * width // 24) * height
    for number, panel in enumerate(panels):
        panel["id"] = number + 1
    return {
        "title": "fastapi-channels",
        "uid": "fastapi-channels",
        "tags": ["fastapi-channels"],
        "schemaVersion": 39,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "source", "label": "Source", "type": "datasource", "query": "prometheus"},
                {
                    "name": "process",
                    "label": "Process",
                    "type": "query",
                    "datasource": SOURCE,
                    "query": f"label_values({P}info, process)",
                    "includeAll": True,
                    "multi": True,
                    "allValue": ".*",
                    "refresh": 2,
                },
            ]
        },
        "panels": panels,
    }


SOURCE: Final = {"type": "prometheus", "uid": "${source}"}


def place(x: int, y: int, w: int, h: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": w, "h": h}


def drawn(panel: Panel, where: dict[str, int]) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": where,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for number, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def text() -> str:
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
