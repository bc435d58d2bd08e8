"""`fastapi-channels doctor`: says whether broker and store work, and which processes hear what is sent."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import time
from typing import Any

from fastapi_channels.cluster.orders import Probe
from fastapi_channels.cluster.outside import Outside
from fastapi_channels.stores import Store
from fastapi_channels.wire.messages import Publication, decode_json
from fastapi_channels.wire.rooms import RESERVED, node_topic

from .broker import add_broker, add_store, outside_of
from .processes import UNHEARD, add_wait


def add(commands: Any) -> None:
    """Tell the parser's `commands` of this one."""
    parser = commands.add_parser("doctor", help="probe broker, store and processes; 1 if none hears it")
    add_broker(parser)
    add_store(parser)
    add_wait(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    reports = _Reports()
    return asyncio.run(_examine(outside_of(given, reports.take), reports, given.wait))


async def _examine(outside: Outside, reports: _Reports, wait: float) -> int:
    me = secrets.token_hex(6)
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
        await _ask(outside.sender.store)
        reports.began = time.perf_counter()
        await outside.sender.order(Probe(asker=me))
        await asyncio.sleep(wait)
    finally:
        await outside.close()
    print(f"processes: {reports.heard} heard it within {wait:g} s")
    return 0 if reports.heard else UNHEARD


async def _ask(store: Store | None) -> None:
    """
    Raises:
        StoreUnavailable: it does not answer.
    """
    if store is None:
        print("store: none, so there is no history, and nobody counts over processes")
        return
    began = time.perf_counter()
    await store.count(RESERVED + "doctor")
    print(f"store: answered in {_since(began)}")


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
            described = _described(report["node"], report["answer"])
            print(f"process {described}, after {_since(self.began)}")


def _described(node: str, report: dict[str, Any]) -> str:
    state = "ready" if report["ready"] else "draining" if report["draining"] else "not ready"
    where = f"{node} (host {report['host']!r}, pid {report['pid']})"
    return f"{where}: {state}, {report['connections']} connections in {report['rooms']} rooms"


def _since(began: float) -> str:
    return f"{1000 * (time.perf_counter() - began):.1f} ms"
