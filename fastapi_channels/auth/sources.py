"""Where a handshake, or a request, may bring credentials: FastAPI's security schemes, and one more."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, cast

from fastapi.openapi.models import APIKey, APIKeyIn
from fastapi.security import APIKeyQuery, HTTPAuthorizationCredentials
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.sessions.http import BEARER, offered_subprotocols
from fastapi_channels.signatures.callables import awaited

LOGGERS: Final = (
    "uvicorn.access",
    "uvicorn.error",
    "gunicorn.access",
    "hypercorn.access",
    "fastapi_channels",
)
"""Those that write down URLs."""


class BearerSubprotocol(SecurityBase):
    """A token among the subprotocols that a browser offers, as `bearer.` and the token.

    `new WebSocket(url, ["app", "bearer." + token])` is all that a page can say beside the URL. The token is
    never what the server chooses: the first that does not begin with `bearer.` is.
    """

    def __init__(self, *, scheme_name: str = "BearerSubprotocol", description: str | None = None) -> None:
        said = description or f"Offered as `{BEARER}` and the token, beside a subprotocol that is none."
        where: dict[str, Any] = {"in": APIKeyIn.header}
        self.model = APIKey(**where, name="Sec-WebSocket-Protocol", description=said)
        self.scheme_name = scheme_name

    async def __call__(self, request: HTTPConnection) -> str | None:
        tokens = [name for name in offered_subprotocols(request) if name.startswith(BEARER)]
        # Of several it is not known which is meant, and none of them holds.
        return ",".join(tokens).removeprefix(BEARER) or None


def lenient(sources: Sequence[SecurityBase]) -> tuple[SecurityBase, ...]:
    """`sources`, so that each answers None where it finds nothing: the next one may find something.

    Raises:
        ConfigurationError: one of them is no security scheme of FastAPI.
    """
    return tuple(map(_lenient, sources))


async def brought(sources: Iterable[SecurityBase], connection: HTTPConnection) -> Any:
    """What the first of `sources` that finds anything has found; None where none does."""
    for source in sources:
        found = plain(await awaited(cast("Callable[..., Any]", source)(connection)))
        if found:
            return found
    return None


def plain(found: Any) -> Any:
    """Credentials as verifiers get them: the token itself, where there is one."""
    return found.credentials if isinstance(found, HTTPAuthorizationCredentials) else found


def redact(sources: Iterable[SecurityBase]) -> None:
    """Keep out of the logs what `sources` read from the URL."""
    names = [source.model.name for source in sources if isinstance(source, APIKeyQuery)]
    if names:
        hide = _Redaction(names)
        for name in LOGGERS:
            logging.getLogger(name).addFilter(hide)


class _Redaction(logging.Filter):
    """Takes the values of some query parameters out of what is logged."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self._found = re.compile(rf"([?&](?:{'|'.join(map(_spellings, names))})=)[^&\s\"'#]+")

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = self._clean(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(map(self._clean, record.args))
        elif isinstance(record.args, dict):
            record.args = {name: self._clean(value) for name, value in record.args.items()}
        return True

    def _clean(self, value: Any) -> Any:
        return self._found.sub(r"\1REDACTED", value) if isinstance(value, str) else value


def _spellings(name: str) -> str:
    """A pattern of how a URL may write `name`: any character of it as it is, or as %XX; a space as +."""
    found = ""
    for char in name:
        encoded = "".join(f"%{byte:02x}" for byte in char.encode())
        found += f"(?:{re.escape(char)}|(?i:{encoded}){'|[+]' * (char == ' ')})"
    return found


def _lenient(source: SecurityBase) -> SecurityBase:
    if not isinstance(source, SecurityBase) or not callable(source):
        raise ConfigurationError(
            "a source of credentials is a security scheme of FastAPI, such as HTTPBearer() or "
            f'APIKeyCookie(name="token"), or a BearerSubprotocol(), got {source!r}'
        )
    if getattr(source, "auto_error", False):
        source = copy.copy(source)
        source.auto_error = False  # type: ignore[attr-defined]  # each of FastAPI's has it
    return source
