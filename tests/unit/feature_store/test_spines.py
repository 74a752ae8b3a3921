"""Rows of the user's own, through the room's gRPC door and the SDK: as many come out as went in, in their order."""

import asyncio
import csv
import hashlib
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import grpc
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from millrace.client.errors import BadTable, CallFailed, SnapshotBroken
from millrace.client.features import Features, SyncFeatures
from millrace.client.frames import verified_batches
from millrace.runtime.doors import grpc_errors

from tests.unit.feature_store.test_training import END_US, filled
from tests.unit.feature_store.world import HOUR_US, START_US

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def served(world):
    """The room's service on a real port."""
    server = grpc.aio.server(interceptors=(grpc_errors(),))
    world.store.register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def at(hours: float) -> datetime:
    return EPOCH + timedelta(microseconds=START_US + int(hours * HOUR_US))


SPINE = pa.table(
    {
        "note": ["first", "again", "nobody", "null", "early"],
        "entity": ["o1", "o1", "unheard", None, "o1"],
        "moment": pa.array([at(5), at(3), at(5), at(5), at(0.1)], pa.timestamp("us", tz="UTC")),
        "weight": [1.0, None, 3.0, 4.0, 5.0],
    }
)


async def test_history_of_a_few_entities_is_bounded_and_says_what_to_ask_for_instead(redis_client):
    world = await filled(redis_client, historical_events=2)
    async with served(world) as address, Features(address, "shop") as features:
        with pytest.raises(CallFailed, match=r"RESOURCE_EXHAUSTED.*have \d+ events in history, 2 are read.*its spine"):
            await features.historical(["o1"], [at(5)])
        assert (await features.training_set(spine=SPINE)).rows == 5


async def test_rows_out_equal_rows_in_with_what_they_carry(redis_client):
    world = await filled(redis_client)
    async with served(world) as address, Features(address, "shop") as features:
        seen = []
        found = await features.training_set(spine=SPINE, on_progress=lambda done, total: seen.append((done, total)))
        table = await found.to_arrow()
        names = world.store.feeds.project("shop").plan.names
        assert table.column_names == ["entity", "moment_us", "note", "weight", *names] == list(found.columns)
        assert table["note"].to_pylist() == SPINE["note"].to_pylist()
        assert table["entity"].to_pylist() == SPINE["entity"].to_pylist()
        assert table["weight"].to_pylist() == SPINE["weight"].to_pylist()
        assert table["order.customer"].to_pylist() == ["ann", "ann", None, None, None]
        assert table["habits.payments_1h"].to_pylist()[2:4] == [None, None]
        assert found.present["order.customer"] == 2 and found.share_present["order.customer"] == 0.4
        assert seen[0] == (0, 5) and seen[-1] == (5, 5)
        known = await features.historical(["o1"] * 2, [at(5), at(3)])
        for place, row in enumerate(known):
            for name, value in row.values.items():
                cell = table[name][place].as_py()
                assert (cell is None) == (value.status != "PRESENT")
                assert cell is None or cell == value.value
        happened = await features.training_set(spine=SPINE, as_happened=True)
        assert happened.digest != found.digest
        again = await features.training_set(spine=await features.upload_spine(SPINE))
        assert again.digest == found.digest


async def test_a_spine_may_have_any_form(redis_client, tmp_path):
    world = await filled(redis_client)
    pq.write_table(SPINE, tmp_path / "spine.parquet")
    feather.write_feather(SPINE, tmp_path / "spine.arrow", compression="uncompressed")
    with (tmp_path / "spine.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["note", "entity", "moment", "weight"])
        writer.writerows(["x", row["entity"] or "", row["moment"].isoformat(), row["weight"] or ""] for row in rows())
    lines = [f'{{"entity": "o1", "moment": "{at(5):%Y-%m-%dT%H:%M:%S}"}}\n'] * 3
    (tmp_path / "spine.ndjson").write_text("".join(lines))
    frame = SPINE.to_pandas()
    async with served(world) as address, Features(address, "shop") as features:
        digests = {
            (await features.training_set(spine=spine)).digest
            for spine in (
                SPINE,
                rows(),
                SPINE.to_reader(),
                frame,
                tmp_path / "spine.parquet",
                str(tmp_path / "spine.arrow"),
            )
        }
        assert len(digests) == 1
        from_csv = await (await features.training_set(spine=tmp_path / "spine.csv")).to_arrow()
        assert from_csv["moment_us"].to_pylist() == [us(row["moment"]) for row in rows()]
        assert from_csv["order.customer"].to_pylist()[:2] == ["ann", "ann"]
        from_json = await (await features.training_set(spine=tmp_path / "spine.ndjson")).to_pandas()
        assert from_json["order.customer"].tolist() == ["ann"] * 3
        for bad in (3, tmp_path / "none.parquet", tmp_path):
            with pytest.raises(BadTable):
                await features.upload_spine(bad)


def rows() -> list[dict]:
    return SPINE.to_pylist()


def us(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


async def test_what_is_wrong_with_a_spine_is_said_by_column_and_row(redis_client):
    world = await filled(redis_client, spine_upload_mib=1)
    moments = pa.array([at(5)] * 2)
    cases = {
        "no column entity": pa.table({"key": ["a", "b"], "moment": moments}),
        "needs one column moment": pa.table({"entity": ["a", "b"]}),
        "moment is null in row 2": pa.table({"entity": ["a", "b"], "moment": pa.array([at(5), None])}),
        "moment is bool": pa.table({"entity": ["a", "b"], "moment": [True, False]}),
        "cannot be read as a moment": pa.table({"entity": ["a", "b"], "moment": ["noon", "later"]}),
        "has no rows": pa.table({"entity": pa.array([], pa.string()), "moment": pa.array([], pa.int64())}),
        "two columns x": pa.table([["a"], pa.array([at(5)]), [1], [2]], names=["entity", "moment", "x", "x"]),
        "1 MiB": pa.table({"entity": ["e" * 1024] * 2048, "moment": pa.array([1] * 2048)}),
    }
    async with served(world) as address, Features(address, "shop") as features:
        for words, table in cases.items():
            with pytest.raises(CallFailed, match=words) as caught:
                await features.upload_spine(table)
            assert caught.value.code == "INVALID_ARGUMENT"
        taken = pa.table({"entity": ["a"], "moment": [1], "order.amount": [1.0]})
        for words, asked in {
            "which is a feature": {"spine": taken},
            "names no uploaded spine": {"spine": await kept(world)},
            "order.colour": {"spine": SPINE, "features": ["order.colour"]},
            "named twice": {"spine": SPINE, "features": ["order.amount", "order.amount"]},
            "from and to": {"spine": SPINE, "begin": 1, "end": 2},
        }.items():
            with pytest.raises(CallFailed, match=words):
                await features.training_set(**asked)
        with pytest.raises(CallFailed, match="NOT_FOUND"):
            await features.training_set(spine="sha256:" + "0" * 64)


async def kept(world) -> str:
    """The digest of something that is no spine."""
    return await world.objects.put(b'{"format":"another"}')


async def test_some_features_come_in_the_order_asked_and_files_are_whole_or_not_there(redis_client, tmp_path):
    world = await filled(redis_client, snapshot_chunk_rows=7)
    async with served(world) as address, Features(address, "shop") as features:
        wanted = ["habits.delay_max_1h", "order.customer"]
        found = await features.training_set(begin=at(0), end=END_US, as_of=END_US, features=wanted)
        batches = [batch async for batch in found.batches()]
        assert [batch.num_rows for batch in batches] == [7, 7, 7, 7, 2]
        path = tmp_path / "set.parquet"
        assert await found.to_parquet(path) == 30
        table = pq.read_table(path)
        assert table.column_names[-2:] == wanted
        assert table.replace_schema_metadata(None).equals(await found.to_arrow())
        assert (await found.to_pandas())["order.customer"].tolist() == table["order.customer"].to_pylist()
        chunk = next(iter(world.objects.contents))
        for digest in list(world.objects.contents):
            if digest != found.digest:
                chunk = digest
        world.objects.contents[chunk] = b"other bytes"
        with pytest.raises(CallFailed, match="DATA_LOSS"):
            await found.to_parquet(tmp_path / "broken.parquet")
        assert [p.name for p in tmp_path.iterdir()] == ["set.parquet"]


async def test_a_stream_that_is_cut_off_or_another_is_refused(redis_client):
    world = await filled(redis_client)
    async with served(world) as address, Features(address, "shop") as features:
        found = await features.training_set(spine=SPINE)
    whole = b"".join([piece async for piece in world.store.training.read(found.digest)])

    async def read(data: bytes, digest: str) -> int:
        async def pieces():
            yield data

        return sum([batch.num_rows async for batch in verified_batches(pieces(), digest)])

    assert await read(whole, found.digest) == 5
    for data, digest in (
        (whole[: len(whole) // 2], found.digest),
        (whole, "sha256:" + hashlib.sha256(b"").hexdigest()),
        (b"", found.digest),
    ):
        with pytest.raises(SnapshotBroken):
            await read(data, digest)


async def test_the_blocking_client_gives_the_same(redis_client):
    world = await filled(redis_client)

    def work(address: str) -> tuple[str, pd.DataFrame, list[int], str]:
        with SyncFeatures(address, "shop") as features:
            found = features.training_set(spine=SPINE)
            values = features.historical(["o1"], at(5))[0].values
            return (
                found.facts.digest,
                found.to_pandas(),
                [batch.num_rows for batch in found.batches()],
                values["order.customer"].value,
            )

    async with served(world) as address:
        digest, frame, batches, customer = await asyncio.to_thread(work, address)
        async with Features(address, "shop") as features:
            assert (await features.training_set(spine=SPINE)).digest == digest
    assert (len(frame), batches, customer) == (5, [5], "ann")
