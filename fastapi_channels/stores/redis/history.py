"""What was published in a room, on Redis.

Two keys of one slot: `history` (the epoch, the offset of the newest, the bytes of all bodies) and `records`,
a list. Offsets have no gaps, so that the place of each is known. A third for each key that was used.
"""

from __future__ import annotations

from typing import Final

from fastapi_channels.stores.memory import REMEMBERED, UNUSED
from fastapi_channels.stores.records import microseconds, new_epoch, packed, unpacked
from fastapi_channels.stores.store import Addition, Appended, Page, Part, Record, Retention
from fastapi_channels.wire.messages import size_of
from fastapi_channels.wire.positions import Position

from .scripts import Script, milliseconds
from .server import Server

_HISTORY: Final = """
local history, records = KEYS[1], KEYS[2]
local state = redis.call('HMGET', history, 'epoch', 'top', 'size')
local epoch, top, size = state[1], tonumber(state[2]) or 0, tonumber(state[3]) or 0

-- A store that is behind what somebody has seen has lost something. The new epoch is the caller's: what is
-- random in Lua is the same in each call.
local function begin(new, known, offset)
  if not epoch or (epoch == known and offset > top) then
    if epoch then
      redis.call('DEL', history, records)
    end
    epoch, top, size = new, 0, 0
    redis.call('HSET', history, 'epoch', epoch, 'top', 0, 'size', 0)
  end
end
local function remember(remembered, unused)
  local lasts = tonumber(top > 0 and remembered or unused)
  if redis.call('PTTL', history) < lasts - 1000 then
    redis.call('PEXPIRE', history, lasts)
  end
end
local function trim(messages, bytes, window)
  local count, before = redis.call('LLEN', records), size
  while count > 0 do
    local at, length = string.match(redis.call('LINDEX', records, 0), '^(%d+) (%d+) ')
    if count <= messages and tonumber(at) > now - window and (size <= bytes or count == 1) then
      break
    end
    redis.call('LPOP', records)
    count, size = count - 1, size - length
  end
  size = count > 0 and size or 0
  if size ~= before then
    redis.call('HSET', history, 'size', size)
  end
  return count
end
"""

_APPEND: Final = Script(
    _HISTORY
    + """
local used = KEYS[3] and redis.call('GET', KEYS[3])
if used then
  return {used, 0}
end
begin(ARGV[1], ARGV[2], tonumber(ARGV[3]))
if redis.call('EXISTS', records) == 0 then
  size = 0
end
top, size = top + 1, size + ARGV[9]
redis.call('RPUSH', records, whole(now) .. ' ' .. ARGV[9] .. ' ' .. ARGV[10])
redis.call('HSET', history, 'top', whole(top), 'size', size)
remember(ARGV[7])
trim(tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]))
redis.call('PEXPIRE', records, ARGV[8])
local position = epoch .. ':' .. whole(top)
if KEYS[3] then
  redis.call('SET', KEYS[3], position, 'PX', ARGV[11])
end
if ARGV[12] then
  redis.call('PUBLISH', ARGV[12], ARGV[13] .. position .. ARGV[14])
end
return {position, 1}
"""
)

_READ: Final = Script(
    _HISTORY
    + """
begin(ARGV[1], '', 0)
remember(ARGV[5], ARGV[10])
local first = top + 1 - trim(tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
local after, before, limit = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local lowest, highest = math.max(after + 1, first), before and math.min(before - 1, top) or top
if ARGV[9] == '1' then
  lowest = math.max(lowest, highest - limit + 1)
else
  highest = math.min(highest, lowest + limit - 1)
end
local found = {}
if lowest <= highest then
  found = redis.call('LRANGE', records, lowest - first, highest - first)
end
return {epoch, top, first, lowest, found}
"""
)

_TOP: Final = Script(
    _HISTORY
    + """
begin(ARGV[1], ARGV[2], tonumber(ARGV[3]))
remember(ARGV[4], ARGV[5])
return {epoch, top}
"""
)

SCRIPTS: Final = (_APPEND, _READ, _TOP)
_MAX_BYTES: Final = 2**53
"""Above it Lua counts no bytes."""


class Histories:
    def __init__(self, server: Server) -> None:
        self._server = server

    async def append(self, room: str, addition: Addition) -> Appended:
        record, keep, key, key_seconds, known, announcement = addition
        used = [] if key is None else [self._server.key("used", room, key)]
        position, is_new = await self._server.call(
            _APPEND,
            [*self._keys(room), *used],
            *(new_epoch(), *_known(known), *_bounds(keep), _remembered(keep), milliseconds(keep.seconds)),
            *(size_of(record.body), packed(record), milliseconds(key_seconds)),
            *(announcement or ()),
        )
        return Appended(Position.parse(position.decode()), is_new == 1)

    async def read(self, room: str, keep: Retention, part: Part) -> Page:
        after, before, limit, reverse = part
        epoch, top, first, lowest, found = await self._server.call(
            _READ,
            self._keys(room),
            *(new_epoch(), *_bounds(keep), _remembered(keep)),
            *(after, "" if before is None else before, limit, int(reverse), milliseconds(UNUSED)),
        )
        records = [_record(lowest + place, text) for place, text in enumerate(found)]
        return Page(epoch.decode(), top, first, records[::-1] if reverse else records)

    async def top(self, room: str, known: Position | None) -> Position:
        lasts = milliseconds(REMEMBERED), milliseconds(UNUSED)
        epoch, top = await self._server.call(_TOP, self._keys(room), new_epoch(), *_known(known), *lasts)
        return Position(epoch.decode(), top)

    def _keys(self, room: str) -> list[bytes]:
        return [self._server.key(kind, room) for kind in ("history", "records")]


def _known(position: Position | None) -> tuple[str, int]:
    return position or ("", 0)


def _bounds(keep: Retention) -> tuple[int, int, int]:
    return keep.messages, min(keep.size, _MAX_BYTES), microseconds(keep.seconds)


def _remembered(keep: Retention) -> int:
    return milliseconds(REMEMBERED + keep.seconds)


def _record(offset: int, text: bytes) -> Record:
    at, _, rest = text.split(b" ", 2)
    return unpacked(offset, int(at), rest)
