"""Who is in a room, on Redis.

Five keys of one slot: `who` (id → occupant), `index` (a sorted set of names: `i` and the id; `t`, the time
and the id; `u`, the user, the time and the id), `seats` (seat → how many share it), `people` (a user, or a
connection without one → how many of its connections have data), `state` (the version, the last time, fences).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple

from fastapi_channels.stores.store import (
    Entered,
    Lease,
    LeaseLost,
    Left,
    Limits,
    Occupancy,
    Occupant,
)

from .scripts import Script, milliseconds
from .server import Server

REMEMBERED: Final = 60.0
"""Seconds that fences are kept, and the version of a room that is empty: the clocks of a cluster's servers,
and that of one server before and after it was set, are not further apart."""

_ROOM: Final = """
local who, index, seats, people, state = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local version = tonumber(redis.call('HGET', state, 'version')) or now

local function read(packed)
  local since, token, user, seat, at = string.match(packed, '^(%d+) (%d+) (%d+) (%d+)\\n()')
  local middle, last = at + user, at + user + seat
  return {since = since, token = tonumber(token), user = string.sub(packed, at, middle - 1),
    seat = string.sub(packed, middle, last - 1), data = string.sub(packed, last)}
end
local function of_user(user) return 'u' .. #user .. ':' .. user end
local function add(counts, name, number)
  if redis.call('HINCRBY', counts, name, number) <= 0 then
    redis.call('HDEL', counts, name)
  end
end
local function add_person(id, one, number)
  if one.data ~= '' then
    add(people, one.user ~= '' and one.user or id, number)
  end
end

local function put(id, one)
  local head = one.since .. ' ' .. whole(one.token) .. ' ' .. #one.user .. ' ' .. #one.seat .. '\\n'
  redis.call('HSET', who, id, head .. one.user .. one.seat .. one.data)
  local names = {0, 'i' .. id, 0, 't' .. one.since .. id}
  if one.user ~= '' then
    names[5], names[6] = 0, of_user(one.user) .. one.since .. id
  end
  redis.call('ZADD', index, unpack(names))
  add(seats, one.seat, 1)
  add_person(id, one, 1)
end
local function take(id, one)
  redis.call('HDEL', who, id)
  redis.call('ZREM', index, 'i' .. id, 't' .. one.since .. id, of_user(one.user) .. one.since .. id)
  add(seats, one.seat, -1)
  add_person(id, one, -1)
end
local function of_node(node) return '[i' .. node .. '.', '(i' .. node .. '/' end
local function changed()
  version = version + 1
  redis.call('HSET', state, 'version', whole(version))
end
local function keep(remembered)
  if redis.call('EXISTS', who) == 1 then
    redis.call('PERSIST', state)
  else
    redis.call('PEXPIRE', state, remembered)
  end
end
"""

_ENTER: Final = Script(
    _ROOM
    + """
local node, token, ends = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local places, per_user, displaces = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == 'close_oldest'
if ARGV[7] == '0' and redis.call('ZLEXCOUNT', index, of_node(node)) == 0 then
  return 1
end
local fence = redis.call('HGET', state, 'fence.' .. node)
if ends <= now or (fence and token <= tonumber(string.match(fence, '^%d+'))) then
  return 0
end
local last = tonumber(redis.call('HGET', state, 'last')) or 0
local entered, full, over, displaced, differs = {}, {}, {}, {}, false

local function excess(user)
  local found, prefix = {}, of_user(user)
  if per_user < 0 or user == '' then
    return found
  end
  local own = redis.call('ZRANGEBYLEX', index, '[' .. prefix, '(' .. prefix .. '\\255')
  for i = 1, math.min(#own, #own - per_user + 1) do
    found[i] = string.sub(own[i], #prefix + 17)
  end
  return found
end
local function is_full(seat, leaving)
  if places < 0 then
    return false
  end
  local held, freed = {}, 0
  for _, id in ipairs(leaving) do
    local other = read(redis.call('HGET', who, id)).seat
    held[other] = (held[other] or tonumber(redis.call('HGET', seats, other))) - 1
    freed = freed + (held[other] == 0 and 1 or 0)
  end
  local is_held = held[seat] and held[seat] > 0 or not held[seat] and redis.call('HEXISTS', seats, seat) == 1
  return not is_held and redis.call('HLEN', seats) - freed >= places
end
local function replace(id, old, one)
  one.since = old.since
  local same = old.user == one.user and old.seat == one.seat and old.data == one.data
  if not same or old.token ~= token then
    take(id, old)
    put(id, one)
  end
  differs = differs or not same
end
local function admit(id, one)
  local leaving = excess(one.user)
  if #leaving > 0 and not displaces then
    over[#over + 1] = id
  elseif is_full(one.seat, leaving) then
    full[#full + 1] = id
  else
    for _, other in ipairs(leaving) do
      local packed = redis.call('HGET', who, other)
      displaced[#displaced + 1], displaced[#displaced + 2] = other, packed
      take(other, read(packed))
    end
    last = math.max(now, last + 1)
    one.since, differs = whole(last), true
    put(id, one)
  end
end

for i = 8, #ARGV, 4 do
  local id = ARGV[i]
  local one = {user = ARGV[i + 1], seat = ARGV[i + 2], data = ARGV[i + 3], token = token}
  local packed = redis.call('HGET', who, id)
  if packed then
    replace(id, read(packed), one)
  else
    admit(id, one)
  end
  if one.since then
    entered[#entered + 1], entered[#entered + 2] = id, one.since
  end
end
if differs then
  changed()
  redis.call('HSET', state, 'last', whole(last))
  redis.call('PERSIST', state)
end
local changes, present = differs and 1 or 0, redis.call('ZLEXCOUNT', index, of_node(node))
return {version, changes, present, entered, full, over, displaced}
"""
)

_LEAVE: Final = Script(
    _ROOM
    + """
local gone, absent, seen = {}, {}, {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local packed, node = redis.call('HGET', who, id), string.match(id, '^[^.]*')
  if packed then
    gone[#gone + 1], gone[#gone + 2] = id, packed
    take(id, read(packed))
  end
  seen[node] = true
end
if #gone > 0 then
  changed()
  keep(ARGV[1])
end
for node in pairs(seen) do
  if redis.call('ZLEXCOUNT', index, of_node(node)) == 0 then
    absent[#absent + 1] = node
  end
end
return {version, gone, absent}
"""
)

_OUST: Final = Script(
    _ROOM
    + """
local node, token, remembered = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local gone, fields = {}, redis.call('HGETALL', state)
for _, name in ipairs(redis.call('ZRANGEBYLEX', index, of_node(node))) do
  local id = string.sub(name, 2)
  local packed = redis.call('HGET', who, id)
  local one = read(packed)
  if one.token <= token then
    gone[#gone + 1], gone[#gone + 2] = id, packed
    take(id, one)
  end
end
for i = 1, #fields, 2 do
  local ends = string.match(fields[i], '^fence%.') and string.match(fields[i + 1], ' (%d+)$')
  if ends and tonumber(ends) < now then
    redis.call('HDEL', state, fields[i])
  end
end
redis.call('HSET', state, 'fence.' .. node, whole(token) .. ' ' .. whole(now + remembered * 1000))
if #gone > 0 then
  changed()
end
keep(remembered)
return {version, gone}
"""
)

_OCCUPANCY: Final = Script(
    _ROOM
    + """
local first, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local found, total = {}, redis.call('HLEN', who)
if first == 0 and limit < 0 then
  return {version, total, redis.call('HGETALL', who)}
end
for _, name in ipairs(redis.call('ZRANGEBYLEX', index, '[t', '(u', 'LIMIT', first, limit)) do
  local id = string.sub(name, 18)
  found[#found + 1], found[#found + 2] = id, redis.call('HGET', who, id)
end
return {version, total, found}
"""
)

SCRIPTS: Final = (_ENTER, _LEAVE, _OUST, _OCCUPANCY)
_REMEMBERED: Final = milliseconds(REMEMBERED)


class Outcome(NamedTuple):
    entered: Entered
    is_present: bool
    """Whether anything of the process is in the room now."""


class Departure(NamedTuple):
    left: Left
    absent: list[str]
    """Processes of which nothing is in the room any more."""


class Rooms:
    def __init__(self, server: Server) -> None:
        self._server = server

    async def enter(
        self, room: str, occupants: Sequence[Occupant], lease: Lease, limits: Limits, *, noted: bool
    ) -> Outcome | None:
        """
        Args:
            noted: whether the room was noted for this. Else it is enough that something of the process is in
                it; None where nothing is, and nothing was changed.
        """
        places = -1 if limits.seats is None else limits.seats
        per_user = -1 if limits.per_user is None else limits.per_user
        words = [
            word
            for one in occupants
            for word in (one.id, "" if one.user is None else "=" + one.user, one.seat, one.data)
        ]
        answer = await self._server.call(
            _ENTER,
            self._keys(room),
            *(lease.node, lease.token, round(lease.until * 1_000_000)),
            *(places, per_user, limits.when_over, int(noted)),
            *words,
        )
        if answer == 1:
            return None
        if answer == 0:
            raise LeaseLost(f"the lease {lease.token} of {lease.node} has ended")
        version, changed, present, entered, full, over, displaced = answer
        since = {id.decode(): int(at) / 1_000_000 for id, at in _pairs(entered)}
        now_in = [one._replace(since=since[one.id]) for one in occupants if one.id in since]
        return Outcome(
            Entered(version, changed == 1, now_in, _texts(full), _texts(over), _occupants(displaced)),
            present > 0,
        )

    async def leave(self, room: str, ids: Collection[str]) -> Departure:
        version, gone, absent = await self._server.call(_LEAVE, self._keys(room), _REMEMBERED, *ids)
        return Departure(Left(room, version, _occupants(gone)), _texts(absent))

    async def oust(self, room: str, node: str, token: int) -> Left:
        """Take out what was entered under the leases of a process up to `token`, and keep it out."""
        version, gone = await self._server.call(_OUST, self._keys(room), node, token, _REMEMBERED)
        return Left(room, version, _occupants(gone))

    async def count(self, room: str) -> int:
        found: int = await self._server.ask(b"HLEN", self._keys(room)[0])
        return found

    async def count_people(self, room: str) -> int:
        found: int = await self._server.ask(b"HLEN", self._keys(room)[3])
        return found

    async def occupancy(self, room: str, first: int, limit: int | None) -> Occupancy:
        most = -1 if limit is None else limit
        version, total, found = await self._server.call(_OCCUPANCY, self._keys(room), first, most)
        return Occupancy(version, sorted(_occupants(found), key=lambda one: one.since), total)

    def _keys(self, room: str) -> list[bytes]:
        return [self._server.key(kind, room) for kind in ("who", "index", "seats", "people", "state")]


def _pairs(flat: Sequence[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _texts(found: Sequence[bytes]) -> list[str]:
    return [each.decode() for each in found]


def _occupants(flat: Sequence[bytes]) -> list[Occupant]:
    return [_occupant(id.decode(), packed) for id, packed in _pairs(flat)]


def _occupant(id: str, packed: bytes) -> Occupant:
    head, _, rest = packed.partition(b"\n")
    since, _, user, seat = map(int, head.split())
    last = user + seat
    return Occupant(
        id,
        rest[1:user].decode() if user else None,
        rest[user:last].decode(),
        rest[last:].decode(),
        since / 1_000_000,
    )
