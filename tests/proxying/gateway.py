"""A gateway to other servers. Run by itself, its memory can be looked at."""

from __future__ import annotations

import os
from typing import Any, Final

from fastapi import FastAPI

from fastapi_channels import add_channel
from fastapi_channels.proxying import WebSocketProxy

MB: Final = 1024 * 1024


class Large(WebSocketProxy):
    max_message_size = 16 * MB


def gateway(proxy: WebSocketProxy, path: str = "/", **settings: Any) -> FastAPI:
    app = FastAPI()
    add_channel(app, **settings)
    proxy.mount(app, path)
    return app


def create_app() -> FastAPI:
    """One to each of some, at `/0`, `/1` and so on."""
    app = FastAPI()
    add_channel(app)
    for number, target in enumerate(os.environ["TARGETS"].split()):
        Large(target).mount(app, f"/{number}")
    return app
