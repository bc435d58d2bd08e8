"""AsyncAPI's own React component in place of the page, from where it is published."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi_channels.exceptions import ConfigurationError

_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>{title} · AsyncAPI</title>
  <link rel="icon" href="data:,">
  <link rel="stylesheet" href="{component}/styles/default.min.css">
  <script src="{component}/browser/standalone/index.js" defer></script>
  <script src="{files}/component.js" defer></script>
</head>
<body>
  <div id="asyncapi" data-document="{json}"></div>
</body>
</html>
"""


class Component:
    """
    Args:
        url: of the folder that npm's package `@asyncapi/react-component` has, on any server, or a path on
            this one.

    Raises:
        ConfigurationError: that is no address.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url if isinstance(url, str) else "")
        is_path = parts[:2] == ("", "") and parts.path.startswith("/")
        if not is_path and not (parts.scheme in ("http", "https") and parts.hostname):
            raise ConfigurationError(
                "asyncapi_component_url must be the address of @asyncapi/react-component, such as "
                f"https://unpkg.com/@asyncapi/react-component@3.2.1, got {url!r}"
            )
        self._url = url.rstrip("/")
        self._sources = "'self'" if is_path else f"'self' {parts.scheme}://{parts.netloc}"

    def render(self, document: Mapping[str, Any], language: str, links: Mapping[str, str]) -> str:
        """The page; in English, whatever the language."""
        found = {"title": document["info"]["title"], "component": self._url, **links}
        return _PAGE.format(**{name: escape(value) for name, value in found.items()})

    def policy(self, document: Mapping[str, Any]) -> str:
        """Its Content-Security-Policy. The component makes code of schemas, and sets styles of elements."""
        return (
            f"default-src 'none'; script-src {self._sources} 'unsafe-eval'; "
            f"style-src {self._sources} 'unsafe-inline'; font-src {self._sources} data:; "
            "img-src data: https:; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
