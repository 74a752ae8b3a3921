"""Forgetting in labeling: nothing is kept of an example, nothing is told of it, its old records are passed over."""

from millrace.runtime.forgotten import Forgotten, entity_digest
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget, Identity

from services.labeling.adapters.forgetting_sql import SqlForgetting
from services.labeling.handlers.data import DataHandler
from services.labeling.handlers.forgetting import Forgetting
from tests.unit.labeling.conftest import Bench
from tests.unit.labeling.world import HORIZON_US, MINUTE_US, clock, delivery, labels_in, order

T0 = 1_000 * MINUTE_US
CUT_US = T0 + 50
DUE = T0 + HORIZON_US
TABLES = ("examples", "truths", "tasks", "given", "outbox")


def request(entity: str, phase: int = Forget.ASKED) -> Forget:
    """As ingestion asks."""
    made = Forget(id="1", project="shop", phase=phase, salt=b"s", sealed_us=1)
    digest = entity_digest(b"s", entity)
    for source in ("orders", "deliveries"):
        made.identities.append(Identity(source=source, field="order_id", entity=entity, digest=digest, cut_us=CUT_US))
    made.example.CopyFrom(made.identities[0])
    return made


class NoHistory:
    """The history is tested on ClickHouse itself."""

    async def erase(self, asked: Forget) -> dict[str, int]:
        return {"labels": 0}


def forgetting(bench: Bench) -> Forgetting:
    return Forgetting(SqlForgetting(bench.database), NoHistory(), 1, lambda: 5)


async def held(bench: Bench, entity: str) -> int:
    """Rows and messages that hold the key."""
    count = 0
    async with bench.database.read() as transaction:
        for table in TABLES:
            for row in await transaction.rows(f"SELECT * FROM {table}"):
                texts = [v if isinstance(v, bytes) else str(v).encode() for v in row.values()]
                count += any(entity.encode() in text for text in texts)
    return count


async def test_what_is_kept_and_what_was_about_to_be_told_is_gone(bench: Bench) -> None:
    for name in ("ann-1", "bob-1"):
        await bench.feed(order(name, T0, T0 - 50), delivery(name, 30, T0 + 40))
    await bench.feed(*clock(DUE))  # labels of both wait in the outbox
    assert await held(bench, "ann-1") == 3
    done = await forgetting(bench).obey(request("ann-1"))
    assert {s.store.partition(": ")[2]: s.deleted for s in done.stores} == {
        "given": 0, "tasks": 0, "examples": 1, "truths": 1, "outbox": 1, "history of labels": 0,
    }  # fmt: skip
    assert await held(bench, "ann-1") == 0
    assert [label.key.entity for label in labels_in(await bench.published())] == ["bob-1"]
    assert bench.database.unpublished_records == 0
    assert not any(s.deleted for s in (await forgetting(bench).obey(request("ann-1"))).stores)
    assert (await forgetting(bench).obey(request("bob-1", Forget.DONE))).stores == []


async def test_old_records_are_passed_over_and_later_ones_are_a_new_life(bench: Bench) -> None:
    forgotten = Forgotten()
    forgotten.put(request("ann-1"))
    bench.handler = DataHandler(bench.book, bench.projects, most_examples=100, forgotten=forgotten)
    await bench.feed(order("ann-1", T0, T0 - 50), order("bob-1", T0, T0 - 50), delivery("ann-1", 30, T0 + 40))
    assert await held(bench, "ann-1") == 0
    await bench.feed(*clock(CUT_US + 1))  # as ingestion tells every partition
    await bench.feed(order("ann-1", T0 + 100, CUT_US + 1), *clock(DUE + 100))
    assert [(x.key.entity, x.key.moment_us) for x in labels_in(await bench.published())] == [
        ("bob-1", T0), ("ann-1", T0 + 100)
    ]  # fmt: skip
    await forgetting(bench).obey(request("ann-1"))
    async with bench.database.read() as transaction:
        rows = await transaction.rows("SELECT entity, moment_us FROM examples WHERE entity = 'ann-1'")
    assert [dict(r) for r in rows] == [{"entity": "ann-1", "moment_us": T0 + 100}]
