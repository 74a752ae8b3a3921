"""A forgotten name is gone from what predictions were made with, and the predictions of others stay."""

import uuid
from contextlib import asynccontextmanager

import numpy as np
import pytest
from millrace.stores.clickhouse import ClickHouse
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget, Identity

from services.monitor.adapters.log_erasing import LogErasing
from tests.integration.monitor.world import START_US, champion, world
from tests.support.poll import until

pytestmark = pytest.mark.stack


@asynccontextmanager
async def logged(stack, tmp_path, shifts=(0,)):
    """A log of 60 predictions for each shift of their amounts, with a client of its database and their moments."""
    database = f"monitor_{uuid.uuid4().hex[:12]}"
    async with world(stack.clickhouse, tmp_path, database=database) as w:
        await w.define()
        first = await w.move(1, "champion", "released", START_US, 1)
        await w.plan(1, champion(1), cause=first)
        await w.clock(START_US)
        moments = [START_US + i * 60_000_000 for i in range(60 * len(shifts))]
        for place, shift in enumerate(shifts):
            part = moments[60 * place : 60 * (place + 1)]
            await w.predict(part, {1: "good"}, np.ones(len(part)), epoch=1, shift=shift)
        clickhouse = ClickHouse(stack.clickhouse, database=database)
        await clickhouse.start()
        try:
            await until(lambda: _has(clickhouse, len(moments)), 20)
            yield clickhouse, moments
        finally:
            await clickhouse.close()


async def _has(clickhouse: ClickHouse, count: int) -> bool:
    return len(await inputs(clickhouse, "texts['plan.city']")) == count


async def inputs(clickhouse: ClickHouse, what: str) -> list[tuple[int, object]]:
    rows = await clickhouse.query_rows(f"SELECT moment_us, {what} AS it FROM predictions FINAL ORDER BY moment_us")
    return [(int(row["moment_us"]), row["it"]) for row in rows]


def asked(field: str, entity: str, cut_us: int) -> Forget:
    """By the name of a field that is not the project's example; later requests are a new life."""
    identity = Identity(source="orders", field=field, entity=entity, cut_us=cut_us)
    return Forget(id=f"f-{field}-{entity}", project="world", phase=Forget.ASKED, identities=[identity])


async def test_a_name_that_was_an_input_is_null_afterwards(stack, tmp_path):
    async with logged(stack, tmp_path) as (clickhouse, moments):
        before = await inputs(clickhouse, "texts['plan.city']")
        assert {city for _, city in before} == {"ghent", "lille"}
        request = asked("city", "ghent", moments[39])
        done = await LogErasing(clickhouse, lambda: START_US).obey(request)
        after = await inputs(clickhouse, "texts['plan.city']")
        assert after == [(at, "" if city == "ghent" and at <= moments[39] else city) for at, city in before]
        blanked = sum(city == "ghent" and at <= moments[39] for at, city in before)
        assert [(store.store, store.deleted) for store in done.stores] == [("monitor: inputs of predictions", blanked)]
        assert blanked > 5
        again = await LogErasing(clickhouse, lambda: START_US).obey(request)
        assert not again.stores
        assert await inputs(clickhouse, "texts['plan.city']") == after


async def test_a_number_that_names_is_null_afterwards_where_it_is_the_field_s(stack, tmp_path):
    amount = "toString(numbers['plan.amount'])"
    async with logged(stack, tmp_path, shifts=(0, -500)) as (clickhouse, moments):  # so many amounts are 0
        before = await inputs(clickhouse, amount)
        assert [text for _, text in before[60:]] == ["0"] * 60
        assert "0" not in {text for _, text in before[:60]}
        other = await LogErasing(clickhouse, lambda: START_US).obey(asked("late", "0", moments[-1]))
        assert not other.stores, "the number of another field is a coincidence"
        done = await LogErasing(clickhouse, lambda: START_US).obey(asked("amount", "0", moments[79]))
        assert [store.deleted for store in done.stores] == [20]
        after = await inputs(clickhouse, amount)
        assert after == [(at, "nan" if text == "0" and at <= moments[79] else text) for at, text in before]
        assert not (await LogErasing(clickhouse, lambda: START_US).obey(asked("amount", "0", moments[79]))).stores
