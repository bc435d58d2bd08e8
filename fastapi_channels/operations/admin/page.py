"""The page: what the routes show and do, for operators who have a browser. It needs Jinja2."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.params import Depends

from fastapi_channels.cluster.node import Node
from fastapi_channels.contract.assets import FOLDER as SHARED
from fastapi_channels.contract.assets import HEADERS, served
from fastapi_channels.contract.document import document
from fastapi_channels.contract.view import View
from fastapi_channels.texts import choose_language

from .channels import Channels

logger = logging.getLogger("fastapi_channels.admin")

FOLDER: Final = Path(__file__).with_name("browser")


def add_page(
    router: APIRouter,
    app: FastAPI,
    node: Node,
    channels: Channels,
    guards: Sequence[Depends],
    *,
    read_only: bool,
) -> None:
    """
    Args:
        guards: of its files. The page itself may be opened by a link from anywhere: whoever leads there reads
            nothing of it, and cannot frame it.
    """
    if importlib.util.find_spec("jinja2") is None:
        logger.info('no page for operators: it needs Jinja2, pip install "fastapi-channels[page]"')
        return

    forms: dict[str, Any] = {}  # made when the page is first asked for: a large application takes a while

    # Plain, so that it is made in a thread: no client of a WebSocket waits for it.
    @router.get("/", include_in_schema=False)
    def show(request: Request, lang: str | None = None) -> Response:
        from fastapi_channels.contract.templates import island, render, strict  # Jinja2 takes its time

        language = choose_language(lang or "", request.headers.get("accept-language", ""))
        if not forms:
            forms.update(_forms(app, node, channels))
        found = {
            "title": app.title,
            "read_only": read_only,
            "admin": island({"readOnly": read_only, "forms": forms}),
        }
        headers = {
            **HEADERS,
            "cache-control": "no-store",
            "content-security-policy": strict(),
            "content-language": language,
        }
        return Response(
            render("admin.html", language, found, FOLDER), media_type="text/html", headers=headers
        )

    @router.get("/files/{name}", include_in_schema=False, dependencies=guards)
    def file(request: Request, name: str) -> Response:
        found = served(request, name, FOLDER, SHARED)
        if found is None:
            raise HTTPException(404)
        return found


def _forms(app: FastAPI, node: Node, channels: Channels) -> dict[str, Any]:
    """What the page makes the forms of events from: of each channel its events, with their schemas."""
    view = View(document(app, node.settings))
    events: dict[str, dict[str, Any]] = {}
    for address in view.addresses:
        for each in address.groups["events"]:
            channel = each.said.get("channel") or address.title
            if not each.open:
                events.setdefault(channel, {})[each.name] = {"about": each.about, "payload": each.payload}
    reports = [{**report.model_dump(), "forms": events.get(report.name, {})} for report in channels.reports()]
    return {"schemas": view.schemas, "channels": reports}
