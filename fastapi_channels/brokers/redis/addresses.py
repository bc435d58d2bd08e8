"""A URL that names several servers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeAlias
from urllib.parse import unquote, urlsplit

from redis.asyncio.connection import Connection, parse_url

from fastapi_channels.exceptions import ConfigurationError

Address: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Several:
    """`scheme+kind://user:password@host:port,host:port/path?option=value`"""

    addresses: list[Address]
    """The port is 0 where none was given."""
    path: list[str]
    tls: bool
    options: dict[str, Any]
    """What redis-py's connections take, less where they go."""

    @classmethod
    def of(cls, url: str) -> Self:
        """Read the addresses in a URL.

        Raises:
            ConfigurationError: redis-py does not know an option.
            ValueError: it cannot be read.
        """
        parts = urlsplit(url)
        scheme = parts.scheme.partition("+")[0]
        user, at, hosts = parts.netloc.rpartition("@")
        one = parts._replace(scheme=scheme, netloc=f"{user}{at}localhost", path="")
        options: dict[str, Any] = dict(parse_url(one.geturl()))
        _check_options({name: value for name, value in options.items() if not name.startswith("sentinel_")})
        for name in ("host", "connection_class"):
            options.pop(name, None)
        path = [unquote(part) for part in parts.path.split("/") if part]
        return cls([_address(host) for host in hosts.split(",")], path, scheme == "rediss", options)


def check_one(url: str) -> str:
    """`url`, of one server: what redis-py would find out when it connects, or take for something else.

    Raises:
        ConfigurationError: the path is no database, or redis-py does not know an option.
        ValueError: it cannot be read.
    """
    parts = urlsplit(url)
    if parts.scheme != "unix":
        check_database(parts.path.removeprefix("/"))
    options = parse_url(url)
    _check_options({name: value for name, value in options.items() if name != "max_connections"})
    return url


def check_database(text: str) -> int:
    """The number of a database, as a URL has it; 0 where it has none.

    Raises:
        ConfigurationError: it is no number.
    """
    if not re.fullmatch("[0-9]{0,9}", text):
        raise ConfigurationError(
            "behind its server the URL of a Redis has the number of a database, and nothing else: "
            "redis://localhost:6379/0"
        )
    return int(text or 0)


def _check_options(options: Mapping[str, Any]) -> None:
    kind = options.get("connection_class", Connection)
    try:
        kind(**{name: value for name, value in options.items() if name != "connection_class"})
    except TypeError as exc:
        unknown = re.search(r"keyword argument '(\w+)'", str(exc))
        what = f"the option {unknown[1]!r}" if unknown else "an option"
        raise ConfigurationError(f"redis-py does not take {what} that the URL has") from None


def _address(text: str) -> Address:
    parts = urlsplit(f"//{text}")
    return parts.hostname or "localhost", parts.port or 0
