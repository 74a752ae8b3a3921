"""Shadows that were left to look at: copies of rows, in keys and tables of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis.asyncio
from millrace.stores.clickhouse import ClickHouse
from millrace.stores.errors import StoreUnavailable
from redis.exceptions import RedisError

from services.feature_store.adapters.shadow_clickhouse import ShadowTables, shadow_database
from services.feature_store.adapters.shadow_redis import KEPT, ShadowRows


class ShelvedShadows:
    """A KeptShadows; `client` returns bytes, `live` is the database of the live room. `own` is the shadow in whose
    process this is: there nobody drops it."""

    def __init__(self, client: redis.asyncio.Redis, clickhouse: ClickHouse, live: str, own: str = "") -> None:
        self._own = own
        self._client = client
        self._clickhouse = clickhouse
        self._live = live

    async def drop(self, project: str) -> list[str]:
        """As `KeptShadows.drop`. Its rows go last: with them goes the note that it is there."""
        try:
            kept: Mapping[Any, Any] = await self._client.hgetall(KEPT)
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"the online store: {error}") from error
        names = sorted(name.decode() for name, owner in kept.items() if owner.decode() == project)
        names = [name for name in names if name != self._own]
        for name in names:
            await ShadowTables(self._clickhouse, self._live, shadow_database(self._live, name)).drop()
            await ShadowRows(self._client, name).drop()
        return names
