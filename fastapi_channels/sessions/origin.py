"""Which web pages may open a connection: the answer to cross-site WebSocket hijacking.

Cookies are sent with every handshake, whatever page begins it, and CORS does not cover WebSockets; the
Origin header, which a page cannot choose, is all there is (RFC 6455 section 10.2).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from typing import Final, NoReturn
from urllib.parse import SplitResult, urlsplit

from starlette.requests import HTTPConnection

from fastapi_channels.cluster.node import Node
from fastapi_channels.exceptions import ConfigurationError, PermissionDenied

_PORTS: Final = {"http": 80, "https": 443}


class OriginDenied(PermissionDenied):
    """The page that began the handshake is not among the allowed origins."""

    error_code = "origin_denied"


def check_origin(websocket: HTTPConnection, node: Node, log: logging.LoggerAdapter[logging.Logger]) -> None:
    """Let a handshake pass, or log how to let it, once for each origin.

    Raises:
        OriginDenied: the page behind it may not connect.
    """
    allowed = node.settings.allowed_origins
    if origin_allowed(websocket, allowed):
        return
    origin = websocket.headers.get("origin", "")[:200]
    if node.refused_origins.is_new(origin):
        log.warning(how_to_allow(websocket, allowed))
    raise OriginDenied(context={"origin": origin})


def parse_origins(values: Iterable[str] | None) -> frozenset[str] | None:
    """`allowed_origins`, checked: `scheme://host[:port]`, `scheme://*.domain`, or `*` for every page."""
    if values is None:
        return None
    if isinstance(values, str):
        raise ConfigurationError(f"allowed_origins must be a list of origins, got the text {values!r}")
    return frozenset(map(_check, values))


def origin_allowed(websocket: HTTPConnection, allowed: Collection[str] | None) -> bool:
    """Whether the page behind a handshake may connect.

    A client that sends no Origin is not a browser, but for a GET whose answer its page cannot read, such as
    that of an image: browsers say then from where it comes (Fetch Metadata). With `allowed` None the origin
    must have the host and port that the client addressed; behind a proxy that rewrites Host, name the origins
    instead.
    """
    origins = [value.decode("latin-1") for name, value in websocket.scope["headers"] if name == b"origin"]
    if allowed is not None and "*" in allowed:
        return True
    if not origins:
        return websocket.headers.get("sec-fetch-site") not in ("cross-site", "same-site")
    origin = _parse(origins[0]) if len(origins) == 1 else None
    if origin is None or origin.hostname is None:
        return False
    if allowed is None:
        return _same_host(origin, websocket.headers.get("host", ""))
    return _normal(origin) in allowed or any(
        f"{origin.scheme}://*.{parent}" in allowed for parent in _parents(origin)
    )


def refuse_origin(
    websocket: HTTPConnection, node: Node, log: logging.LoggerAdapter[logging.Logger]
) -> NoReturn:
    """
    Raises:
        OriginDenied: always.
    """
    origin = websocket.headers.get("origin", "")[:200]
    if node.refused_origins.is_new(origin):
        log.warning(how_to_allow(websocket, node.settings.allowed_origins))
    raise OriginDenied(context={"origin": origin})


def how_to_allow(websocket: HTTPConnection, allowed: Collection[str] | None) -> str:
    """What to write in add_channel(), so that the page whose handshake was refused may connect."""
    text = websocket.headers.get("origin", "")[:200]
    host = websocket.headers.get("host", "")[:200]
    told = f"a page of {text!r} may not connect to {host!r}"
    try:
        origin = _check(text)
    except ConfigurationError:
        return f"{told}: it has no origin that could be allowed; serve the page over http or https"
    if allowed is None:
        # A list takes the place of the server's own origin.
        secure = websocket.scope.get("scheme") in ("wss", "https")
        allowed = (f"{'https' if secure else 'http'}://{host}",)
    return f"{told}: add_channel(…, allowed_origins={[*sorted(allowed), origin]}) lets it in"


def _parse(text: str) -> SplitResult | None:
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018  reading it validates it
    except ValueError:
        return None
    more = parts.path or parts.query or parts.fragment or "@" in parts.netloc or "*" in parts.netloc
    return parts if parts.scheme and not more else None


def _same_host(origin: SplitResult, host: str) -> bool:
    address = _parse(f"{origin.scheme}://{host}")
    return address is not None and _normal(address) == _normal(origin)


def _normal(origin: SplitResult) -> str:
    """The origin in lower case and without its default port (RFC 6454 section 6.2)."""
    host = origin.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = origin.port
    suffix = "" if port is None or port == _PORTS.get(origin.scheme) else f":{port}"
    return f"{origin.scheme}://{host}{suffix}"


def _parents(origin: SplitResult) -> list[str]:
    """The domains above the origin's host, with its port where that is not the default."""
    host = _normal(origin).partition("://")[2]
    labels = host.split(".")
    return [".".join(labels[n:]) for n in range(1, len(labels))]


def _check(value: str) -> str:
    if value == "*":
        return value
    if not isinstance(value, str):
        raise ConfigurationError(
            f"an origin is a text, got {value!r}: is a variable of the environment not set?"
        )
    origin = _parse(value.rstrip("/").replace("://*.", "://", 1))
    if origin is None or not origin.hostname or not origin.hostname.isascii():
        raise ConfigurationError(
            'an origin looks like "https://example.com" or "https://*.example.com", with the name as '
            f'browsers send it ("xn--bcher-kva.example"), got {value!r}'
        )
    return _normal(origin).replace("://", "://*." if "://*." in value else "://", 1)
