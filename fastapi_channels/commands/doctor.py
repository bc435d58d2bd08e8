"""`fastapi-channels doctor`: says whether broker and store work, which processes hear what is sent, and what
there is to be said of an application that does not run."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import time
from typing import Any, Final

from fastapi_channels.cluster.orders import Probe
from fastapi_channels.cluster.outside import Outside
from fastapi_channels.stores import Store
from fastapi_channels.wire.messages import Publication, decode_json
from fastapi_channels.wire.rooms import RESERVED, node_topic

from .application import load
from .broker import VARIABLE, add_broker, add_store, outside_of
from .examination import examine
from .processes import UNHEARD, add_wait
from .top import table

NOT_BACK: Final = "broker: no message comes back: may this user of it publish and subscribe to all channels?"
UNHEARD_BY_ALL: Final = (
    "Does one run? Then say its own URL and --namespace; one with memory:// hears nobody outside of it."
)


def add(commands: Any) -> None:
    """Tell the parser's `commands` of this one."""
    parser = commands.add_parser(
        "doctor", help="probe broker, store and processes; 1 if none hears it, or something is wrong"
    )
    parser.add_argument("--app", help="look at the settings of an application too: module:name")
    add_broker(parser)
    add_store(parser)
    add_wait(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    status = 0
    if given.app is not None:
        found = list(examine(load(given.app)))
        for line in table(found).splitlines():
            print(line.rstrip())
        status = UNHEARD if any(each.state == "wrong" for each in found) else 0
        if not given.url and VARIABLE not in os.environ:
            return status
    reports = _Reports()
    return asyncio.run(_examine(outside_of(given, reports.take), reports, given.wait)) or status


async def _examine(outside: Outside, reports: _Reports, wait: float) -> int:
    me = secrets.token_hex(6)
    try:
        began = time.perf_counter()
        await outside.subscribe(node_topic(me))
        print(f"broker: connected and subscribed in {_since(began)}")
        began = time.perf_counter()
        await outside.sender.report(me, "{}")
        returned = reports.received > 0
        print(f"broker: a message came back in {_since(began)}" if returned else NOT_BACK)
        await _ask(outside.sender.store)
        reports.began = time.perf_counter()
        await outside.sender.order(Probe(asker=me))
        await asyncio.sleep(wait)
    finally:
        await outside.close()
    print(f"processes: {reports.heard} heard it within {wait:g} s")
    if len(reports.versions) > 1:
        print(
            f"versions: the processes run {', '.join(sorted(reports.versions))}: end those of the older one"
        )
    if not reports.heard:
        print(UNHEARD_BY_ALL)
    return 0 if reports.heard else UNHEARD


async def _ask(store: Store | None) -> None:
    """
    Raises:
        StoreUnavailable: it does not answer.
    """
    if store is None:
        print(
            "store: none, so there is no history, and nobody counts over processes: "
            "give --store-url, where the application has one"
        )
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
        self.versions: set[str] = set()
        """Of this package, where the processes say it."""

    def take(self, publication: Publication) -> None:
        self.received += 1
        report = decode_json(publication.body)
        if "node" in report:
            self.heard += 1
            self.versions.update(filter(None, [report["answer"].get("version")]))
            described = _described(report["node"], report["answer"])
            print(f"process {described}, after {_since(self.began)}")


def _described(node: str, report: dict[str, Any]) -> str:
    state = "ready" if report["ready"] else "draining" if report["draining"] else "not ready"
    where = f"{node} (host {report['host']!r}, pid {report['pid']})"
    return f"{where}: {state}, {report['connections']} connections in {report['rooms']} rooms"


def _since(began: float) -> str:
    return f"{1000 * (time.perf_counter() - began):.1f} ms"
