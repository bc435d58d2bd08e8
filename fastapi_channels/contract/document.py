"""The AsyncAPI 3.0 document of an application."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic_core import to_json

from fastapi_channels.cluster.settings import Settings

from .address import Address
from .parts import Parts, filled, unique
from .schemas import Schemas
from .served import Endpoint, endpoints

__all__ = ["document"]

VERSION: Final = "3.0.0"
_SCHEMES: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def document(app: Any, settings: Settings | None = None, only: Any = None) -> dict[str, Any]:
    """What `app` serves over WebSockets, as AsyncAPI 3.0.

    Args:
        app: the FastAPI application.
        settings: what `add_channel` was told.
        only: a router, for a document of its endpoints alone.
    """
    served = list(endpoints(app, only))
    schemas = Schemas()
    _addressed(served, Parts(schemas, settings or Settings()))  # only to ask for the schemas
    schemas.generate()
    parts = _addressed(served, Parts(schemas, settings or Settings()))
    components = {
        "schemas": schemas.components,
        "messages": parts.messages.parts,
        "securitySchemes": parts.security.parts,
    }
    servers = _servers(app)
    return {
        "asyncapi": VERSION,
        "info": _info(app),
        "defaultContentType": "application/json",
        **({"servers": servers} if servers else {}),
        "channels": parts.channels,
        "operations": parts.operations,
        "components": filled(components),
    }


def encoded(document: dict[str, Any]) -> bytes:
    """The document as JSON: the same bytes for the same program."""
    return to_json(document, indent=2, inf_nan_mode="null", fallback=lambda value: type(value).__name__)


def _addressed(served: Iterable[Endpoint], parts: Parts) -> Parts:
    for endpoint in served:
        name = unique(type(endpoint.owner).__name__, parts.channels)
        parts.channels[name] = Address(parts, name, endpoint).described()
    return parts


def _info(app: Any) -> dict[str, Any]:
    found = {"title": app.title, "version": app.version, "description": app.description}
    found |= {"termsOfService": app.terms_of_service, "contact": app.contact, "license": app.license_info}
    return {"title": "FastAPI", "version": "0.1.0", **filled(found)}


def _servers(app: Any) -> dict[str, Any]:
    """The servers that the application names, by their absolute addresses."""
    found: dict[str, Any] = {}
    for server in app.servers or ():
        url = urlsplit(str(server.get("url", "")))
        if url.scheme in _SCHEMES and url.hostname:
            said = {"pathname": url.path.rstrip("/"), "description": server.get("description")}
            found[unique(url.hostname, found)] = {
                "host": url.netloc.rpartition("@")[2],
                "protocol": _SCHEMES[url.scheme],
                **filled(said),
            }
    return found
