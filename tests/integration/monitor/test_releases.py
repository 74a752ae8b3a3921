"""The judge of releases: rolls back what is worse, once, also after a restart; leaves alone what is not."""

import uuid

import pytest
from millrace.wire.monitor.v1.events_pb2 import AlertEvent
from millrace.wire.registry.v1.events_pb2 import ModelCommand, Variant

from tests.integration.monitor.world import DAY_US, HOUR_US, START_US, as_json, champion, warm, world

pytestmark = pytest.mark.stack

HALF_HOUR_US = HOUR_US // 2


def moments(from_us, until_us, step_us):
    return list(range(from_us, until_us, step_us))


async def released(w, kind="promoted", actor=""):
    """v1 serves first, then v2 replaces it and v1 stays warm."""
    run = await w.run_passed("run-1", "sha256:snapshot-1")
    first = await w.move(
        1, "champion", "released", START_US, 1, cause=run, run_id="run-1", snapshot_digest="sha256:snapshot-1"
    )
    await w.plan(1, champion(1), cause=first)
    await w.clock(START_US + HOUR_US)
    second = await w.move(2, "champion", kind, START_US + HOUR_US, 2, actor=actor, other_version=1)
    await w.plan(2, champion(2, "sha256:two"), warm(1), cause=second)
    return second


async def test_a_bad_release_is_rolled_back_before_labels(stack, tmp_path):
    async with world(stack.clickhouse, tmp_path) as w:
        await w.define()
        cause = await released(w, kind="forced", actor="eve")
        at = moments(START_US + HOUR_US, START_US + 6 * HOUR_US, HOUR_US // 60)
        truth = (w.random.random(len(at)) < 0.5).astype(float)
        await w.predict(at, {2: "bad", 1: "good"}, truth, epoch=2)
        await w.clock(START_US + 6 * HOUR_US)

        (command,) = w.commands()
        assert (command.verb, command.version, command.target_version) == (ModelCommand.ROLLBACK, 2, 1)
        evidence = as_json(command.evidence_json)
        test = next(t for t in evidence["tests"] if t["test"] == "disagreement")
        assert test["n"] == len(at) and test["bound"] > 0.4
        assert "version IN (2, 1)" in evidence["query"]
        (alert,) = w.said("monitor.alerts", AlertEvent)
        assert (alert.rule, alert.state, alert.severity, alert.action) == ("release", "firing", "critical", "rollback")

        command_id = next(r.event.id for r in w.bus.records("models.commands"))
        back = await w.move(
            2, "rejected", "rolled_back", START_US + 6 * HOUR_US, 3, cause=command_id, other_version=1, reason="worse"
        )
        await w.move(1, "champion", "restored", START_US + 6 * HOUR_US, 3, cause=command_id, other_version=2)
        await w.plan(3, champion(1), cause=back)
        await w.clock(START_US + 12 * HOUR_US)
        assert len(w.commands()) == 1
        assert w.said("monitor.alerts", AlertEvent)[-1].state == "resolved"

        chain = await w.parts.queries.why(back)
        topics = [link.topic for link in chain.links]
        assert topics[:5] == ["models.events", "models.commands", "monitor.alerts", "predictions", "models.events"]
        assert chain.links[4].event_id == cause and chain.links[4].actor == "eve"
        assert chain.complete
        assert chain.links[-1].event_id == "sha256:snapshot-1"  # of the version that serves again


async def test_labels_convict_a_version_that_only_ranks_worse(stack, tmp_path):
    async with world(stack.clickhouse, tmp_path) as w:
        await w.define()
        await released(w)
        at = moments(START_US + HOUR_US, START_US + DAY_US, HOUR_US // 30)
        truth = (w.random.random(len(at)) < 0.5).astype(float)
        await w.predict(at, {2: "flat", 1: "good"}, truth, epoch=2)
        await w.clock(START_US + 6 * HOUR_US)
        assert w.commands() == []  # they differ by 0.3: allowed
        await w.label(at, truth)
        await w.clock(START_US + 12 * HOUR_US)
        assert w.commands() == []  # 150 labels have matured: too few
        await w.clock(START_US + 30 * HOUR_US)
        (command,) = w.commands()
        assert command.verb == ModelCommand.ROLLBACK
        assert "loss is higher" in command.reason


async def test_a_good_canary_advances_once_and_a_restart_decides_the_same(stack, tmp_path):
    database = f"monitor_{uuid.uuid4().hex[:12]}"
    canary = Variant(version=2, role=Variant.CANARY, weight=0.2, bundle_digest="sha256:two")
    async with world(stack.clickhouse, tmp_path, database=database) as w:
        await w.define()
        first = await w.move(1, "champion", "released", START_US, 1)
        await w.plan(1, champion(1), cause=first)
        await w.clock(START_US + HOUR_US)
        step = await w.move(2, "canary", "released", START_US + HOUR_US, 2)
        await w.plan(2, champion(1), canary, cause=step)
        at = moments(START_US + HOUR_US, START_US + DAY_US, HALF_HOUR_US // 3)
        truth = (w.random.random(len(at)) < 0.5).astype(float)
        await w.predict(at, {2: "good", 1: "good"}, truth, epoch=2)
        await w.label(at, truth)
        await w.clock(START_US + 12 * HOUR_US)
        assert w.commands() == []  # 11 hours: the step lasts 12
        bus = w.bus
    async with world(stack.clickhouse, tmp_path, bus=bus, database=database) as w:
        await w.clock(START_US + 18 * HOUR_US)
        (command,) = w.commands()
        assert (command.verb, command.version) == (ModelCommand.ADVANCE, 2)
        await w.clock(START_US + 24 * HOUR_US)
        assert len(w.commands()) == 1
        assert [r.event.causation_id for r in w.bus.records("models.commands")] == [step]
        cells = await w.parts.queries.performance("world", DAY_US)
        auc = next(c for c in cells if c.metric == "auc" and c.version == 2 and c.answered)
        assert 0.9 < auc.low <= auc.value <= auc.high <= 1
        assert auc.predictions == auc.labelled == len(at)
