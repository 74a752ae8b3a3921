"""The same adapters on the real servers of docker-compose.yml, by testcontainers, where a Docker engine runs."""

import asyncio
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from millrace.bus.events import Event, Message, new_id
from millrace.bus.kafka import KafkaBus
from millrace.bus.ports import TopicSpec
from millrace.stores.clickhouse import ClickHouse
from millrace.stores.errors import ObjectMissing
from millrace.stores.objects import S3Objects, digest_of
from millrace.stores.redis import connect
from millrace.stores.sql import Database

from infra.embedded.ports import free_ports
from tests.contract.compose.compose import services
from tests.support.poll import until, until_sync
from tests.support.s3 import fsspec_settings

pytestmark = pytest.mark.docker

Run = Callable[..., Any]


def no_engine() -> str:
    """Why containers cannot run here; "" when they can."""
    if shutil.which("docker") is None:
        return "the command docker is not installed"
    asked = subprocess.run(["docker", "info", "--format", "."], capture_output=True, text=True, timeout=30, check=False)
    return "" if asked.returncode == 0 else asked.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Starts a service of the compose file in a container; skips when no Docker engine answers."""
    if (why := no_engine()) != "":
        pytest.skip(f"no Docker engine: {why}")
    from testcontainers.core.container import DockerContainer

    started: list[Any] = []

    def start(name: str, port: int, host_port: int = 0, **environment: str) -> int:
        definition = services()[name]
        container = DockerContainer(definition["image"]).with_exposed_ports(port)
        for key, value in {**definition.get("environment", {}), **environment}.items():
            container = container.with_env(key, str(value))
        if "command" in definition:
            container = container.with_command(definition["command"])
        if host_port:
            container = container.with_bind_ports(port, host_port)
        started.append(container.start())
        return int(container.get_exposed_port(port))

    yield start
    for container in started:
        container.stop()


async def test_kafka(run: Run) -> None:
    (port,) = free_ports(1)
    advertised = f"HOST://127.0.0.1:{port},ROOMS://localhost:9094"
    voters = "1@localhost:9093"
    run("kafka", 9092, host_port=port, KAFKA_ADVERTISED_LISTENERS=advertised, KAFKA_CONTROLLER_QUORUM_VOTERS=voters)
    address = f"127.0.0.1:{port}"
    bus = KafkaBus(address, "test")
    await bus.start()
    topic = f"t-{uuid.uuid4().hex[:8]}"

    async def made() -> bool:
        try:
            await bus.ensure_topics([TopicSpec(topic, 2)])
        except Exception as error:
            raise AssertionError(str(error)) from error
        return True

    await until(made, 90.0, what="Kafka making a topic")
    event = Event(id=new_id(), type="millrace.test.record.sent.v1", source="test", data=b"x")
    await bus.publish([Message(topic, event, key=b"k")])
    reader = bus.reader([topic])
    await reader.start()
    batches = await until(lambda: reader.poll(10, 500), 30.0)
    assert batches[0].records[0].event.id == event.id
    await reader.stop()
    await bus.stop()


async def test_clickhouse(run: Run) -> None:
    port = run("clickhouse", 8123)
    secret = services()["clickhouse"]["environment"]["CLICKHOUSE_PASSWORD"]
    store = ClickHouse(f"http://millrace:{secret}@127.0.0.1:{port}", database="test")
    await store.start()
    await store.command("CREATE TABLE t (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
    await store.insert_arrow("t", pa.table({"a": pa.array([1, 2], pa.uint64()), "b": ["x", "y"]}))
    assert await store.query_rows("SELECT b FROM t WHERE a = {a:UInt64}", {"a": 2}) == [{"b": "y"}]
    await store.close()


async def test_valkey(run: Run) -> None:
    port = run("valkey", 6379)
    secret = services()["valkey"]["environment"]["REDISCLI_AUTH"]
    client = connect(f"redis://:{secret}@127.0.0.1:{port}/0")

    async def answers() -> bool:
        try:
            return bool(await client.ping())
        except OSError as error:
            raise AssertionError(str(error)) from error

    await until(answers, 30.0)
    await client.set("k", b"v")
    assert await client.get("k") == b"v"
    await client.aclose()


async def test_minio(run: Run) -> None:
    port = run("minio", 9000)
    room = {name: str(value) for name, value in services()["registry"]["environment"].items()}
    settings = fsspec_settings(room | {"FSSPEC_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}"})
    files = fsspec.filesystem("s3", **settings)

    def made() -> bool:
        try:
            files.mkdir("millrace")
        except Exception as error:
            raise AssertionError(str(error)) from error
        return True

    await asyncio.to_thread(until_sync, made, 60.0, what="MinIO making a bucket")
    objects = S3Objects("s3://millrace/test", **settings)
    digest = await objects.put(b"x")
    assert await objects.get(digest) == b"x"
    assert await objects.has(digest)
    assert not await objects.has(digest_of(b"absent"))
    with pytest.raises(ObjectMissing):
        await objects.get(digest_of(b"absent"))
    writer = objects.open_write()
    await writer.write(b"y" * 100_000)
    assert await objects.get(await writer.commit()) == b"y" * 100_000
    await writer.abort()


async def test_postgresql(run: Run, tmp_path: Any) -> None:
    port = run("postgres", 5432)
    (tmp_path / "0001_t.sql").write_text("CREATE TABLE t (a BIGINT PRIMARY KEY);\n")
    secret = services()["postgres"]["environment"]["POSTGRES_PASSWORD"]
    database = Database(f"postgresql+asyncpg://postgres:{secret}@127.0.0.1:{port}/millrace", room="registry")

    async def opened() -> bool:
        try:
            await database.start(tmp_path)
        except Exception as error:
            raise AssertionError(str(error)) from error
        return True

    await until(opened, 60.0)
    async with database.transaction() as transaction:
        await transaction.execute("INSERT INTO t (a) VALUES (:a)", {"a": 1})
    async with database.read() as reading:
        assert await reading.rows("SELECT a FROM t") == [{"a": 1}]
    await database.stop()
