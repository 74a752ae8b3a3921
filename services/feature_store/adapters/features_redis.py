"""The online store in Redis or Valkey: packed rows, and per view and source partition the position they reflect.

Keys (the braces are a hash tag: what one swap touches lies in one slot); a shadow's begin with its own prefix:
`millrace:{project/source/label}:view@version:at`        16 bytes, offset and visible time, little-endian int64
`millrace:{project/source/label}:view@version:of:entity` one packed row
`millrace:{project/source/label}:view@version:fill`      32 bytes while it is filled from history: position, parts, done
`millrace:{project/source/label}:view@version:emptying`  while its rows are being deleted: nobody writes any
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Awaitable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import redis.asyncio
from millrace.stores.errors import StoreUnavailable
from redis.exceptions import RedisError, ResponseError

from services.feature_store.domain.values import Filling, Position
from services.feature_store.ports import Place, Write

T = TypeVar("T")
log = logging.getLogger(__name__)
_POSITION = struct.Struct("<qq")
_ABSENT = b""

# KEYS: n marks of emptying, n positions, then row keys, then keys to delete. ARGV: n, the n expected positions, the n
# new ones, the rows.
_SWAP = """
local n = tonumber(ARGV[1])
local set = #ARGV - 1 - n
for i = 1, n do
  if (redis.call('GET', KEYS[n + i]) or '') ~= ARGV[1 + i] then return 0 end
  if ARGV[1 + i] == '' and redis.call('EXISTS', KEYS[i]) == 1 then return 0 end
end
for i = 1, set do redis.call('SET', KEYS[n + i], ARGV[1 + n + i]) end
for i = n + set + 1, #KEYS do redis.call('UNLINK', KEYS[i]) end
return 1
"""


# KEYS: mark of emptying, position, filling, then rows. ARGV: the expected filling, the new one, the position when all
# is done, the rows.
_FILL = """
if redis.call('EXISTS', KEYS[1], KEYS[2]) > 0 or (redis.call('GET', KEYS[3]) or '') ~= ARGV[1] then return 0 end
for i = 4, #KEYS do redis.call('SET', KEYS[i], ARGV[i]) end
if ARGV[3] == '' then
  redis.call('SET', KEYS[3], ARGV[2])
else
  redis.call('UNLINK', KEYS[3])
  redis.call('SET', KEYS[2], ARGV[3])
end
return 1
"""

# KEYS: mark of emptying, position, filling. ARGV: seconds.
_EMPTY = """
redis.call('SET', KEYS[1], '1', 'EX', ARGV[1])
redis.call('UNLINK', KEYS[2], KEYS[3])
"""
# KEYS: rows of one place. ARGV: microseconds. Each packed row has its newest event's time in bytes 8 to 15.
_EXPIRE = """
local gone = 0
for i = 1, #KEYS do
  local newest = redis.call('GETRANGE', KEYS[i], 8, 15)
  if #newest == 8 and struct.unpack('<i8', newest) < tonumber(ARGV[1]) then
    gone = gone + redis.call('UNLINK', KEYS[i])
  end
end
return gone
"""
_FILLING = struct.Struct("<qqqq")
EMPTYING = "emptying"
EXPIRED_AT_ONCE = 500  # rows looked at by one script call: well below a millisecond

LIVE = "millrace"


def prefix_of_shadow(name: str) -> str:
    """What the keys of a shadow begin with."""
    return f"{LIVE}.shadow.{name}"


class RedisFeatures:
    """An OnlineStore; `client` returns bytes. `namespace` is what its keys begin with."""

    def __init__(self, client: redis.asyncio.Redis, namespace: str = LIVE) -> None:
        self._client = client
        self._namespace = namespace
        self._swap = client.register_script(_SWAP)
        self._fill = client.register_script(_FILL)
        self._empty = client.register_script(_EMPTY)
        self._expire = client.register_script(_EXPIRE)

    async def read(
        self, places: Sequence[Place], wanted: Sequence[tuple[Place, Sequence[str]]] = ()
    ) -> tuple[list[Position | None], list[list[bytes | None]]]:
        """One MGET: all of it as of one instant."""
        keys = [self._prefix(place) + "at" for place in places]
        for place, entities in wanted:
            prefix = self._prefix(place) + "of:"
            keys += [prefix + entity for entity in entities]
        found: list[bytes | None] = await _answered(self._client.mget(keys)) if keys else []
        positions = [None if raw is None else Position(*_POSITION.unpack(raw)) for raw in found[: len(places)]]
        ends = accumulate([len(entities) for _, entities in wanted], initial=len(places))
        return positions, [found[begin:end] for begin, end in pairwise(ends)]

    async def swap(self, writes: Sequence[Write], gone: Sequence[str] = ()) -> bool:
        """One script call."""
        keys = [self._prefix(write.place) + EMPTYING for write in writes]
        keys += [self._prefix(write.place) + "at" for write in writes]
        expected = [_ABSENT if w.expected is None else _POSITION.pack(*w.expected) for w in writes]
        moved = [_POSITION.pack(*write.position) for write in writes]
        rows: list[bytes] = []
        for write in writes:
            prefix = self._prefix(write.place) + "of:"
            keys += [prefix + entity for entity in write.rows]
            rows += write.rows.values()
        keys += [self._prefix(writes[0].place) + "of:" + entity for entity in gone]
        return bool(await _answered(self._swap(keys=keys, args=[len(writes), *expected, *moved, *rows])))

    async def filling(self, place: Place) -> Filling | None:
        """As `OnlineStore.filling`."""
        raw = await _answered(self._client.get(self._prefix(place) + "fill"))
        if raw is None:
            return None
        offset, visible_us, parts, done = _FILLING.unpack(raw)
        return Filling(Position(offset, visible_us), parts, done)

    async def fill(self, place: Place, before: Filling | None, after: Filling, rows: Mapping[str, bytes]) -> bool:
        """As `OnlineStore.fill`; one script call."""
        prefix = self._prefix(place)
        expected, told = (_ABSENT if one is None else _packed(one) for one in (before, after))
        position = _POSITION.pack(*after.position) if after.done == after.parts else _ABSENT
        keys = [*self._standing(place), *(prefix + "of:" + entity for entity in rows)]
        return bool(await _answered(self._fill(keys=keys, args=[expected, told, position, *rows.values()])))

    async def begin_emptying(self, places: Sequence[Place], lapses_s: int) -> None:
        """As `OnlineStore.begin_emptying`; one script call a place."""
        for place in places:
            await _answered(self._empty(keys=self._standing(place), args=[lapses_s]))

    async def is_emptying(self, place: Place) -> bool:
        """As `OnlineStore.is_emptying`."""
        return bool(await _answered(self._client.exists(self._prefix(place) + EMPTYING)))

    async def end_emptying(self, places: Sequence[Place]) -> None:
        """As `OnlineStore.end_emptying`."""
        for place in places:
            await _answered(self._client.unlink(self._prefix(place) + EMPTYING))

    async def expire(self, place: Place, entities: Sequence[str], before_us: int) -> int:
        """As `OnlineStore.expire`; one script call for some hundred rows."""
        gone, prefix = 0, self._prefix(place) + "of:"
        for begin in range(0, len(entities), EXPIRED_AT_ONCE):
            keys = [prefix + entity for entity in entities[begin : begin + EXPIRED_AT_ONCE]]
            gone += int(await _answered(self._expire(keys=keys, args=[before_us])))
        return gone

    def _standing(self, place: Place) -> list[str]:
        prefix = self._prefix(place)
        return [prefix + EMPTYING, prefix + "at", prefix + "fill"]

    def _prefix(self, place: Place) -> str:
        return f"{self._namespace}:{{{place.project}/{place.source}/{place.label}}}:{place.view_id}:"

    async def rewrite_log(self) -> None:
        """Lets the server write its append-only file anew: what was deleted or replaced is in the old one still."""
        try:
            await self._client.bgrewriteaof()
        except ResponseError as error:  # one is running, or the server's owner does this himself
            log.warning("the online store's log was not rewritten: %s", error)
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"the online store: {error}") from error


def _packed(filling: Filling) -> bytes:
    return _FILLING.pack(*filling.position, filling.parts, filling.done)


async def _answered(call: Awaitable[T] | Any) -> Any:
    try:
        return await call
    except (RedisError, OSError) as error:
        raise StoreUnavailable(f"the online store: {error}") from error
