"""Connecting to Redis or Valkey."""

from __future__ import annotations

from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.connection import HiredisRespSerializer

MAX_CONNECTIONS = 16
CALL_TIMEOUT_S = 10.0


def connect(url: str) -> redis.asyncio.Redis:
    """A client with a bounded pool, deadlines and a few quick retries; values are bytes. Connects at first use.

    With all connections in use a call waits for one, within the call's deadline: many callers at once are slower, not
    refused.
    """
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=CALL_TIMEOUT_S,
        socket_timeout=CALL_TIMEOUT_S,
        socket_connect_timeout=CALL_TIMEOUT_S,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.02), retries=3),
        protocol=3,
    )
    pool.connection_class = _PACKED[pool.connection_class]
    return redis.asyncio.Redis.from_pool(pool)


class _Packed:
    """Packs commands by hiredis, as redis-py does in its blocking client and not (8.1) in this one: an MGET of 500 keys
    takes 0.2 ms of processor time with it and 0.6 ms without."""

    def pack_command(self, *args: Any) -> list[bytes]:
        return HiredisRespSerializer().pack(*args)  # type: ignore[no-any-return]  # untyped in redis-py


class _Tcp(_Packed, redis.asyncio.Connection):
    pass


class _Tls(_Packed, redis.asyncio.SSLConnection):
    pass


class _Unix(_Packed, redis.asyncio.UnixDomainSocketConnection):
    pass


_PACKED: dict[Any, Any] = {base: packed for packed in (_Tcp, _Tls, _Unix) for base in packed.__bases__}
