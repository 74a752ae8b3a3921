"""Days and fingerprints are kept the same on PostgreSQL as on SQLite."""

import uuid
from collections.abc import AsyncIterator

import pytest
from millrace.bus.memory import MemoryBus
from millrace.definitions.model import DAY_US
from millrace.stores.sql import Database

from services.ingestion.adapters.profiles_sql import SqlProfiles
from services.ingestion.adapters.references_store import ReferenceStore
from services.ingestion.domain.contracts import Violation
from services.ingestion.domain.daily import Day, WindowLine
from services.ingestion.domain.expectations import Finding
from services.ingestion.ports import DayRow
from tests.support.postgres import postgres
from tests.unit.ingestion.world import MIGRATIONS, SENSOR

__all__ = ["postgres"]
PLACE = ("plant", "sensors", "id")


@pytest.fixture(params=["memory", "postgres"])
async def database(request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    url = "sqlite://" if request.param == "memory" else request.getfixturevalue("postgres")
    made = Database(url, room=f"ingestion_{uuid.uuid4().hex[:8]}")
    await made.start(MIGRATIONS)
    yield made
    await made.stop()


def a_day(number: int) -> Day:
    day = Day(number * DAY_US)
    day.accept(SENSOR, [{"sensor": "s", "at": 5, "degrees": 1.5}, {"sensor": "s", "at": 6}])
    day.refuse([Violation("degrees", "range", "too hot", "<999>")])
    line = WindowLine(day.start_us, day.start_us + 10, 3, 1, 18, 9, 1)
    day.close_window(line, [Finding("sensor", "unique", 1, 0, 2, True, "s")])
    return day


async def test_days_are_kept_replaced_and_forgotten_from_the_oldest(database: Database) -> None:
    profiles = SqlProfiles(database, kept_days=3)
    for number in range(1, 6):
        day = a_day(number)
        await profiles.save("plant", "readings", {day.start_us: day.to_state()})
    longer = a_day(5)
    longer.refuse([])
    await profiles.save("plant", "readings", {longer.start_us: longer.to_state()})
    rows = await profiles.summaries("plant", "readings", 10)
    assert [row.start_us // DAY_US for row in rows] == [3, 4, 5]
    nulls = longer.null_share
    assert rows[-1] == DayRow(5 * DAY_US, 4, 2, nulls, 1) and 0 < nulls < 1
    assert [row.start_us // DAY_US for row in await profiles.summaries("plant", "readings", 2)] == [4, 5]
    kept = await profiles.load("plant", "readings", 5 * DAY_US)
    assert kept is not None and Day.from_state(kept).to_state() == longer.to_state()
    assert await profiles.load("plant", "readings", DAY_US) is None
    assert [state["start_us"] for state in await profiles.newest("plant", "readings", 2)] == [4 * DAY_US, 5 * DAY_US]
    assert await profiles.summaries("plant", "other", 9) == []


async def test_fingerprints_of_all_64_bits_are_kept_once_and_forgotten_with_their_rule(database: Database) -> None:
    store = ReferenceStore(database, MemoryBus())
    assert await store.load(PLACE) == ([], False)
    marks = [0, 1, 2**63 - 1, 2**63, 2**64 - 1]
    await store.add(PLACE, marks, False)
    await store.add(PLACE, [*marks[:2], 77], True)
    other = ("plant", "sensors", "code")
    await store.add(other, [5], True)
    values, is_whole = await store.load(PLACE)
    assert sorted(values) == sorted([*marks, 77]) and is_whole
    await store.forget("another", set())
    await store.forget("plant", {PLACE})
    assert await store.load(other) == ([], False)
    assert (await store.load(PLACE))[1]
