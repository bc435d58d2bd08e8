"""`fastapi-channels doctor`: says whether the broker works, and which processes hear what is sent over it."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import time
from typing import Any

from fastapi_channels.brokers import create_backend
from fastapi_channels.cluster.orders import Probe
from fastapi_channels.cluster.outside import Outside
from fastapi_channels.wire.messages import Publication, decode_json
from fastapi_channels.wire.rooms import node_topic

from .broker import add_broker, url_of

UNHEARD = 1
"""The exit status where no process has heard the probe."""


def add(commands: Any) -> None:
    """Tell the parser's `commands` of this one."""
    parser = commands.add_parser("doctor", help="probe the broker, and the processes; 1 if none hears it")
    add_broker(parser)
    parser.add_argument("--wait", type=float, default=1.0, help="seconds for the processes to answer; 1")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    return asyncio.run(_examine(url_of(given), given.namespace, given.wait))


async def _examine(url: str, namespace: str, wait: float) -> int:
    me, reports = secrets.token_hex(6), _Reports()
    outside = Outside(create_backend(url), reports.take, namespace=namespace)
    try:
        began = time.perf_counter()
        await outside.subscribe(node_topic(me))
        print(f"broker: connected and subscribed in {_since(began)}")
        began = time.perf_counter()
        await outside.sender.report(me, "{}")
        returned = reports.received > 0
        print(
            f"broker: a message came back in {_since(began)}" if returned else "broker: no message comes back"
        )
        reports.began = time.perf_counter()
        await outside.sender.order(Probe(asker=me))
        await asyncio.sleep(wait)
    finally:
        await outside.close()
    print(f"processes: {reports.heard} heard it within {wait:g} s")
    return 0 if reports.heard else UNHEARD


class _Reports:
    """What the processes say of themselves, printed as it comes."""

    def __init__(self) -> None:
        self.began = 0.0
        self.received = 0
        self.heard = 0

    def take(self, publication: Publication) -> None:
        self.received += 1
        report = decode_json(publication.body)
        if "node" in report:
            self.heard += 1
            print(f"process {_described(report)}, after {_since(self.began)}")


def _described(report: dict[str, Any]) -> str:
    state = "ready" if report["ready"] else "draining" if report["draining"] else "not ready"
    where = f"{report['node']} (host {report['host']!r}, pid {report['pid']})"
    return f"{where}: {state}, {report['connections']} connections in {report['rooms']} rooms"


def _since(began: float) -> str:
    return f"{1000 * (time.perf_counter() - began):.1f} ms"
