"""Marks of the histories in Redis or Valkey, each a key: `millrace:history:<table>:<partition>`."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import redis.asyncio
from millrace.stores.errors import StoreUnavailable
from redis.exceptions import RedisError

from services.feature_store.domain.values import Position

LAPSES_S = 15  # a few times as long as it takes until it is told again
_POSITION = struct.Struct("<qq")


class RedisMarks:
    """A MarkStore; `client` returns bytes. `namespace` is what its keys begin with."""

    def __init__(self, client: redis.asyncio.Redis, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    async def tell(self, marks: Mapping[tuple[str, int], Position]) -> None:
        """As `MarkStore.tell`."""
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for place, position in marks.items():
                    pipeline.set(self._key(place), _POSITION.pack(*position), ex=LAPSES_S)
                await pipeline.execute()
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"the online store: {error}") from error

    async def told(self, places: Sequence[tuple[str, int]]) -> list[Position | None]:
        """As `MarkStore.told`."""
        if not places:
            return []
        try:
            found: list[Any] = await self._client.mget([self._key(place) for place in places])
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"the online store: {error}") from error
        return [None if raw is None else Position(*_POSITION.unpack(raw)) for raw in found]

    def _key(self, place: tuple[str, int]) -> str:
        return f"{self._namespace}:history:{place[0]}:{place[1]}"
