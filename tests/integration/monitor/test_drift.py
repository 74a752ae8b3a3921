"""Drift asks for retraining where the world changed, once; broken data keeps it from asking; labels drift too."""

import pytest
from millrace.wire.monitor.v1.events_pb2 import AlertEvent
from millrace.wire.trainer.v1.events_pb2 import TrainingRequest

from services.monitor.errors import UnknownEvent
from tests.integration.monitor.world import DAY_US, HOUR_US, START_US, champion, world
from tests.support.poll import until


async def known(w, event_id):
    """The complete chain of an event, or None while the index does not have it yet."""
    try:
        chain = await w.parts.queries.why(event_id)
    except UnknownEvent:
        return None
    return chain if chain.complete else None


pytestmark = pytest.mark.stack

STEP_US = 15 * 60_000_000  # 96 requests a day


async def days(w, first, last, rate=0.5, shift=0.0):
    """Whole days [first, last) of requests, their labels, and the clock at the end of each."""
    for day in range(first, last):
        at = list(range(START_US + day * DAY_US, START_US + (day + 1) * DAY_US, STEP_US))
        truth = (w.random.random(len(at)) < rate).astype(float)
        await w.predict(at, {1: "good"}, truth, epoch=1, shift=shift)
        await w.label(at, truth)
        await w.clock(START_US + (day + 1) * DAY_US)


async def serving(w):
    await w.define()
    run = await w.run_passed("run-1", "sha256:snapshot-1")
    first = await w.move(1, "champion", "released", START_US, 1, cause=run, run_id="run-1")
    await w.plan(1, champion(1), cause=first)
    await w.clock(START_US)
    return first


def alerts(w, rule):
    return [a for a in w.said("monitor.alerts", AlertEvent) if a.rule == rule]


async def test_inputs_that_move_are_found_and_retraining_is_asked_for_once(stack, tmp_path):
    async with world(stack.clickhouse, tmp_path) as w:
        released = await serving(w)
        await days(w, 0, 16)
        assert alerts(w, "drift") == []
        await days(w, 16, 18, shift=120.0)
        moved = [a for a in alerts(w, "drift") if a.subject == "plan.amount"]
        assert [a.state for a in moved] == ["pending", "firing"]
        assert moved[-1].action == "retrain" and moved[-1].statistic > moved[-1].threshold
        asked = w.said("training.requests", TrainingRequest)
        assert [r.trigger for r in asked if r.trigger == TrainingRequest.DRIFT] == [TrainingRequest.DRIFT]

        request_id = next(r.event.id for r in w.bus.records("training.requests") if r.event.source.endswith("monitor"))
        chain = await until(lambda: known(w, request_id), 20, what="the event is indexed with its causes")
        assert [link.topic for link in chain.links] == [
            "training.requests", "monitor.alerts", "predictions", "models.events", "training.runs", "",
        ]  # fmt: skip
        assert chain.links[3].event_id == released
        assert chain.complete and chain.links[-1].event_id == "sha256:snapshot-1"


async def test_broken_data_is_an_alert_and_holds_retraining_back(stack, tmp_path):
    async with world(stack.clickhouse, tmp_path) as w:
        await serving(w)
        await days(w, 0, 15)
        for i in range(12):
            await w.window("orders", START_US + (12 + i // 4) * DAY_US + i % 4 * 6 * HOUR_US, 500, 0, 12 + i % 3, 20)
        await w.clock(START_US + 15 * DAY_US + HOUR_US)
        await w.window("orders", START_US + 15 * DAY_US, 500, 100, 720, 1200)
        for day in (15, 16):
            at = list(range(START_US + day * DAY_US, START_US + (day + 1) * DAY_US, STEP_US))
            truth = (w.random.random(len(at)) < 0.5).astype(float)
            await w.predict(at, {1: "good"}, truth, epoch=1, shift=120.0)
        await w.clock(START_US + 17 * DAY_US)
        refused = [a for a in alerts(w, "data_quality") if a.subject == "orders"]
        assert [(a.state, a.severity) for a in refused] == [("firing", "critical")]
        assert "amount breaks range 100 times, for example 4200" in refused[0].reason
        (jump,) = [a for a in alerts(w, "data_quality") if a.subject == "orders.amount"]
        assert jump.state == "firing" and "did its unit change?" in jump.reason
        (drift,) = [a for a in alerts(w, "drift") if a.subject == "plan.amount" and a.state == "firing"]
        assert drift.action == "none" and "no retraining is asked for while data quality of orders" in drift.reason
        monitor_asked = [r for r in w.bus.records("training.requests") if r.event.source == "millrace/monitor"]
        assert monitor_asked == []

        await w.window("orders", START_US + 17 * DAY_US, 500, 0, 13, 20)
        await days(w, 17, 18, shift=120.0)
        assert refused and alerts(w, "data_quality")[-1].state == "resolved"
        monitor_asked = [r for r in w.bus.records("training.requests") if r.event.source == "millrace/monitor"]
        assert len(monitor_asked) == 1  # the world did change: now it is said


async def test_labels_that_move_ask_for_retraining(stack, tmp_path):
    async with world(stack.clickhouse, tmp_path) as w:
        await serving(w)
        first_week = 7 - (START_US // DAY_US) % 7  # windows are aligned to the epoch
        await days(w, 0, first_week + 14)
        assert alerts(w, "label_drift") == []
        await days(w, first_week + 14, first_week + 22, rate=0.2)
        (fired,) = alerts(w, "label_drift")
        assert fired.state == "firing" and fired.action == "retrain"
        assert "mean label is 0." in fired.reason
