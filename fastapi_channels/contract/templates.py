"""What pages are made from: templates, and texts in each language. It needs Jinja2."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from pydantic_core import to_json

from .assets import FOLDER
from .parsed import numeral


def render(template: str, language: str, found: Mapping[str, Any], *folders: Path) -> str:
    """A page in one language.

    Args:
        found: what the template names, beside `words`, `language` and `texts`.
        folders: where it is, and its texts, before those that all pages share.
    """
    texts = texts_of(*folders, FOLDER)
    given = {"words": Words(texts[language]), "language": language, "texts": island(texts)}
    return _templates(*folders, FOLDER).get_template(template).render({**given, **found})


class Words:
    """Texts in one language, each with its key, so that the page can be translated where it stands."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

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


def island(value: Any) -> Markup:
    """JSON that can stand in a script element, whatever is in it."""
    text = to_json(value, inf_nan_mode="null", fallback=lambda each: type(each).__name__).decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  # nothing in it can end the element


def strict(*reached: str) -> str:
    """The policy of a page that has nothing from elsewhere, and speaks to this server and those `reached`."""
    sources = " ".join(dict.fromkeys(["'self'", *reached]))
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
        f"connect-src {sources}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@cache
def texts_of(*folders: Path) -> dict[str, dict[str, str]]:
    """By language, then by key: those of the first folder before those of the others."""
    read = [json.loads((folder / "texts.json").read_text(encoding="utf-8")) for folder in reversed(folders)]
    return {
        language: {key: text for each in read for key, text in each[language].items()} for language in read[0]
    }


@cache
def _templates(*folders: Path) -> Environment:
    found = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["numeral"] = numeral
    return found
