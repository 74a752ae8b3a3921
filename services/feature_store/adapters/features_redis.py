"""The online store in Redis or Valkey: packed rows, and per view and source partition the position they reflect.

Keys (the braces are a hash tag: what one swap touches lies in one slot); a shadow's begin with its own prefix:
`millrace:{project/source/label}:view@version:at`        16 bytes, offset and visible time, little-endian int64
`millrace:{project/source/label}:view@version:of:entity` one packed row
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import redis.asyncio
from millrace.stores.errors import StoreUnavailable
from redis.exceptions import RedisError, ResponseError

from services.feature_store.domain.values import Position
from services.feature_store.ports import Place, Write

T = TypeVar("T")
log = logging.getLogger(__name__)
_POSITION = struct.Struct("<qq")
_ABSENT = b""

# KEYS: n positions, then row keys, then keys to delete. ARGV: n, the n expected positions, the n new ones, the rows.
_SWAP = """
local n = tonumber(ARGV[1])
local set = #ARGV - 1 - n
for i = 1, n do
  if (redis.call('GET', KEYS[i]) or '') ~= ARGV[1 + i] then return 0 end
end
for i = 1, set do redis.call('SET', KEYS[i], ARGV[1 + n + i]) end
for i = set + 1, #KEYS do redis.call('UNLINK', KEYS[i]) end
return 1
"""


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

    async def read(
        self, places: Sequence[Place], wanted: Sequence[tuple[Place, str]]
    ) -> tuple[list[Position | None], list[bytes | None]]:
        """One MGET: all of it as of one instant."""
        prefixes: dict[Place, str] = {}
        keys = [self._prefix(place, prefixes) + "at" for place in places]
        keys += [self._prefix(place, prefixes) + "of:" + entity for place, entity in wanted]
        if not keys:
            return [], []
        found: list[bytes | None] = await _answered(self._client.mget(keys))
        positions = [None if raw is None else Position(*_POSITION.unpack(raw)) for raw in found[: len(places)]]
        return positions, found[len(places) :]

    async def swap(self, writes: Sequence[Write], gone: Sequence[str] = ()) -> bool:
        """One script call."""
        keys = [self._prefix(write.place) + "at" for write in writes]
        expected = [_ABSENT if w.expected is None else _POSITION.pack(*w.expected) for w in writes]
        moved = [_POSITION.pack(*write.position) for write in writes]
        rows: list[bytes] = []
        for write in writes:
            prefix = self._prefix(write.place) + "of:"
            keys += [prefix + entity for entity in write.rows]
            rows += write.rows.values()
        keys += [self._prefix(writes[0].place) + "of:" + entity for entity in gone]
        return bool(await _answered(self._swap(keys=keys, args=[len(writes), *expected, *moved, *rows])))

    def _prefix(self, place: Place, known: dict[Place, str] | None = None) -> str:
        if known is not None and place in known:
            return known[place]
        prefix = f"{self._namespace}:{{{place.project}/{place.source}/{place.label}}}:{place.view_id}:"
        if known is not None:
            known[place] = prefix
        return prefix

    async def rewrite_log(self) -> None:
        """Lets the server write its append-only file anew: what was deleted or replaced is in the old one still."""
        try:
            await self._client.bgrewriteaof()
        except ResponseError as error:  # one is running, or the server's owner does this himself
            log.warning("the online store's log was not rewritten: %s", error)
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"the online store: {error}") from error


async def _answered(call: Awaitable[T] | Any) -> Any:
    try:
        return await call
    except (RedisError, OSError) as error:
        raise StoreUnavailable(f"the online store: {error}") from error
