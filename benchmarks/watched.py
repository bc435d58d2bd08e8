"""What it costs an action, and a broadcast, that somebody watches: metrics, and traces in three ways.

    python -m benchmarks.watched

One client in process, without a server. Each way has its turn in each round, so that a machine whose speed
changes does so for all; what is shown is the best of them, in microseconds.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from fastapi import FastAPI
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from prometheus_client import CollectorRegistry

from fastapi_channels import Channel, Connection, Tracing, action, add_channel
from fastapi_channels.testing.asgi import living, scope

ROUNDS: Final = 15
CALLS: Final = 1000


class Room(Channel):
    @action()
    async def nothing(self) -> None:
        pass

    @action()
    async def say(self, text: str, connection: Connection) -> None:
        await self.broadcast(connection.room, "said", text)


class Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass


def recorded() -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere(), max_queue_size=10 * CALLS))
    return provider


WAYS: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "nobody": dict,
    "metrics": lambda: {"metrics": CollectorRegistry()},
    "traces, no SDK": lambda: {"tracing": True},
    "traces, not sampled": lambda: {
        "tracing": Tracing(TracerProvider(sampler=ParentBased(ALWAYS_OFF))),
    },
    "traces, recorded": lambda: {"tracing": Tracing(recorded())},
}


async def burst(settings: dict[str, Any], name: str) -> float:
    """Seconds for one call."""
    app = FastAPI()
    add_channel(app, **settings)
    Room().mount(app, "/{channel}")
    frame = json.dumps({"action": name, "text": 100 * "x"})
    incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    accepted = asyncio.Event()

    async def send(event: Any) -> None:
        accepted.set()

    incoming.put_nowait({"type": "websocket.connect"})
    async with living(app):
        client = asyncio.create_task(app(scope("/a"), incoming.get, send))
        await accepted.wait()
        for _ in range(CALLS):
            incoming.put_nowait({"type": "websocket.receive", "text": frame})
        incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
        gc.collect()
        gc.disable()
        began = time.perf_counter()
        await client
        gc.enable()
        return (time.perf_counter() - began) / CALLS


def main() -> None:
    for name in ("nothing", "say"):
        best = dict.fromkeys(WAYS, float("inf"))
        for _ in range(ROUNDS):
            for way, settings in WAYS.items():
                best[way] = min(best[way], asyncio.run(burst(settings(), name)))
        print(name)
        for way, seconds in best.items():
            print(f"  {way:<20} {1e6 * seconds:6.1f} us  {1e6 * (seconds - best['nobody']):+6.2f}")


if __name__ == "__main__":
    main()
