"""The page that shows the document, and tries what it says; it needs Jinja2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from .templates import island, strict
from .templates import render as rendered
from .view import View


def render(document: Mapping[str, Any], language: str, links: Mapping[str, str]) -> str:
    """The page in one language.

    Args:
        links: `files`, where those of `assets` are served; `json` and `yaml`, the document; `http`, the
            page of FastAPI. Relative ones, so that it works behind any prefix.
    """
    view = View(document)
    found = {
        "view": view,
        "links": links,
        "in_json": lambda value: to_json(value, indent=2, inf_nan_mode="null").decode(),
        "console": island(view.console()),
    }
    return rendered("page.html", language, found)


def policy(document: Mapping[str, Any]) -> str:
    """The Content-Security-Policy of the page: nothing from elsewhere, and no WebSocket but to this server
    and those that the document names."""
    servers = [f"{each['protocol']}://{each['host']}" for each in document.get("servers", {}).values()]
    return strict(*servers)
