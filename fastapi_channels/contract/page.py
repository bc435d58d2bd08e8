"""The page that shows the document, and tries what it says; it needs Jinja2."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from pydantic_core import to_json

from .assets import FOLDER
from .parsed import numeral
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
        "words": _Words(language),
        "language": language,
        "links": links,
        "texts": _island(_texts()),
        "in_json": lambda value: to_json(value, indent=2, inf_nan_mode="null").decode(),
        "console": _island(view.console()),
    }
    return _templates().get_template("page.html").render(found)


def policy(document: Mapping[str, Any]) -> str:
    """The Content-Security-Policy of the page: nothing from elsewhere, and no WebSocket but to this server
    and those that the document names."""
    servers = [f"{each['protocol']}://{each['host']}" for each in document.get("servers", {}).values()]
    reached = " ".join(dict.fromkeys(["'self'", *servers]))
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
        f"connect-src {reached}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class _Words:
    """Texts in one language, each with its key, so that the page can be translated where it stands."""

    def __init__(self, language: str) -> None:
        self._texts = _texts()[language]

    def has(self, key: str) -> bool:
        return key in self._texts

    def plain(self, key: str, **values: Any) -> str:
        text = self._texts[key]
        for name, value in values.items():
            text = text.replace("{" + name + "}", str(value))
        return text

    def __call__(self, key: str, **values: Any) -> Markup:
        """An element that shows the text of `key`."""
        given = Markup(" data-values='{}'").format(json.dumps(values, default=str)) if values else ""
        mark = Markup('<span data-text="{}"{}>{}</span>')
        return mark.format(key, given, self.plain(key, **values))


def _island(value: Any) -> Markup:
    """JSON that can stand in a script element, whatever is in it."""
    text = to_json(value, inf_nan_mode="null", fallback=lambda each: type(each).__name__).decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  # nothing in it can end the element


@cache
def _texts() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads((FOLDER / "texts.json").read_text(encoding="utf-8"))
    return found


@cache
def _templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["numeral"] = numeral
    return found
