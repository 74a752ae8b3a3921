"""The online store key by key: for what looks at all of it, in bounded steps beside the reads and writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import redis.asyncio
from millrace.stores.errors import StoreUnavailable
from redis.exceptions import RedisError

from services.feature_store.adapters.features_redis import EMPTYING
from services.feature_store.ports import Kept, Place, Walked

# Slots that the server looks through in one step: about half a millisecond in which it answers nobody else.
STEP_KEYS = 1_000
DELETE_KEYS = 500
_ROW = "of:"


class RedisKeys:
    """An OnlineKeys; `client` returns bytes. The keys are those that `features_redis` writes."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    async def walk(self, project: str) -> AsyncIterator[Walked]:
        """As `OnlineKeys.walk`: SCAN, whose steps do not hold the server."""
        cursor, scanned = 0, 0
        try:
            total = int(await self._client.dbsize())
            while True:
                cursor, keys = await self._client.scan(cursor, match=f"millrace:{{{project}/*", count=STEP_KEYS)
                scanned = total if cursor == 0 else min(scanned + STEP_KEYS, total)
                found = [
                    kept
                    for key in keys
                    if isinstance(key, bytes) and (kept := parse(key)) and kept.place.project == project
                ]
                yield Walked(scanned, total, found)
                if cursor == 0:
                    return
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"the online store: {error}") from error

    async def delete(self, keys: Sequence[bytes]) -> int:
        """As `OnlineKeys.delete`: UNLINK, whose memory is freed beside the server's work."""
        deleted = 0
        try:
            for begin in range(0, len(keys), DELETE_KEYS):
                deleted += int(await self._client.unlink(*keys[begin : begin + DELETE_KEYS]))
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"the online store: {error}") from error
        return deleted

    async def sizes(self, keys: Sequence[bytes]) -> list[tuple[int, int]]:
        """As `OnlineKeys.sizes`."""
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.strlen(key)
                    pipeline.memory_usage(key)
                answers = await pipeline.execute()
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"the online store: {error}") from error
        pairs = zip(answers[::2], answers[1::2], strict=True)
        return [(int(value), int(memory)) for value, memory in pairs if memory is not None]


def parse(key: bytes) -> Kept | None:
    """What a key of the store is; None for a key of somebody else's."""
    try:
        head, brace, tail = key.decode().removeprefix("millrace:{").partition("}:")
    except UnicodeDecodeError:
        return None
    place, (view_id, colon, rest) = head.split("/"), tail.partition(":")
    if not brace or not colon or len(place) != 3 or not key.startswith(b"millrace:{"):
        return None
    entity = rest.removeprefix(_ROW) if rest.startswith(_ROW) else None
    return Kept(key, Place(place[0], place[1], place[2], view_id), entity, rest != EMPTYING)
