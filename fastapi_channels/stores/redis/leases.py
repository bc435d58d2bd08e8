"""Leases on Redis, and in which rooms something was entered under each.

They are in one slot, and each room is in its own. So a room is noted here before anything is entered into it,
and while something of the process is in the room, that is known there.
Under a lease that has ended nothing is noted any more, and every room that is noted gets a fence: a token, up
to which nothing of this process is let in. This does not depend on the clocks of several servers.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple

from fastapi_channels.stores.records import microseconds
from fastapi_channels.stores.store import Lease, LeaseLost

from .scripts import Script
from .server import Server

BATCH: Final = 500
"""Rooms that are cleared at a time."""
TAKEOVER: Final = 2.0
"""Seconds after which another process clears what one has begun to clear."""
FORGOTTEN: Final = 5000
"""Rooms that one renewal forgets, of those in which nothing is any more."""

_KEYS: Final = """
local untils, tokens, ended, rooms = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
-- `rooms` has `node.token.room`, all with one score, so that those of a lease are a range.
local function end_lease(node, token, at)
  redis.call('ZREM', untils, node)
  redis.call('HDEL', tokens, node)
  redis.call('ZADD', ended, at, node .. '.' .. token)
end
"""

_RENEW: Final = Script(
    _KEYS
    + """
local node, given, lasts = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local token = tonumber(redis.call('HGET', tokens, node)) or 0
local ends = tonumber(redis.call('ZSCORE', untils, node)) or 0
if token > 0 and ends <= now then
  end_lease(node, whole(token), now)
end
if ends <= now then
  token = math.max(now, given + 1, token + 1)
end
redis.call('HSET', tokens, node, whole(token))
redis.call('ZADD', untils, whole(now + lasts), node)
local own = node .. '.' .. whole(token) .. '.'
for i = 4, #ARGV do
  redis.call('ZREM', rooms, own .. ARGV[i])
end
return {token, now + lasts, redis.call('ZLEXCOUNT', rooms, '[' .. own, '(' .. own .. '\\255')}
"""
)

_NOTE: Final = Script(
    _KEYS
    + """
local node, token = ARGV[1], ARGV[2]
local ends = tonumber(redis.call('ZSCORE', untils, node)) or 0
if redis.call('HGET', tokens, node) ~= token or ends <= now then
  return 0
end
for i = 3, #ARGV do
  redis.call('ZADD', rooms, 0, node .. '.' .. token .. '.' .. ARGV[i])
end
return 1
"""
)

# With a lease: ends it, and begins to clear it. Without: the same with one that has ended, and that nobody
# clears, or whose clearing was given up.
_CLEAR: Final = Script(
    _KEYS
    + """
local batch, takeover, node, token = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
if node then
  if redis.call('HGET', tokens, node) == token then
    end_lease(node, token, now)
  end
else
  for _, each in ipairs(redis.call('ZRANGEBYSCORE', untils, '-inf', whole(now), 'LIMIT', 0, 100)) do
    end_lease(each, redis.call('HGET', tokens, each) or '0', now)
  end
end
while true do
  local lease = node and node .. '.' .. token
    or redis.call('ZRANGEBYSCORE', ended, '-inf', whole(now), 'LIMIT', 0, 1)[1]
  if not lease then
    return {}
  end
  local own = lease .. '.'
  local found = redis.call('ZRANGEBYLEX', rooms, '[' .. own, '(' .. own .. '\\255', 'LIMIT', 0, batch)
  if #found > 0 then
    redis.call('ZADD', ended, whole(now + takeover), lease)
    for i, each in ipairs(found) do
      found[i] = string.sub(each, #own + 1)
    end
    return {lease, found}
  end
  redis.call('ZREM', ended, lease)
  if node then
    return {}
  end
end
"""
)

_CLEARED: Final = Script(
    _KEYS
    + """
for i = 2, #ARGV do
  redis.call('ZREM', rooms, ARGV[1] .. '.' .. ARGV[i])
end
redis.call('ZADD', ended, 'XX', whole(now), ARGV[1])
return 1
"""
)

SCRIPTS: Final = (_RENEW, _NOTE, _CLEAR, _CLEARED)


@dataclass(slots=True)
class _Noted:
    """What this process knows to be noted under one of its leases."""

    token: int
    rooms: dict[str, int] = field(default_factory=dict)
    """How often something was entered into each room."""
    empty: dict[str, None] = field(default_factory=dict)
    """Rooms in which nothing is any more, to be forgotten."""


class Ended(NamedTuple):
    """A lease that has ended, and rooms in which something may be that was entered under it."""

    node: str
    token: int
    rooms: list[str]


class Leases:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._keys = [server.key(kind, "leases") for kind in ("untils", "tokens", "ended", "rooms")]
        self._noted: dict[str, _Noted] = {}

    async def renew(self, node: str, token: int, seconds: float) -> Lease:
        noted = self._noted.get(node)
        expected, forgotten = _settled(noted)
        given, until, count = await self._server.call(
            _RENEW, self._keys, node, token, microseconds(seconds), *forgotten
        )
        lease = Lease(node, given, until / 1_000_000)
        if noted is None or noted.token != given:
            self._noted[node] = _Noted(given)
            return lease
        for room in forgotten:
            if room in noted.empty:  # and nothing was entered meanwhile
                del noted.empty[room], noted.rooms[room]
        if count < len(expected):  # a server that was made the master had not heard of all
            with suppress(LeaseLost):  # it has ended since: so will its holder find, by its own clock
                await self._note(lease, expected)
        return lease

    def knows(self, lease: Lease, room: str) -> bool:
        """Whether `room` is noted, and something of the process was in it last."""
        noted = self._of(lease)
        return room in noted.rooms and room not in noted.empty

    async def note(self, lease: Lease, room: str) -> None:
        """Note that something will be entered into `room`.

        Raises:
            LeaseLost: the lease has ended.
        """
        await self._note(lease, [room])

    def entering(self, lease: Lease, room: str) -> int:
        """What to give `left` if nothing is found in `room` after this."""
        noted = self._of(lease)
        noted.empty.pop(room, None)
        noted.rooms[room] = noted.rooms.get(room, 0) + 1
        return noted.rooms[room]

    def entered(self, node: str, room: str) -> int:
        """What to give `left` after nothing of `node` was found in `room`; asked for before looking."""
        return self._noted[node].rooms.get(room, 0) if node in self._noted else 0

    def left(self, node: str, room: str, entered: int) -> None:
        """Nothing of `node` is in `room`, unless it was entered meanwhile."""
        noted = self._noted.get(node)
        if noted is not None and entered and noted.rooms.get(room) == entered:
            noted.empty[room] = None

    async def end(self, lease: Lease) -> Ended | None:
        """End a lease. Returns rooms that are to be cleared; None if there are none any more."""
        self._noted.pop(lease.node, None)
        return await self._clear(lease.node, lease.token)

    async def ended(self) -> Ended | None:
        """A lease that has ended, with rooms that are to be cleared; None if there is none."""
        return await self._clear()

    async def cleared(self, ended: Ended, rooms: Iterable[str]) -> None:
        """Nothing is in `rooms` any more that was entered under this lease."""
        await self._server.call(_CLEARED, self._keys, f"{ended.node}.{ended.token}", *rooms)

    async def _clear(self, *lease: str | int) -> Ended | None:
        found = await self._server.call(_CLEAR, self._keys, BATCH, microseconds(TAKEOVER), *lease)
        if not found:
            return None
        node, _, token = found[0].decode().rpartition(".")
        return Ended(node, int(token), [room.decode() for room in found[1]])

    def _of(self, lease: Lease) -> _Noted:
        noted = self._noted.get(lease.node)
        if noted is None or noted.token < lease.token:
            noted = self._noted[lease.node] = _Noted(lease.token)
        return noted if noted.token == lease.token else _Noted(lease.token)

    async def _note(self, lease: Lease, rooms: Iterable[str]) -> None:
        if not await self._server.call(_NOTE, self._keys, lease.node, lease.token, *rooms):
            raise LeaseLost(f"the lease {lease.token} of {lease.node} has ended")


def _settled(noted: _Noted | None) -> tuple[list[str], list[str]]:
    """The rooms that are noted, without those that are to be forgotten now, and these."""
    if noted is None:
        return [], []
    forgotten = dict.fromkeys(islice(noted.empty, FORGOTTEN))
    return [room for room in noted.rooms if room not in forgotten], [*forgotten]
