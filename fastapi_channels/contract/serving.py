"""The document over HTTP."""

from __future__ import annotations

import importlib.util
import json
import posixpath
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary, ref

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.params import Depends

from fastapi_channels.cluster.settings import Settings
from fastapi_channels.exceptions import ConfigurationError

from .document import document, encoded


def add_document(
    parent: FastAPI | APIRouter, url: str, settings: Settings, dependencies: Sequence[Depends] = ()
) -> None:
    """Serve the document of `parent` at `url`, and as YAML beside it where PyYAML is installed.

    It is made when it is first asked for. An application without `openapi_url` has none: it does not tell
    what it serves.

    Raises:
        ConfigurationError: `url` is no path, or `dependencies` are none.
    """
    if not isinstance(url, str) or not url.startswith("/"):
        raise ConfigurationError(f"asyncapi_url must be a path such as /asyncapi.json, or None, got {url!r}")
    if isinstance(dependencies, Depends) or not all(isinstance(each, Depends) for each in dependencies):
        raise ConfigurationError(
            f"asyncapi_dependencies must be a list of Depends(...), got {dependencies!r}"
        )
    router = parent.router if isinstance(parent, FastAPI) else parent
    # FastAPI remembers the functions of routes for ever, in a cache: this one must not keep the router alive.
    only: Callable[[], Any] = (lambda: None) if isinstance(parent, FastAPI) else ref(parent)
    made: WeakKeyDictionary[Any, bytes] = WeakKeyDictionary()

    def text(app: Any) -> bytes:
        if not app.openapi_url:
            raise HTTPException(404)
        if app not in made:
            made[app] = encoded(document(app, settings, only()))
        return made[app]

    def add(path: str, media_type: str, write: Callable[[bytes], bytes | str]) -> None:
        # Plain, so that it is made in a thread: no client of a WebSocket waits for it.
        def served(request: Request) -> Response:
            return Response(write(text(request.app)), media_type=media_type)

        router.add_api_route(path, served, include_in_schema=False, dependencies=dependencies)

    add(url, "application/json", lambda body: body)
    if isinstance(parent, FastAPI) and parent.openapi_url:
        _link(parent, posixpath.relpath(url, posixpath.dirname(parent.openapi_url)))
    if url.endswith(".json") and importlib.util.find_spec("yaml") is not None:
        add(url.removesuffix(".json") + ".yaml", "application/yaml", as_yaml)


def _link(app: FastAPI, near: str) -> None:
    """Have FastAPI's /docs show where the document is, unless they show something else there.

    Args:
        near: relative to the OpenAPI document, so that it holds behind a proxy. FastAPI's own argument for
            it takes whole addresses alone.
    """
    original = app.openapi

    def openapi() -> dict[str, Any]:
        found = original()
        found.setdefault("externalDocs", {"description": "The WebSockets of this application", "url": near})
        return found

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI has it extended


def as_yaml(body: bytes) -> str:
    """The document as YAML; needs PyYAML."""
    import yaml  # type: ignore[import-untyped]  # it has no types

    text: str = yaml.safe_dump(json.loads(body), sort_keys=False, allow_unicode=True)
    return text


def from_yaml(text: str) -> Any:
    """What YAML says; needs PyYAML.

    Raises:
        ValueError: it cannot be read.
    """
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise ValueError(str(exc)) from None
