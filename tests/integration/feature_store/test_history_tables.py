"""History on ClickHouse's real engine: repeats stay one, contracts change, keys and ranges select."""

import uuid
from dataclasses import replace

import pyarrow as pa
import pytest
from millrace.definitions.keys import composite_key
from millrace.stores.clickhouse import ClickHouse

from services.feature_store.adapters.history_clickhouse import ClickHouseHistory
from services.feature_store.adapters.rates_clickhouse import DAY_US, HOUR_US, ClickHouseRates
from services.feature_store.bootstrap import MIGRATIONS
from services.feature_store.domain.values import Position
from services.feature_store.handlers.schemas import history_schema, timeline_schema
from services.feature_store.ports import Range, Stretch, Table

pytestmark = pytest.mark.stack
FIELDS = (("key", "string"), ("count", "integer"), ("size", "number"), ("flag", "boolean"), ("at", "timestamp"))
EVERYTHING = Range(-(2**62), 2**62, 2**62)


@pytest.fixture
async def history(stack):
    clickhouse = ClickHouse(stack.clickhouse, database=f"history_{uuid.uuid4().hex[:8]}")
    await clickhouse.start(MIGRATIONS)
    yield ClickHouseHistory(clickhouse)
    await clickhouse.close()


def table(fields=FIELDS) -> Table:
    return Table(f"events_{len(fields)}", "shop", "orders", fields)


def rows(fields, *numbers: int, via: str = "") -> pa.Table:
    full = {"key": "k{}", "count": 1, "size": 1.5, "flag": True, "at": 10}
    return pa.Table.from_pylist(
        [
            {
                "_event_us": 100 - n,
                "_visible_us": 100 + n,
                "_partition": n % 2,
                "_offset": n,
                "_event_id": f"e{n}",
                "_via": via,
                **{name: None if n == 7 else _value(full[name], n) for name, _ in fields},
            }
            for n in numbers
        ],
        schema=history_schema(fields),
    )


def _value(pattern, n: int):
    if isinstance(pattern, str):
        return pattern.format(n)
    return pattern if isinstance(pattern, bool) else pattern * n


async def test_repeated_inserts_stay_one_and_types_come_back(history):
    place = table()
    await history.ensure(place)
    await history.ensure(place)
    for _ in range(3):
        await history.insert(place, rows(FIELDS, 1, 2, 3, 7))
    found = await history.read(place, [name for name, _ in FIELDS], EVERYTHING)
    assert found["_event_id"].to_pylist() == ["e7", "e3", "e2", "e1"]  # by event time
    assert found.schema == history_schema(FIELDS)
    assert found.to_pylist()[0]["key"] is None
    assert [found.to_pylist()[1][name] for name, _ in FIELDS] == ["k3", 3, 4.5, True, 30]
    assert found.num_rows <= await history.count(place, EVERYTHING) <= 3 * found.num_rows
    assert await history.count(place, replace(EVERYTHING, to_us=0)) == 0


async def test_positions_know_only_the_records_of_the_source_topic(history):
    place = table()
    await history.ensure(place)
    assert await history.positions(place) == {}
    await history.insert(place, rows(FIELDS, 1, 2, 5))
    await history.insert(place, rows(FIELDS, 40, via="retry.feature_store"))
    assert await history.positions(place) == {0: Position(2, 102), 1: Position(5, 105)}


async def test_ranges_and_keys_select(history):
    place = table()
    await history.ensure(place)
    await history.insert(place, rows(FIELDS, *range(1, 30)))
    some = await history.read(place, ["key"], Range(80, 95, 110))
    assert some["_event_us"].to_pylist() == list(range(90, 95))
    for field, keys in (("key", ("k3", "k9")), ("count", ("3", "9")), ("size", ("4.5", "13.5"))):
        found = await history.read(place, [field], replace(EVERYTHING, entity_fields=(field,), entities=keys))
        assert sorted(found["_offset"].to_pylist()) == [3, 9]
    none = await history.read(place, ["key"], replace(EVERYTHING, entity_fields=("key",), entities=()))
    assert none.num_rows == 0


async def test_composite_keys_are_those_of_the_definitions(history):
    """Whatever stands in the parts: the engine writes the same key as `composite_key`."""
    place = table()
    await history.ensure(place)
    texts = ["a", "a|b", "a\\", "|", "\\|", "", "ü'x"]
    base = rows(FIELDS, *range(len(texts))).to_pylist()
    await history.insert(
        place,
        pa.Table.from_pylist(
            [row | {"key": text, "count": n} for n, (row, text) in enumerate(zip(base, texts, strict=True))],
            schema=history_schema(FIELDS),
        ),
    )
    for n, text in enumerate(texts):
        key = composite_key([text, n])
        asked = replace(EVERYTHING, entity_fields=("key", "count"), entities=(key,))
        found = await history.read(place, ["key", "count"], asked)
        assert [(r["key"], r["count"]) for r in found.to_pylist()] == [(text, n)]


async def test_a_new_contract_takes_over_what_was_known(history):
    old = table(FIELDS[:2])
    await history.ensure(old)
    await history.insert(old, rows(FIELDS[:2], 1, 2, 3))
    new = table(FIELDS[:3])
    await history.ensure(new)
    found = await history.read(new, ["key", "count", "size"], EVERYTHING)
    assert [(r["key"], r["count"], r["size"]) for r in found.to_pylist()] == [
        ("k3", 3, None),
        ("k2", 2, None),
        ("k1", 1, None),
    ]
    assert await history.positions(new) == await history.positions(old)


async def test_the_rate_of_a_source_is_of_the_day_before_and_counts_repeats_once(history):
    rates = ClickHouseRates(history._clickhouse)
    place = table()
    assert await rates.per_hour(place, 10 * DAY_US) is None  # no table yet
    await history.ensure(place)
    assert await rates.per_hour(place, 10 * DAY_US) is None
    events = rows(FIELDS, *range(48))
    times = [10 * DAY_US - (n + 1) * HOUR_US for n in range(48)]
    events = events.set_column(0, "_event_us", pa.array(times, pa.int64()))
    for _ in range(2):
        await history.insert(place, events)
    assert await rates.per_hour(place, 10 * DAY_US) == pytest.approx(1)  # 24 of them, the first 24 hours ago
    assert await rates.per_hour(place, 8 * DAY_US + 2 * HOUR_US) == pytest.approx(1)  # two of them, two hours old
    assert await rates.per_hour(place, 5 * DAY_US) is None


async def test_timelines_are_read_by_offset_by_time_and_by_entity(history):
    place = table()
    names = [name for name, _ in FIELDS]
    await history.ensure(place)
    for _ in range(2):
        await history.insert(place, rows(FIELDS, *range(1, 30)))
    await history.insert(place, rows(FIELDS, 40, via="retry.feature_store"))
    census = await history.census(place)
    assert {partition: last for partition, (_, last) in census.partitions.items()} == {0: 28, 1: 29}
    assert (census.retried, census.rows in (30, 59)) == (1, True)
    everything = Stretch({0: 28, 1: 29}, {}, -(2**62), 2**62, 2**62, ("key",))
    found = await history.timeline(place, names, everything)
    assert found.schema == timeline_schema(FIELDS)
    assert sorted(found["_event_us"].to_pylist()) == [60, *range(71, 100)], "each once, and what was handed back"
    assert len(set(found["_identity"].to_pylist())) == 30
    assert set(found["_seq"].to_pylist()) == {n * 1024 + n % 2 for n in (*range(1, 30), 40)}
    news = await history.timeline(place, names, replace(everything, upto={0: 28, 1: 27}, after={0: 20, 1: -1}))
    assert set(news["_event_us"].to_pylist()) == {100 - n for n in (*range(22, 29, 2), *range(1, 28, 2))}
    some = await history.timeline(place, names, replace(everything, from_us=80, to_us=95, visible_to_us=110))
    assert sorted(some["_event_us"].to_pylist()) == list(range(90, 95))
    parts = [await history.timeline(place, names, replace(everything, part=(i, 3))) for i in range(3)]
    keys = [{key for key in part["key"].to_pylist() if key} for part in parts]
    assert sum(map(len, keys)) == len(set.union(*keys)) == 29, "all but the null, each in one part"
    weight = await history.weigh(place, names, everything)
    assert weight.rows >= 30 and weight.bytes >= 30 * 33
    cuts = await history.cuts(place, everything, 3)
    assert len(cuts) == 2 and 70 < cuts[0] < cuts[1] < 100
    assert await history.cuts(place, everything, 1) == []


@pytest.mark.parametrize(("field", "kind"), [("key", str), ("count", int), ("size", float)])
async def test_parts_are_by_whatever_type_a_key_has(history, field, kind):
    place = table()
    await history.ensure(place)
    await history.insert(place, rows(FIELDS, *range(1, 30)))
    stretch = Stretch({0: 28, 1: 29}, {}, -(2**62), 2**62, 2**62, (field,))
    parts = [await history.timeline(place, [field], replace(stretch, part=(i, 4))) for i in range(4)]
    values = [v for part in parts for v in part[field].to_pylist() if v is not None]
    assert len(values) == len(set(values)) == 28 and isinstance(values[0], kind)
