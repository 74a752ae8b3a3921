"""Connecting to Redis or Valkey."""

from __future__ import annotations

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

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
    return redis.asyncio.Redis.from_pool(pool)
