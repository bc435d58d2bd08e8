"""Where a proxy connects to: a URL of its developer's, with places for what the client's own path says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from fastapi_channels.exceptions import ConfigurationError, NotFound

_PLACE: Final = re.compile(r"\{(\w+)\}")
_PLAIN: Final = "~!$&'()*+,=:@"
"""What a segment of a path may have as it is, beside what `quote` leaves (RFC 3986 section 3.3). Some servers
cut a segment at its semicolon, and find dots before it."""
_WRITTEN: Final = re.compile(r"[!-~]*")
"""The characters of a URL are ASCII that can be seen."""


class Target:
    """One URL, such as `ws://chat:8000/rooms/{room}`.

    Args:
        template: its `{names}` are parameters of the client's path, and stand in the path alone.

    Attributes:
        names: those.
        fixed: the names in its own query, which no client can say.

    Raises:
        ConfigurationError: it is no such URL.
    """

    __slots__ = ("_origin", "_path", "_query", "fixed", "names", "template")

    def __init__(self, template: str) -> None:
        if not isinstance(template, str):
            raise _wrong(template, "a text")
        if not _WRITTEN.fullmatch(template):
            raise _wrong(template, "a URL, with whatever is no ASCII and no space as %XX")
        parts = _split(template)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise _wrong(template, "a URL that begins with ws:// or wss:// and a host")
        if parts.username is not None or parts.password is not None:
            # It would stand in logs.
            raise ConfigurationError(
                "a proxy's target has no user and password in its URL: let upstream_headers() give an "
                "Authorization header"
            )
        if _PLACE.search(parts.netloc) or _PLACE.search(parts.query) or parts.fragment:
            raise _wrong(template, "one with {names} in its path alone, and without a fragment")
        if {"{", "}"} & set(_PLACE.sub("", template)):
            raise _wrong(template, "one whose braces are in pairs, around a name each; another is %7B or %7D")
        self.template = template
        self.names = frozenset(_PLACE.findall(parts.path))
        self.fixed = frozenset(name for name, _ in parse_qsl(parts.query, keep_blank_values=True))
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._path, self._query = parts.path or "/", parts.query

    def url(self, params: Mapping[str, Any], query: Iterable[tuple[str, str]]) -> str:
        """The address for one client.

        Args:
            params: of the client's path.
            query: of the client's, what is passed on.

        Raises:
            ConfigurationError: the client's path lacks a parameter.
            NotFound: a parameter would lead to another path than the template's.
        """
        missing = self.names - params.keys()
        if missing:
            raise ConfigurationError(
                f"the target {self.template!r} wants {{{min(missing)}}}, which the route's path does not have"
            )
        path = _PLACE.sub(lambda found: _segments(str(params[found[1]])), self._path)
        passed = urlencode(list(query))
        whole = "&".join(part for part in (self._query, passed) if part)
        return f"{self._origin}{path}" + (f"?{whole}" if whole else "")


def _segments(value: str) -> str:
    """`value` in a path. Only a `{…:path}` parameter has slashes."""
    segments = value.split("/")
    if any(segment in (".", "..") for segment in segments):
        raise NotFound
    return "/".join(quote(segment, safe=_PLAIN) for segment in segments)


def _split(template: str) -> SplitResult:
    try:
        parts = urlsplit(template)
        parts.port  # noqa: B018  reading it validates it
    except ValueError as exc:
        raise _wrong(template, f"a URL ({exc})") from None
    return parts


def _wrong(template: Any, expected: str) -> ConfigurationError:
    return ConfigurationError(f"a proxy's target must be {expected}, got {template!r}")
