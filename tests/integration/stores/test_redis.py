"""The client of the online store under more callers than it has connections."""

import asyncio

import pytest
from millrace.stores.redis import MAX_CONNECTIONS, connect

pytestmark = pytest.mark.stack


async def test_more_callers_than_connections_wait_instead_of_being_refused(stack):
    client = connect(stack.redis)
    try:
        callers = 8 * MAX_CONNECTIONS
        assert await asyncio.gather(*(client.incr("test-redis-callers") for _ in range(callers)))
        assert int(await client.get("test-redis-callers")) == callers
        assert len(await client.client_list()) <= MAX_CONNECTIONS + 1
    finally:
        await client.delete("test-redis-callers")
        await client.aclose()


async def test_a_closed_client_leaves_no_connection(stack):
    client, other = connect(stack.redis), connect(stack.redis)
    try:
        await client.client_setname("test-redis-leaving")
        assert any(row["name"] == "test-redis-leaving" for row in await other.client_list())
        await client.aclose()
        assert not any(row["name"] == "test-redis-leaving" for row in await other.client_list())
    finally:
        await other.aclose()
