"""Values that end, on Redis."""

from __future__ import annotations

from typing import Final

from .scripts import Script, milliseconds
from .server import Server

_PUT: Final = Script("redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])")
_TAKE: Final = Script("return redis.call('GETDEL', KEYS[1])")

SCRIPTS: Final = (_PUT, _TAKE)


class Values:
    def __init__(self, server: Server) -> None:
        self._server = server

    async def put(self, key: str, value: str, seconds: float) -> None:
        await self._server.call(_PUT, [self._key(key)], value, milliseconds(seconds))

    async def get(self, key: str) -> str | None:
        return _text(await self._server.ask(b"GET", self._key(key)))

    async def take(self, key: str) -> str | None:
        return _text(await self._server.call(_TAKE, [self._key(key)]))

    def _key(self, key: str) -> bytes:
        return self._server.key("value", key)


def _text(found: bytes | None) -> str | None:
    return None if found is None else found.decode()
