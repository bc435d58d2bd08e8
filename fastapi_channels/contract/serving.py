"""The document over HTTP, and the page that shows it."""

from __future__ import annotations

import importlib.util
import json
import logging
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import RLock
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary, ref

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.params import Depends
from starlette._utils import get_route_path

from fastapi_channels.cluster.settings import Settings
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.texts import choose_language

from .assets import FOLDER, HEADERS
from .assets import served as file_served
from .component import Component
from .document import document, encoded

logger = logging.getLogger("fastapi_channels")

_Made = TypeVar("_Made")


def add_document(
    parent: FastAPI | APIRouter,
    url: str,
    settings: Settings,
    dependencies: Sequence[Depends] = (),
    page_url: str | None = None,
    component_url: str | None = None,
) -> None:
    """Serve the document of `parent` at `url`, as YAML beside it where PyYAML is installed, and a page that
    shows it at `page_url`: ours where Jinja2 is installed, or AsyncAPI's component from `component_url`.

    It is made when it is first asked for. An application without `openapi_url` has none: it does not tell
    what it serves.

    Raises:
        ConfigurationError: a URL is no path, or `dependencies` are none.
    """
    check_path("asyncapi_url", url)
    _check_free(parent, "asyncapi_url", url)
    dependencies = checked_dependencies("asyncapi_dependencies", dependencies)
    served = _Served(parent, settings)
    served.add(url, "application/json", served.text, dependencies)
    links = {"json": url}
    if url.endswith(".json") and importlib.util.find_spec("yaml") is not None:
        links["yaml"] = url.removesuffix(".json") + ".yaml"
        served.add(links["yaml"], "application/yaml", served.yaml, dependencies)
    shown = url
    if page_url is not None:
        check_path("asyncapi_docs_url", page_url)
        _check_free(parent, "asyncapi_docs_url", page_url)
        _check_apart(page_url, links)
        page = _page(component_url)
        if page is None:
            logger.info('no page at %s: it needs Jinja2, pip install "fastapi-channels[page]"', page_url)
        else:
            _add_page(served, page, page_url, links, dependencies)
            shown = page_url
    if isinstance(parent, FastAPI) and parent.openapi_url:
        _link(parent, posixpath.relpath(shown, posixpath.dirname(parent.openapi_url)))


def _check_apart(page_url: str, links: Mapping[str, str]) -> None:
    """
    Raises:
        ConfigurationError: the page would stand where the document does.
    """
    if page_url in links.values():
        raise ConfigurationError(
            f"asyncapi_docs_url and asyncapi_url lead both to {page_url!r}: one would hide the other, "
            "give the page a path of its own"
        )


def _check_free(parent: FastAPI | APIRouter, name: str, url: str) -> None:
    """
    Raises:
        ConfigurationError: FastAPI serves something of its own there.
    """
    for own in ("openapi_url", "docs_url", "redoc_url"):
        if url == getattr(parent, own, None):
            raise ConfigurationError(f"{name} and FastAPI's {own} are both {url!r}: give one another path")


def check_path(name: str, url: object) -> None:
    """
    Raises:
        ConfigurationError: it is no path.
    """
    if not isinstance(url, str) or not url.startswith("/") or "{" in url:
        raise ConfigurationError(
            f'{name} must be a path that begins with "/", without parameters, got {url!r}'
        )


def checked_dependencies(name: str, given: Iterable[Depends]) -> tuple[Depends, ...]:
    """Those to use in place of `given`, which may be an iterator, and is empty once it has been read.

    Raises:
        ConfigurationError: they are none.
    """
    found = tuple(given) if isinstance(given, Iterable) else (given,)
    if isinstance(given, Depends) or not all(isinstance(each, Depends) for each in found):
        raise ConfigurationError(f"{name} must be a list of Depends(...), got {given!r}")
    return found


class _Served:
    """The documents that a router serves: one for each application that it is in."""

    def __init__(self, parent: FastAPI | APIRouter, settings: Settings) -> None:
        self._settings = settings
        self._router: Callable[[], Any] = ref(parent.router if isinstance(parent, FastAPI) else parent)
        self._only: Callable[[], Any] = (lambda: None) if isinstance(parent, FastAPI) else self._router
        self._made: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()
        self._lock = RLock()  # what is made of the document asks for that meanwhile

    def kept(self, app: Any, name: str, make: Callable[[], _Made]) -> _Made:
        """What is made once for an application, however many ask for it at once.

        Raises:
            HTTPException: it does not tell what it serves.
        """
        if not app.openapi_url:
            raise HTTPException(404)
        with self._lock:
            made = self._made.setdefault(app, {})
            if name not in made:
                made[name] = make()
            found: _Made = made[name]
            return found

    def text(self, app: Any) -> bytes:
        return self.kept(app, "json", lambda: encoded(document(app, self._settings, self._only())))

    def yaml(self, app: Any) -> bytes:
        return self.kept(app, "yaml", lambda: as_yaml(self.text(app)).encode())

    def route(self, path: str, function: Callable[..., Any], dependencies: Sequence[Depends] = ()) -> None:
        # FastAPI remembers the functions of routes for ever, in a cache: none must keep the router alive.
        router = self._router()
        methods = ["GET", "HEAD"]
        router.add_api_route(
            path, function, methods=methods, include_in_schema=False, dependencies=dependencies
        )

    def add(
        self,
        path: str,
        media_type: str,
        write: Callable[[Any], bytes],
        dependencies: Sequence[Depends],
    ) -> None:
        # Plain, so that it is made in a thread: no client of a WebSocket waits for it.
        def served(request: Request) -> Response:
            return Response(write(request.app), media_type=media_type)

        self.route(path, served, dependencies)


class _Page(Protocol):
    def render(self, document: Mapping[str, Any], language: str, links: Mapping[str, str]) -> str: ...

    def policy(self, document: Mapping[str, Any]) -> str: ...


def _page(component_url: str | None) -> Callable[[], _Page] | None:
    """Where the page is got when it is asked for; None where there is none."""
    if component_url is not None:
        component = Component(component_url)
        return lambda: component
    return None if importlib.util.find_spec("jinja2") is None else _ours


def _ours() -> _Page:
    # Jinja2 takes its time to be imported: not that of an application that starts.
    from . import page

    return page


def _add_page(
    served: _Served,
    page: Callable[[], _Page],
    url: str,
    links: dict[str, str],
    dependencies: Sequence[Depends],
) -> None:
    """The page, and the files that it loads, which tell nothing of the application."""
    files = url.rstrip("/") + "/files"

    # A parameter that FastAPI reads costs each application a validator of pydantic's: a request has it too.
    def show(request: Request) -> Response:
        asked = request.query_params.get("lang", "")
        language = choose_language(asked, request.headers.get("accept-language", ""))
        near = _links(request, url, {**links, "files": files})

        def make() -> tuple[bytes, str]:
            told = json.loads(served.text(request.app))
            return page().render(told, language, near).encode(), page().policy(told)

        # A router may be in an application twice, and not as deep.
        body, policy = served.kept(request.app, f"page {language} {near['root']}", make)
        headers = {**HEADERS, "content-security-policy": policy, "content-language": language}
        return Response(body, media_type="text/html", headers=headers)

    def file(request: Request) -> Response:
        found = file_served(request, request.path_params["name"], FOLDER)
        if found is None or not request.app.openapi_url:
            raise HTTPException(404)
        return found

    served.route(url, show, dependencies)
    served.route(files + "/{name}", file)


def _links(request: Request, url: str, links: dict[str, str]) -> dict[str, str]:
    """What the page leads to, relative to it: so it works behind any prefix."""
    path = get_route_path(request.scope)
    prefix = path.removesuffix(url)
    found = {name: prefix + link for name, link in links.items()} | {"root": "/"}
    if request.app.docs_url:
        found["http"] = request.app.docs_url
    folder = path.rpartition("/")[0] or "/"
    return {name: posixpath.relpath(link, folder) for name, link in found.items()}


def _link(app: FastAPI, near: str) -> None:
    """Have FastAPI's /docs show where that is, unless they show something else there.

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
    """The document as YAML.

    Raises:
        ConfigurationError: PyYAML is not installed.
    """
    text: str = _yaml().safe_dump(json.loads(body), sort_keys=False, allow_unicode=True)
    return text


def from_yaml(text: str) -> Any:
    """What YAML says.

    Raises:
        ConfigurationError: PyYAML is not installed.
        ValueError: it cannot be read.
    """
    yaml = _yaml()
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise ValueError(str(exc)) from None


def _yaml() -> Any:
    try:
        import yaml  # type: ignore[import-untyped]  # it has no types
    except ModuleNotFoundError:
        raise ConfigurationError("YAML needs PyYAML: pip install pyyaml") from None
    return yaml
