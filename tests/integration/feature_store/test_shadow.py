"""`millrace shadow` on the real stack: the range again, beside the live room, and what differs is found."""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import clickhouse_connect
import grpc
import httpx
import numpy as np
import pytest
import redis
from millrace.bus.kafka import KafkaBus
from millrace.stores.clickhouse import ClickHouse
from millrace.stores.redis import connect
from millrace.wire.common.v1 import common_pb2, common_pb2_grpc

from services.feature_store.adapters.shadow_kept import ShelvedShadows
from services.feature_store.adapters.shadow_redis import KEPT
from tests.integration.feature_store.test_process import Process, beats, fake_labeling, publish_definition, slice_of
from tests.support.poll import until
from tests.support.stack import RunningStack
from tests.unit.feature_store.world import HOUR_US, MINUTE_US, START_US, shop

pytestmark = pytest.mark.stack
SLICES = 10


@dataclass
class Live:
    """The live room's stores, and the command beside them."""

    project: str
    env: dict[str, str]
    redis: "redis.Redis[bytes]"
    clickhouse: Any

    async def shadow(self, *arguments: str, status: int = 0) -> Any:
        """`millrace shadow PROJECT ...`: what it says as JSON, or its stderr."""
        command = [sys.executable, "-m", "millrace.cli", "shadow", self.project, *arguments, "--json"]
        ran = await asyncio.to_thread(
            subprocess.run, command, env=self.env, capture_output=True, text=True, timeout=180
        )
        assert ran.returncode == status, ran.stdout + ran.stderr
        return json.loads(ran.stdout) if ran.stdout else ran.stderr

    def redis_keys(self, prefix: str = "millrace") -> list[bytes]:
        return sorted(self.redis.scan_iter(match=f"{prefix}:{{{self.project}/*", count=1000))

    def table(self, source: str) -> str:
        (row,) = self.clickhouse.query(
            "SELECT name FROM feature_store.history_tables FINAL"
            f" WHERE project = '{self.project}' AND source = '{source}'"
        ).result_rows
        return f"feature_store.`{row[0]}`"


@pytest.fixture
async def live(stack: RunningStack, tmp_path) -> Iterator[Live]:
    project = shop(f"shop{uuid.uuid4().hex[:8]}")
    rng = np.random.default_rng(7)
    bus = KafkaBus(stack.kafka, "shadow-test")
    async with fake_labeling() as (_, labeling):
        env = os.environ | stack.env(tmp_path) | {"MILLRACE_LABELING_ADDRESS": labeling}
        process = Process(env, tmp_path)
        await publish_definition(bus, project)
        await process.start()
        for step in range(1, SLICES + 1):
            await bus.publish(slice_of(project.name, step, rng))
            await bus.publish(beats(project.name, START_US + step * 30 * MINUTE_US))
        await bus.stop()
        await settled(process.address, project.name, START_US + SLICES * 30 * MINUTE_US)
        await figures(process.address, project.name)
        yield Live(
            project.name,
            env,
            redis.Redis.from_url(stack.redis),
            clickhouse_connect.get_client(dsn=stack.clickhouse, autogenerate_session_id=False),
        )
        assert process.stop() == 0


async def settled(address: str, project: str, at_us: int) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        room = common_pb2_grpc.RoomStub(channel)

        async def all_in() -> bool:
            said = await room.Describe(common_pb2.DescribeRequest(exact=True, hurry=True))
            done = said.watermarks_us.get(project, 0) >= at_us
            return done and not said.lag_records and not said.deferred_records

        await until(all_in, 60, what="the live room is at rest")


async def figures(address: str, project: str) -> None:
    """Both groups of the room say on /metrics how each partition stands."""
    async with grpc.aio.insecure_channel(address) as channel:
        http = (await common_pb2_grpc.RoomStub(channel).Describe(common_pb2.DescribeRequest())).http_address
    async with httpx.AsyncClient() as client:
        lines = (await client.get(f"http://{http}/metrics")).text.splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if line.startswith("millrace_consumer_"))
    for group in ("feature_store.online", "feature_store.history"):
        place = f'group="{group}",partition="1",room="feature_store",topic="data.{project}.orders"'
        assert float(found[f"millrace_consumer_lag_records{{{place}}}"]) == 0
        assert float(found[f"millrace_consumer_oldest_seconds{{{place}}}"]) == 0
        topic = f'group="{group}",room="feature_store",topic="data.{project}.orders"'
        assert float(found[f"millrace_consumer_handled_total{{{topic}}}"]) > 50


def by_source(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["what"].split()[0]: row for row in rows}


async def test_the_same_code_over_the_same_log_gives_the_same_and_leaves_nothing_behind(live: Live) -> None:
    before = {key: live.redis.get(key) for key in live.redis_keys()}
    events = live.clickhouse.query(f"SELECT count() FROM {live.table('orders')}").result_rows[0][0]
    found = await live.shadow()
    assert found["same"] is True
    assert by_source(found["history"])["orders"]["equal"] == events > 50
    rows = [key for key in before if b":of:" in key]
    assert sum(one["equal"] for one in found["online"]) == len(rows) > 50
    assert not any(one["differing"] or one["missing"] or one["extra"] or one["not_compared"] for one in found["online"])
    # Live is as it was, and of the shadow nothing is left.
    assert {key: live.redis.get(key) for key in live.redis_keys()} == before
    assert not list(live.redis.scan_iter(match="millrace.shadow.*"))
    databases = {row[0] for row in live.clickhouse.query("SELECT name FROM system.databases").result_rows}
    assert not [name for name in databases if "shadow" in name]
    await ranges(live)
    await refusals(live)


async def test_what_differs_is_counted_and_shown(live: Live) -> None:
    table = live.table("orders")
    first, second = live.clickhouse.query(
        f"SELECT _event_id, _event_us FROM {table} ORDER BY _event_id LIMIT 2"
    ).result_rows
    # As a bug of an earlier version would have left it: one value wrong, one event lost.
    live.clickhouse.command(
        f"INSERT INTO {table} SELECT * REPLACE (toFloat64(4711) AS amount) FROM {table} WHERE _event_id = '{first[0]}'"
    )
    live.clickhouse.command(f"DELETE FROM {table} WHERE _event_id = '{second[0]}'")
    rows = [key for key in live.redis_keys() if b":of:" in key]
    spoilt, lost = rows[0], rows[1]
    value = live.redis.get(spoilt)
    live.redis.set(spoilt, value[:-1] + bytes([value[-1] ^ 1]))
    live.redis.delete(lost)
    invented = rows[2] + b"-nobody"
    live.redis.set(invented, b"row")

    found = await live.shadow(status=1)
    orders = by_source(found["history"])["orders"]
    assert (orders["differing"], orders["missing"], orders["extra"]) == (1, 0, 1)
    assert any(first[0] in text and "amount 4711.0 live" in text for text in orders["examples"])
    assert f"event {second[0]}: only in the shadow" in orders["examples"]
    totals = {kind: sum(one[kind] for one in found["online"]) for kind in ("differing", "missing", "extra")}
    assert totals == {"differing": 1, "missing": 1, "extra": 1}
    told = [text for one in found["online"] for text in one["examples"]]
    assert any(text.endswith("only live") and "nobody" in text for text in told)
    assert any(f"from byte {len(value) - 1} on" in text for text in told)


async def test_what_has_expired_may_be_gone_from_live(stack: RunningStack, live: Live) -> None:
    later_us = START_US + 30 * 24 * HOUR_US
    bus = KafkaBus(stack.kafka, "shadow-test")
    await bus.publish(beats(live.project, later_us))
    await bus.stop()

    def applied() -> bool:
        positions = [live.redis.get(key) for key in live.redis_keys() if key.endswith(b"@1:at")]
        return min(int.from_bytes(position[8:], "little") for position in positions) >= later_us

    await until(applied, 30, what="a month is over")
    rows = [key for key in live.redis_keys() if b":of:" in key]
    live.redis.delete(*rows[::2])
    found = await live.shadow()
    assert found["same"] is True
    assert sum(one["equal"] for one in found["online"]) == 0, "nothing is younger"
    assert sum(one["not_compared"] for one in found["online"]) == len(rows)
    assert {one["why"] for one in found["online"]} == {"older than rows are kept"}


async def ranges(live: Live) -> None:
    """By offset, by visible time, kept and removed."""
    found = await live.shadow("--source", "orders", "--from", "5", "--to", "12")
    assert found["records"] == 14  # seven offsets of each of two partitions, heartbeats among them
    (orders,) = found["history"]
    inside = f"SELECT count() FROM {live.table('orders')} WHERE _offset >= 5 AND _offset < 12"
    assert orders["equal"] == live.clickhouse.query(inside).result_rows[0][0] > 0
    (online,) = found["online"]
    assert "live rows hold what went before it" in online["why"]

    hour = str(START_US + HOUR_US), str(START_US + 3 * HOUR_US)
    found = await live.shadow(
        "--from", f"{iso(int(hour[0]))}", "--to", f"{iso(int(hour[1]))}", "--name", "hours", "--keep"
    )
    inside = f"WHERE _visible_us >= {hour[0]} AND _visible_us < {hour[1]}"
    for source in ("orders", "payments"):
        count = live.clickhouse.query(f"SELECT count() FROM {live.table(source)} {inside}").result_rows[0][0]
        assert by_source(found["history"])[source]["equal"] == count > 0
        kept = live.table(source).replace("feature_store", "feature_store_shadow_hours", 1)
        assert live.clickhouse.query(f"SELECT count() FROM {kept}").result_rows[0][0] == count
    assert live.redis_keys("millrace.shadow.hours")
    assert live.redis.hget(KEPT, "hours") == live.project.encode()
    await live.shadow("--name", "hours", "--source", "orders", "--from", "0", "--to", "1", status=1)
    assert not live.redis_keys("millrace.shadow.hours") and not live.redis.hget(KEPT, "hours")
    await live.shadow("--source", "orders", "--from", "0", "--to", "9", "--name", "copy", "--keep")
    await dropped(live, "copy")


async def dropped(live: Live, name: str) -> None:
    """As when an entity of the project is forgotten; what is another project's stays."""
    client = connect(live.env["MILLRACE_REDIS_URL"])
    clickhouse = ClickHouse(live.env["MILLRACE_CLICKHOUSE_URL"], database="feature_store")
    await clickhouse.start()
    try:
        shelf = ShelvedShadows(client, clickhouse, "feature_store")
        assert await shelf.drop("somebody's") == [] and live.redis_keys(f"millrace.shadow.{name}")
        assert await ShelvedShadows(client, clickhouse, "feature_store", own=name).drop(live.project) == []
        assert await shelf.drop(live.project) == [name]
        assert not live.redis_keys(f"millrace.shadow.{name}") and not live.redis.hget(KEPT, name)
        databases = {row[0] for row in live.clickhouse.query("SELECT name FROM system.databases").result_rows}
        assert f"feature_store_shadow_{name}" not in databases
    finally:
        await clickhouse.close()
        await client.aclose()


async def refusals(live: Live) -> None:
    """What cannot be replayed is named."""
    assert "has no source nowhere that feeds a view" in await live.shadow("--source", "nowhere", status=1)
    assert "is no name for a shadow" in await live.shadow("--name", "A-B", status=1)
    assert "holds no record" in await live.shadow("--from", "99999", status=1)
    assert "--from yesterday" in await live.shadow("--from", "yesterday", status=1)
    live.project = "nobody"
    assert "no project nobody (there are: " in await live.shadow(status=1)


def iso(time_us: int) -> str:
    return str(np.datetime64(time_us, "us"))
