"""An application for the server processes of test_spans, which writes its spans to its output."""

from __future__ import annotations

import os

from fastapi import FastAPI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from fastapi_channels import Channel, Tracing, add_channel

SPAN = "SPAN "
"""Begins each line with a span."""


class Kept(Channel):
    history = 10


def create_app() -> FastAPI:
    exporter = ConsoleSpanExporter(formatter=lambda span: f"{SPAN}{span.to_json(indent=None)}\n")
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = FastAPI()
    add_channel(
        app, url=os.environ["REDIS_URL"], namespace=os.environ["NAMESPACE"], tracing=Tracing(provider)
    )
    Channel().mount(app, "/rooms/{channel}")
    Kept().mount(app, "/kept/{channel}")
    return app
