"""A forgotten name is gone from what predictions were made with, and the predictions of others stay."""

import uuid

import numpy as np
import pytest
from millrace.stores.clickhouse import ClickHouse
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget, Identity

from services.monitor.adapters.log_erasing import LogErasing
from tests.integration.monitor.world import START_US, champion, world
from tests.support.poll import until

pytestmark = pytest.mark.stack


async def test_a_name_that_was_an_input_is_null_afterwards(stack, tmp_path):
    database = f"monitor_{uuid.uuid4().hex[:12]}"
    async with world(stack.clickhouse, tmp_path, database=database) as w:
        await w.define()
        first = await w.move(1, "champion", "released", START_US, 1)
        await w.plan(1, champion(1), cause=first)
        await w.clock(START_US)
        moments = [START_US + i * 60_000_000 for i in range(60)]
        await w.predict(moments, {1: "good"}, np.ones(len(moments)), epoch=1)
        clickhouse = ClickHouse(stack.clickhouse, database=database)
        await clickhouse.start()
        try:

            async def cities() -> list[tuple[int, str]]:
                rows = await clickhouse.query_rows(
                    "SELECT moment_us, texts['plan.city'] AS city FROM predictions FINAL ORDER BY moment_us"
                )
                return [(int(row["moment_us"]), row["city"]) for row in rows]

            await until(lambda: _has(cities, len(moments)), 20)
            before = await cities()
            assert {city for _, city in before} == {"ghent", "lille"}
            cut_us = moments[39]
            # Asked for by the name of a field that is not the project's example; later requests are a new life.
            request = Forget(
                id="f1",
                project="world",
                phase=Forget.ASKED,
                identities=[Identity(source="orders", field="city", entity="ghent", cut_us=cut_us)],
            )
            done = await LogErasing(clickhouse, lambda: START_US).obey(request)
            after = await cities()
            assert after == [(at, "" if city == "ghent" and at <= cut_us else city) for at, city in before]
            blanked = sum(city == "ghent" and at <= cut_us for at, city in before)
            assert [(store.store, store.deleted) for store in done.stores] == [
                ("monitor: inputs of predictions", blanked)
            ]
            assert blanked > 5
            again = await LogErasing(clickhouse, lambda: START_US).obey(request)
            assert not again.stores and await cities() == after
        finally:
            await clickhouse.close()


async def _has(cities, count: int) -> bool:
    return len(await cities()) == count
