"""A URL that names several servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, TypeAlias
from urllib.parse import unquote, urlsplit

from redis.asyncio.connection import parse_url

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
            ValueError: it cannot be read.
        """
        parts = urlsplit(url)
        scheme = parts.scheme.partition("+")[0]
        user, at, hosts = parts.netloc.rpartition("@")
        one = parts._replace(scheme=scheme, netloc=f"{user}{at}localhost", path="")
        options: dict[str, Any] = dict(parse_url(one.geturl()))
        for name in ("host", "connection_class"):
            options.pop(name, None)
        path = [unquote(part) for part in parts.path.split("/") if part]
        return cls([_address(host) for host in hosts.split(",")], path, scheme == "rediss", options)


def _address(text: str) -> Address:
    parts = urlsplit(f"//{text}")
    return parts.hostname or "localhost", parts.port or 0
