"""Training sets within a bound of memory: held or in parts, in blocks or whole, rows and digest are the same."""

import asyncio
import resource
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from millrace.runtime.errors import Unavailable

from services.feature_store.handlers import timelines
from services.feature_store.handlers.training import Ask, SnapshotLimits
from tests.support.poll import until
from tests.unit.feature_store.test_training import ASK, END_US, built, filled
from tests.unit.feature_store.world import HOUR_US, MINUTE_US, START_US, payment, running

WHOLE = "sha256:"
MIB = 1 << 20


def small(world) -> None:
    """A bound so low that no view fits, and that a block is one chunk."""
    world.store.timelines._bound = 4_000
    limits = world.store.training._limits
    world.store.training._limits = SnapshotLimits(limits.chunk_rows, limits.chunk_mib, 0)


@pytest.mark.parametrize("as_happened", [False, True])
async def test_parts_and_blocks_give_the_same_digest(redis_client, as_happened):
    ask = Ask("shop", START_US, END_US, END_US, as_happened)
    world = await filled(redis_client, snapshot_chunk_rows=7)
    whole, table, _ = await built(world, ask)
    assert world.store.timelines.held_bytes > 0
    await redis_client.flushall()
    other = await filled(redis_client, shuffled=True, snapshot_chunk_rows=7)
    small(other)
    parts, same, steps = await built(other, ask)
    assert other.store.timelines.held_bytes == 0
    assert min(stretch.part[1] for stretch in other.history.timelines) > 1
    assert [step.rows_done for step in steps] == [0, 7, 14, 21, 28, 30, 30]
    assert parts == whole and same.equals(table)


async def test_what_is_held_is_fed_what_came_since_late_events_included(redis_client):
    world = await filled(redis_client)
    await built(world)
    reads = len(world.history.timelines)
    await built(world)
    assert len(world.history.timelines) == reads, "nothing new, nothing read"
    late = [payment(n, START_US + n * MINUTE_US, 9.5, customer="bob", late_us=2 * HOUR_US) for n in range(900, 905)]
    async with running(world):
        await world.publish(*late, until_us=END_US + HOUR_US)
        await until(lambda: world.history_has(END_US + HOUR_US))
    ask = Ask("shop", START_US, END_US, END_US + HOUR_US, as_happened=False)
    warm, _, _ = await built(world, ask)
    fed = world.history.timelines[reads:]
    assert fed and all(stretch.after for stretch in fed), "what came since, and nothing else"
    cold = await filled_again(redis_client, world)
    assert (await built(cold, ask))[0] == warm


async def filled_again(redis_client, world):
    """Another room over the same history."""
    await redis_client.flushall()
    other = await filled(redis_client)
    other.history.rows = world.history.rows
    other.store.writer._positions = dict(world.store.writer._positions)
    return other


async def test_what_is_taken_from_history_is_not_remembered(redis_client):
    world = await filled(redis_client)
    before, _, _ = await built(world)
    for rows in world.history.rows.values():
        rows[:] = [row for row in rows if row["customer"] != "bob"]
    after, table, _ = await built(world)
    assert after != before
    assert set(table["order.customer"].to_pylist()) == {"ann", None}
    await world.store.timelines.clear()
    assert world.store.timelines.held_bytes == 0
    assert (await built(world))[0] == after


async def test_the_one_not_asked_for_longest_makes_room(redis_client):
    world = await filled(redis_client)
    digest, _, _ = await built(world)
    held = world.store.timelines._held
    assert [name.split("/")[1] for name in held] == ["order@1", "habits@1", "channel_habits@1"]
    first, *others = held
    held[first].bytes = world.store.timelines._bound
    for other in others:
        await world.store.timelines._forget(other)
    assert (await built(world))[0] == digest
    assert list(held) == others, "it did not fit beside the one that was there before"
    assert world.store.timelines.held_bytes < world.store.timelines._bound


async def test_a_store_that_is_away_is_said_and_nothing_half_answers(redis_client):
    world = await filled(redis_client)
    kept = world.history.timeline

    async def away(*_):
        raise Unavailable("history is away")

    world.history.timeline = away
    with pytest.raises(Unavailable):
        await built(world)
    assert world.store.training.building == 0
    world.history.timeline = kept
    assert (await built(world))[1].num_rows == 30


def test_chunks_depend_on_the_columns_alone():
    import pyarrow as pa

    wide = pa.schema([(f"c{i}", pa.float64()) for i in range(1000)])
    narrow = pa.schema([("entity", pa.string()), ("x", pa.float64())])
    for memory_mib in (16, 1024):
        limits = SnapshotLimits(50_000, 16, memory_mib)
        assert limits.rows_of_chunk(wide) == 16 * MIB // 8000
        assert limits.rows_of_chunk(narrow) == 50_000
        assert limits.rows_of_block(wide) % limits.rows_of_chunk(wide) == 0


MEASURED = """
import asyncio, resource, sys
from tests.unit.feature_store.test_bounded import peak_mib
print(asyncio.run(peak_mib(int(sys.argv[1]), int(sys.argv[2]))))
"""


def test_memory_is_bounded_by_the_setting_however_large_the_history_is():
    """Peak memory of a process that reads four times the history in parts grows by far less than the history."""
    bound_mib = 96
    peaks = {events: int(run(events, bound_mib)) for events in (200_000, 800_000)}
    history_mib = 600_000 * timelines.SORTING_BYTES_PER_EVENT / MIB
    assert history_mib > bound_mib
    assert peaks[800_000] - peaks[200_000] < bound_mib / 2, peaks


def run(events: int, bound_mib: int) -> str:
    found = subprocess.run(
        [sys.executable, "-c", MEASURED, str(events), str(bound_mib)], capture_output=True, text=True, timeout=250
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


async def peak_mib(events: int, bound_mib: int) -> int:
    """Peak memory of this process after one view was asked of so much history, nothing of which fits."""
    import pyarrow as pa

    from services.feature_store.adapters.timeline_shelf import ThreadShelf
    from services.feature_store.domain.views import CompiledView
    from services.feature_store.ports import Question, Table
    from tests.unit.feature_store.test_timelines import FIELDS, LATEST

    history = MadeUp(events)
    made = timelines.Timelines(history, ThreadShelf(), bound_mib)
    view, table = CompiledView(replace(LATEST, ttl_us=0), 0), Table("made", "shop", "made", FIELDS)
    await made.ready(table, view)
    keys = pa.array([f"k{n}" for n in range(1000)])
    question = Question((0, 1), keys, np.full(1000, 2**40, dtype=np.int64), False, 2**60)
    told = await made.read(table, view, question)
    assert told.known.all() and made.held_bytes == 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


class MadeUp:
    """A HistoryColumns that makes its events as they are asked for: it holds none."""

    def __init__(self, events: int) -> None:
        self._events = events

    async def census(self, table):
        from services.feature_store.ports import Census

        return Census({0: (self._events, self._events)}, 0)

    async def weigh(self, table, fields, stretch):
        from services.feature_store.ports import Weight

        return Weight(self._events, self._events * 24)

    async def cuts(self, table, stretch, pieces):
        return [self._events * i // pieces for i in range(1, pieces)]

    async def timeline(self, table, fields, stretch):
        import pyarrow as pa

        from services.feature_store.handlers.schemas import timeline_schema

        part, parts = stretch.part
        from_us, to_us = max(stretch.from_us, 0), min(stretch.to_us, self._events)
        at = np.arange(from_us, to_us)
        at = at[at % 1000 % parts == part]
        types = dict(table.fields)
        schema = timeline_schema([(name, types[name]) for name in fields])
        given = {name: at for name in ("_event_us", "_visible_us", "_seq")} | {"_identity": at.astype(np.uint64)}
        given["key"] = pa.array([f"k{n}" for n in (at % 1000).tolist()])
        columns = [
            pa.array(given[field.name], field.type) if field.name in given else pa.nulls(len(at), field.type)
            for field in schema
        ]
        return pa.Table.from_arrays(columns, schema=schema)


async def test_two_sets_at_once_share_what_is_held(redis_client):
    world = await filled(redis_client)
    digests = await asyncio.gather(*(digest(world) for _ in range(3)))
    assert len(set(digests)) == 1 and digests[0].startswith(WHOLE)
    assert world.store.training.building == 0


async def digest(world) -> str:
    return (await built(world, ASK))[0]
