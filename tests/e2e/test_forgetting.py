"""One entity out of a running platform, by the command line: every store is searched for its key afterwards, the log
is read again, and it does not come back."""

import asyncio
import json
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import grpc
import msgspec
import pytest
import redis
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from millrace.bus.kafka import KafkaBus
from millrace.bus.kafka_clients import admin_of
from millrace.client.columns import FeatureCells
from millrace.stores.clickhouse import ClickHouse
from millrace.wire.feature_store.v1 import service_pb2, service_pb2_grpc

from services.registry.domain.bundle import expected_inputs
from tests.support.columns import cells_of
from tests.support.onnx_models import classifier
from tests.support.poll import until
from tests.support.stations import HORIZON_US, ROOT, Stations, running_stations

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def stations(tmp_path_factory):
    with running_stations(tmp_path_factory.mktemp("forgetting"), restart=True, days=12) as made:
        yield made


def cli(stations: Stations, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "millrace.cli", *words, "--home", str(stations.platform.home)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def asked(stations: Stations) -> list[dict]:
    """The requests that were published, in order."""
    return [msgspec.json.decode(e.json) for e in stations._published("requests")]


async def snapshot(stations: Stations) -> service_pb2.Snapshot:
    async with grpc.aio.insecure_channel(stations.addresses.grpc("feature_store")) as channel:
        stub = service_pb2_grpc.FeatureStoreStub(channel)
        ask = service_pb2.TrainingSetRequest(
            project="stations", from_us=0, to_us=stations.now_us, as_of_us=stations.now_us
        )
        async for progress in stub.CreateTrainingSet(ask, timeout=240):
            if progress.HasField("snapshot"):
                return progress.snapshot
    raise AssertionError("no snapshot")


async def rows_of(stations: Stations, digest: str) -> int:
    """Rows of a snapshot; grpc.RpcError when it is not there."""
    async with grpc.aio.insecure_channel(stations.addresses.grpc("feature_store")) as channel:
        stub = service_pb2_grpc.FeatureStoreStub(channel)
        chunks = [c.data async for c in stub.ReadSnapshot(service_pb2.ReadSnapshotRequest(digest=digest), timeout=60)]
    import pyarrow as pa

    with pa.ipc.open_stream(b"".join(chunks)) as stream:
        return stream.read_all().num_rows


async def clickhouse_holds(stations: Stations, entity: str) -> list[str]:
    """`database.table.column` of every text column in which the key is found."""
    found = []
    for database in ("feature_store", "labeling", "monitor"):
        clickhouse = ClickHouse(stations.platform.stack.addresses.clickhouse, database=database)
        await clickhouse.start()
        try:
            columns = await clickhouse.query_rows(
                "SELECT table, name FROM system.columns WHERE database = {database:String} AND type LIKE '%String%'",
                {"database": database},
            )
            for column in columns:
                sql = f"SELECT count() AS n FROM `{column['table']}` WHERE position(toString(`{column['name']}`), "
                rows = await clickhouse.query_rows(sql + "{entity:String}) > 0", {"entity": entity})
                if rows[0]["n"]:
                    found.append(f"{database}.{column['table']}.{column['name']}")
        finally:
            await clickhouse.close()
    return found


def redis_holds(stations: Stations, entity: str) -> list[str]:
    client = redis.Redis.from_url(stations.platform.stack.addresses.redis)
    return [key.decode() for key in client.scan_iter(count=1000) if entity.encode() in key]


def files_hold(folder: Path, entity: str) -> list[str]:
    """Files below `folder` whose bytes hold the key."""
    wanted = entity.encode()
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and wanted in p.read_bytes())


def sql_holds(folder: Path, entity: str) -> list[str]:
    """`file.table` of every SQLite table in which the key is found, in whatever column."""
    found = []
    for path in folder.rglob("*.db"):
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                for row in database.execute(f"SELECT * FROM {table}"):
                    if any(entity.encode() in (v if isinstance(v, bytes) else str(v).encode()) for v in row):
                        found.append(f"{path.name}.{table}")
                        break
    return found


async def log_holds(stations: Stations, topic: str, entity: str) -> int:
    """Records of a topic that hold the key."""
    bus = KafkaBus(stations.platform.stack.addresses.kafka, "searching")
    await bus.start()
    reader = bus.reader([topic])
    found = 0
    try:
        await reader.start()
        while await reader.behind():
            for batch in await reader.poll(5_000, 200):
                found += sum(entity.encode() in r.data for r in batch.records)
    finally:
        await reader.stop()
        await bus.stop()
    return found


async def online(stations: Stations, entity: str) -> set[int]:
    """The statuses of its features."""
    return {status for cells in (await read(stations, [entity])).values() for status in cells.statuses}


async def read(stations: Stations, entities: list[str]) -> dict[str, FeatureCells]:
    """Their features, by name."""
    async with grpc.aio.insecure_channel(stations.addresses.grpc("feature_store")) as channel:
        stub = service_pb2_grpc.FeatureStoreStub(channel)
        ask = service_pb2.GetOnlineRequest(project="stations", entities=entities, not_before_us=stations.now_us)
        reply = await stub.GetOnline(ask, timeout=60, wait_for_ready=True)
    return cells_of(reply, len(entities))


def serve_something(stations: Stations, folder: Path) -> None:
    """A model from outside answers, so that there are predictions to forget."""
    inputs = expected_inputs(stations.project)
    weights = {name: 0.01 for name, kind in inputs.items() if kind == "FP32"}
    texts = {name: {"seattle": 1.0} for name, kind in inputs.items() if kind == "BYTES"}
    file = folder / "any.onnx"
    file.write_bytes(classifier(weights, texts, output="value"))
    pushed = cli(stations, "models", "push", "stations", str(file), "--force", "--reason", "to have answers")
    assert pushed.returncode == 0, pushed.stderr


async def predicted(stations: Stations, entity: str) -> None:
    """One answer, and its record in the monitor's log."""

    async def answered() -> bool:
        ran = await asyncio.to_thread(cli, stations, "predict", "stations", entity)
        return ran.returncode == 0

    await until(answered, 90, what="a prediction")
    await until(lambda: logged(stations, entity), 60, what="the prediction in the log")


async def logged(stations: Stations, entity: str) -> bool:
    return "monitor.predictions.entity" in await clickhouse_holds(stations, entity)


def files_of_rooms_hold(home: Path, entity: str) -> list[str]:
    """Files that hold the key; Kafka's segments and ClickHouse's replaced parts go in their stated time."""
    return [name for name in files_hold(home, entity) if name.split("/")[0] not in ("kafka", "clickhouse")]


async def test_an_entity_is_gone_from_every_store_and_does_not_come_back(stations, tmp_path):
    home = stations.platform.home
    await stations.drive(40)
    await stations.rest()
    matured = [row["forecast_id"] for row in asked(stations) if row["asked_at"] + HORIZON_US < stations.now_us]
    entity, other = matured[-1], matured[-2]
    old = await snapshot(stations)
    serve_something(stations, tmp_path)
    await predicted(stations, entity)
    assert redis_holds(stations, entity)
    assert await clickhouse_holds(stations, entity)
    assert sql_holds(home, entity)
    assert {"valkey", "labeling"} <= {name.split("/")[0] for name in files_of_rooms_hold(home, entity)}
    assert service_pb2.PRESENT in await online(stations, entity)

    done = cli(stations, "data", "forget", entity, "--project", "stations", "--reason", "asked by its owner",
               "--wait", "120", "--json")  # fmt: skip
    assert done.returncode == 0, (done.stdout, done.stderr)
    status = json.loads(done.stdout)
    stores = {s["store"]: int(s.get("deleted", 0)) for r in status["receipts"] for s in r["stores"] if s.get("deleted")}
    assert {"feature_store: online rows", "feature_store: history rows", "feature_store: snapshot rows"} <= set(stores)
    assert {
        "labeling: examples",
        "labeling: truths",
        "labeling: history of labels",
        "monitor: labels",
        "monitor: predictions",
    } <= set(stores)

    assert redis_holds(stations, entity) == []
    assert await clickhouse_holds(stations, entity) == []
    assert sql_holds(home, entity) == []
    assert await online(stations, entity) == {service_pb2.MISSING}
    assert service_pb2.PRESENT in await online(stations, other), "its neighbours are not touched"
    await until(lambda: not files_of_rooms_hold(home, entity), 60, what="no file holds it, Redis' log included")

    with pytest.raises(grpc.aio.AioRpcError) as gone:
        await rows_of(stations, old.digest)
    (by,) = {s["by"] for r in status["receipts"] for s in r.get("snapshots", []) if s["digest"] == old.digest}
    assert by in gone.value.details()
    assert await rows_of(stations, by) == old.rows - 1

    kept = cli(stations, "data", "forgotten", status["id"], "--json")
    assert kept.returncode == 0, kept.stderr
    (record,) = json.loads(kept.stdout)
    assert record["is_intact"] and record["proof"]
    assert entity not in kept.stdout, "the proof names nobody"
    assert json.loads(cli(stations, "data", "forgotten", "-p", "stations", "--entity", entity, "--json").stdout)

    # The log still holds it: whoever reads that from the beginning leaves it out.
    assert await log_holds(stations, "data.stations.requests", entity)
    redis.Redis.from_url(stations.platform.stack.addresses.redis).flushall()
    await stations.drive(4)
    await stations.rest()
    await stations._check_features(random.Random(1))  # what stays is the same online and in history
    assert service_pb2.PRESENT in await online(stations, other)
    assert await online(stations, entity) == {service_pb2.MISSING}
    assert redis_holds(stations, entity) == []
    assert await clickhouse_holds(stations, entity) == []


LETTERS = """\
project: letters
clock: wall
sources:
  sent:
    event_type: letters.sent
    key: id
    event_time: at
    retention: 14h
    fields:
      id: {type: string}
      at: {type: timestamp}
      weight: {type: number}
      address: {type: string, pii: encrypt}
predict: {source: sent, entity: id, moment: at}
features:
  letter@1: {source: sent, entity: id, latest: [weight], ttl: 6h}
label: {source: sent, key: id, value: weight > 3, horizon: 1h}
model:
  name: heavy
  task: binary
  template: {kind: linear}
  inputs: [letter.weight]
gate: {metric: auc}
"""


async def test_features_are_made_anew_by_command_and_answer_as_before(stations):
    entities = [row["forecast_id"] for row in asked(stations)[-4:]]
    before = await read(stations, entities)
    assert service_pb2.PRESENT in {status for cells in before.values() for status in cells.statuses}
    client = redis.Redis.from_url(stations.platform.stack.addresses.redis)
    rows = [key for key in client.scan_iter(count=1000) if any(f":of:{e}".encode() in key for e in entities)]
    assert client.delete(*rows) == len(rows) >= len(entities)
    assert await read(stations, entities) != before
    done = await asyncio.to_thread(cli, stations, "features", "rebuild", "stations", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["events"] > 0
    assert await read(stations, entities) == before
    unknown = await asyncio.to_thread(cli, stations, "features", "rebuild", "stations", "nothing@1")
    assert unknown.returncode == 1 and "stations has no view nothing@1" in unknown.stderr


async def test_an_encrypted_field_is_shown_to_those_who_may_until_its_entity_is_forgotten(stations, tmp_path):
    file = tmp_path / "letters.yaml"
    file.write_text(LETTERS, encoding="utf-8")
    assert cli(stations, "apply", str(file)).returncode == 0
    events = tmp_path / "letters.ndjson"
    moment = "2026-01-01T00:00:00Z"
    events.write_text(
        "".join(
            json.dumps({"id": f"letter-{n}", "at": moment, "weight": n, "address": "Mill Lane 1"}) + "\n"
            for n in (1, 2)
        )
    )
    published = cli(stations, "publish", "letters", "sent", str(events))
    assert published.returncode == 0, published.stderr
    assert await log_holds(stations, "data.letters.sent", "Mill Lane") == 0
    tail = cli(stations, "events", "tail", "data.letters.sent", "-n", "50", "--json").stdout.splitlines()
    rows = {row["data"]["id"]: row["data"] for row in map(json.loads, tail) if "id" in row["data"]}
    sealed = f"address={rows['letter-1']['address']}"
    words = ("data", "reveal", "letters", "sent", "letter-1", sealed, "--reason", "case 42", "--actor", "ann")
    assert cli(stations, *words).stdout.strip() == "address: Mill Lane 1"
    (noted,) = json.loads(cli(stations, "data", "revealed", "--project", "letters", "--json").stdout)
    assert (noted["actor"], noted["reason"], noted["fields"]) == ("ann", "case 42", ["address"])
    assert await settings_of(stations, "data.letters.sent") == {"retention.ms": "50400000", "segment.ms": "7200000"}

    asked = ("data", "forget", "letter-1", "--project", "letters", "--reason", "asked", "--wait", "120", "--json")
    done = cli(stations, *asked)
    assert done.returncode == 0, (done.stdout, done.stderr)
    refused = cli(stations, *words)
    assert refused.returncode == 1
    assert "it was forgotten" in refused.stderr
    nobody = cli(stations, "data", "forget", "x", "--project", "letters", "--field", "address", "--reason", "asked")
    assert nobody.returncode == 1
    assert "encrypted fields name nobody" in nobody.stderr


async def settings_of(stations: Stations, topic: str) -> dict[str, str]:
    """How long Kafka keeps a topic."""
    bus = KafkaBus(stations.platform.stack.addresses.kafka, "looking")
    async with admin_of(bus._settings) as admin:
        (reply,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    (found,) = reply.to_object()["resources"]
    settings = {entry["config_names"]: entry["config_value"] for entry in found["config_entries"]}
    return {name: settings[name] for name in ("retention.ms", "segment.ms")}
