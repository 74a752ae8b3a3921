"""Online rows of a shadow beside the live ones, byte by byte, where both have applied the same part of the log."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio
from millrace.aggregates import RowError, newest_us
from millrace.stores.errors import StoreUnavailable
from redis.exceptions import RedisError

from services.feature_store.adapters.features_redis import LIVE, prefix_of_shadow
from services.feature_store.domain.shadow import Difference

CHUNK = 500  # keys of one look; both sides and their positions are read in one instant
LOOKS = 50  # at keys whose positions differ, while live and shadow move
BETWEEN_LOOKS_S = 0.1
KEPT = "millrace:shadows"
"""A hash: the name of each shadow that is left to look at, and its project."""
_POSITION = b":at"
_SPECIAL = str.maketrans({c: f"\\{c}" for c in "*?[]\\^-"})

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class _Comparison:
    """What was found so far, by view; rows of a view (id) are kept for `lasts_us` after their newest event."""

    lasts_us: Mapping[str, int]
    found: dict[str, Difference] = field(default_factory=dict)

    def count(self, key: bytes, live: bytes | None, shadow: bytes | None, as_of_us: int) -> None:
        """One key's rows; those that may have expired on either side say nothing."""
        if self._have_expired(key, [row for row in (live, shadow) if row is not None], as_of_us):
            self.leave_out(key, "older than rows are kept")
        else:
            self._of(key).count(key.decode(errors="replace")[1:], live, shadow)

    def leave_out(self, key: bytes, why: str) -> None:
        """A key that cannot be compared."""
        difference = self._of(key)
        difference.not_compared += 1
        difference.why = why

    def _of(self, key: bytes) -> Difference:
        return self.found.setdefault(_view(key), Difference(_view(key)))

    def _have_expired(self, key: bytes, rows: Sequence[bytes], as_of_us: int) -> bool:
        lasts_us = self.lasts_us.get(_view(key).partition(" ")[2], 0)
        try:
            return bool(lasts_us) and all(newest_us(row) < as_of_us - lasts_us for row in rows)
        except RowError:
            return False


class ShadowRows:
    """Compares one project's keys. `client` returns bytes."""

    def __init__(self, client: redis.asyncio.Redis, shadow: str) -> None:
        self._client = client
        self._name = shadow
        self._prefix = prefix_of_shadow(shadow)

    async def compare(
        self, project: str, sources: Sequence[str], lasts_us: Mapping[str, int], patiently: bool, looked_at: Progress
    ) -> list[Difference]:
        """One difference per view. Rows of records that were handed back from the dead letters are left out: they came
        by another topic; and so are those that may have expired. Raises StoreUnavailable."""
        comparison = _Comparison(lasts_us)
        wanted, seen = frozenset(sources), 0
        looks = LOOKS if patiently else 1
        try:
            async for keys in self._chunks(LIVE, project, wanted):
                await self._look(keys, comparison, looks)
                looked_at(seen := seen + len(keys))
            async for keys in self._chunks(self._prefix, project, wanted):
                await self._extra(keys, comparison, looks)
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"the online store: {error}") from error
        return [comparison.found[view] for view in sorted(comparison.found)]

    async def keep(self, project: str) -> None:
        """It will be left: whoever forgets an entity of the project has to know of it."""
        try:
            await self._client.hset(KEPT, self._name, project)
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"the online store: {error}") from error

    async def drop(self) -> None:
        """Delete every key of the shadow."""
        keys: list[bytes] = []
        try:
            async for key in self._client.scan_iter(match=f"{self._prefix}:*", count=CHUNK):
                keys.append(key)
                if len(keys) >= CHUNK:
                    await self._client.unlink(*keys)
                    keys = []
            if keys:
                await self._client.unlink(*keys)
            await self._client.hdel(KEPT, self._name)
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"the online store: {error}") from error

    async def _chunks(self, prefix: str, project: str, sources: frozenset[str]) -> AsyncIterator[list[bytes]]:
        """Row keys without their prefix, those of one hash tag together."""
        by_tag: dict[bytes, list[bytes]] = defaultdict(list)
        pattern = f"{prefix.translate(_SPECIAL)}:{{{project.translate(_SPECIAL)}/*"
        async for key in self._client.scan_iter(match=pattern, count=CHUNK):
            rest = key[len(prefix) :]
            tag = rest[2 : rest.index(b"}")]
            _, source, label = tag.decode().rsplit("/", 2)
            if source not in sources or not label.isdigit() or rest.endswith(_POSITION):
                continue
            by_tag[tag].append(rest)
            if len(by_tag[tag]) >= CHUNK:
                yield by_tag.pop(tag)
        for keys in by_tag.values():
            yield keys

    async def _look(self, keys: list[bytes], comparison: _Comparison, looks: int) -> None:
        """Compare the keys in an instant in which both sides have applied the same offset, for each of their views."""
        waiting = list(dict.fromkeys(keys))
        for look in range(looks):
            waiting = await self._compare_settled(waiting, comparison)
            if not waiting:
                return
            await asyncio.sleep(BETWEEN_LOOKS_S if look + 1 < looks else 0)
        for key in waiting:
            comparison.leave_out(key, "live and shadow did not stand at the same offset")

    async def _compare_settled(self, keys: list[bytes], comparison: _Comparison) -> list[bytes]:
        """What could not be compared, since the positions differ."""
        positions = list(dict.fromkeys(_position(key) for key in keys))
        names = [*positions, *keys]
        shadow = self._prefix.encode()
        values: list[Any] = await self._client.mget([LIVE.encode() + n for n in names] + [shadow + n for n in names])
        live, other = values[: len(names)], values[len(names) :]
        settled = {
            name: int.from_bytes(a[8:], "little", signed=True)
            for name, a, b in zip(positions, live, other, strict=False)
            if a and b and _offset(a) == _offset(b)
        }
        left = []
        for key, a, b in zip(keys, live[len(positions) :], other[len(positions) :], strict=True):
            as_of_us = settled.get(_position(key))
            if as_of_us is None:
                left.append(key)
            else:
                comparison.count(key, a, b, as_of_us)
        return left

    async def _extra(self, keys: list[bytes], comparison: _Comparison, looks: int) -> None:
        """Rows of the shadow that have no live one. Those that have were compared."""
        there = await self._client.mget([LIVE.encode() + key for key in keys])
        await self._look([key for key, value in zip(keys, there, strict=True) if value is None], comparison, looks)


def _offset(position: bytes) -> bytes:
    """The offset of a position; its visible time says nothing of the rows."""
    return position[:8]


def _position(key: bytes) -> bytes:
    return key[: key.index(b":of:")] + _POSITION


def _view(key: bytes) -> str:
    """`source view@version` of a key without prefix, `:{project/source/label}:view@version:of:entity`."""
    tag, _, rest = key[2:].partition(b"}:")
    source = tag.decode().rsplit("/", 2)[1]
    return f"{source} {rest.partition(b':of:')[0].decode()}"
