"""`millrace features consistency`: what differs is shown, and the exit says whether anything does."""

import json

from millrace.wire.common.v1 import common_pb2
from millrace.wire.feature_store.v1 import service_pb2 as wire

from tests.unit.cli.conftest import FakeRooms
from tests.unit.cli.test_replay import Run

DAY = "2026-07-01"


def reply(*, mismatch: int = 0, rows: bool = True) -> wire.ConsistencyReply:
    made = wire.ConsistencyReply(checked_reads=40, pending_reads=2, share=0.1)
    if rows:
        made.rows.add(feature="a.x", day=DAY, compared=40, equal=37 - mismatch, ahead=3, mismatch=mismatch)
    for _ in range(mismatch):
        here = wire.FeatureCell(value=common_pb2.Value(number=1.01), status=wire.PRESENT, age_us=5)
        gone = wire.FeatureCell(status=wire.MISSING, age_us=-1)
        made.examples.add(feature="a.x", entity="pump-1", as_of_us=7, outcome="extra", online=here, offline=gone)
    return made


def test_no_difference_is_exit_0(rooms: FakeRooms, millrace: Run) -> None:
    rooms.on["FeatureStore.Consistency"] = lambda _: reply()
    result = millrace("features", "consistency", "pumps", "--from", f"{DAY}T00:00:00")
    assert result.exit_code == 0
    assert "a.x" in result.stdout and "40 checked" in result.stdout and "2 pending" in result.stdout
    [asked] = rooms.asked("FeatureStore.Consistency")
    assert (asked.project, asked.from_us, asked.to_us) == ("pumps", 1_782_864_000_000_000, 0)


def test_a_difference_is_exit_1_and_shown(rooms: FakeRooms, millrace: Run) -> None:
    rooms.on["FeatureStore.Consistency"] = lambda _: reply(mismatch=1)
    result = millrace("features", "consistency", "pumps")
    assert result.exit_code == 1
    assert all(word in result.stdout for word in ("1 values differ", "pump-1", "1.01", "MISSING"))
    told = millrace("features", "consistency", "pumps", "--json")
    assert told.exit_code == 1
    found = json.loads(told.stdout)
    assert found["differing"] == 1
    assert found["examples"][0]["offline"] == {"value": None, "status": "MISSING", "age_us": None}
    assert found["rows"][0]["ahead"] == 3


def test_what_was_never_compared_is_not_called_equal(rooms: FakeRooms, millrace: Run) -> None:
    rooms.on["FeatureStore.Consistency"] = lambda _: reply(rows=False)
    result = millrace("features", "consistency", "pumps")
    assert result.exit_code == 0
    assert "no read of pumps was compared yet: 10% of the entity keys are sampled" in result.stdout
