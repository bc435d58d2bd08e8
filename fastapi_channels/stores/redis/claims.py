"""Keys that were used, on Redis.

The value of each is `r` and its owner while it runs, and then `d`, its owner and the outcome.
"""

from __future__ import annotations

from typing import Final

from fastapi_channels.stores.store import MAX_OUTCOME, Claim

from .scripts import Script, milliseconds
from .server import Server

_CLAIM: Final = Script("""
local owner, held = ARGV[1], redis.call('GET', KEYS[1])
if held and held ~= 'r' .. owner then
  return held
end
redis.call('SET', KEYS[1], 'r' .. owner, 'PX', ARGV[2])
return ''
""")

_SETTLE: Final = Script("""
local owner, held = ARGV[1], redis.call('GET', KEYS[1])
local settled = 'd' .. #owner .. ' ' .. owner
if not held or (held ~= 'r' .. owner and string.sub(held, 1, #settled) ~= settled) then
  return 0
end
if ARGV[3] then
  redis.call('SET', KEYS[1], settled .. ARGV[3], 'PX', ARGV[2])
else
  redis.call('DEL', KEYS[1])
end
return 1
""")

SCRIPTS: Final = (_CLAIM, _SETTLE)


class Claims:
    def __init__(self, server: Server) -> None:
        self._server = server

    async def claim(self, key: str, owner: str, seconds: float) -> Claim:
        held: bytes = await self._server.call(_CLAIM, self._keys(key), owner, milliseconds(seconds))
        if not held:
            return Claim("new")
        if held[:1] == b"r":
            return Claim("running")
        length, _, rest = held[1:].partition(b" ")
        return Claim("done", rest[int(length) :].decode())

    async def settle(self, key: str, owner: str, outcome: str | None, seconds: float) -> None:
        told = () if outcome is None else (outcome[:MAX_OUTCOME],)
        await self._server.call(_SETTLE, self._keys(key), owner, milliseconds(seconds), *told)

    def _keys(self, key: str) -> list[bytes]:
        return [self._server.key("claim", key)]
