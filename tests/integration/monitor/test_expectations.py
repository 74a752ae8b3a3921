"""Broken rules of whole windows: alerts with their life, on the console, and drift that is not deaf because of them."""

import httpx
import pytest
from millrace.wire.common.v1.common_pb2 import RoomStatus
from millrace.wire.ingestion.v1.events_pb2 import Finding, ViolationWindow
from millrace.wire.monitor.v1.events_pb2 import AlertEvent

from tests.integration.monitor.world import HOUR_US, PROJECT, START_US, FakeFleet, World, event, served_world

pytestmark = pytest.mark.stack
WINDOW_US = 6 * HOUR_US
NULLS = {"field": "amount", "rule": "null_share", "allowed": 0.1, "events": 500}
REPEATS = {"field": "order", "rule": "unique", "events": 500}
LOST = {"field": "customer", "rule": "references", "events": 480}
SILENCE = {"rule": "freshness", "allowed": 3600}


async def window(w: World, number: int, *findings: Finding, events: int = 500) -> None:
    start_us = START_US + number * WINDOW_US
    body = ViolationWindow(
        project=PROJECT,
        source="orders",
        window_start_us=start_us,
        window_end_us=start_us + WINDOW_US,
        events=events,
        findings=findings,
    )
    await w.say("data.violations", event("window", "closed", body, room="ingestion"), f"{PROJECT}/orders")
    await w.clock(start_us + WINDOW_US)


def found(facts: dict, measured: float, *, broken: bool, **more) -> Finding:
    return Finding(**facts, measured=measured, is_broken=broken, **more)


def told(w: World) -> dict[str, list[str]]:
    """Subject to the states of its alert, in order."""
    states: dict[str, list[str]] = {}
    for alert in w.said("monitor.alerts", AlertEvent):
        if alert.rule == "expectations":
            states.setdefault(alert.subject, []).append(alert.state)
    return states


async def test_broken_rules_of_windows_fire_and_resolve(stack, tmp_path):
    fleet = FakeFleet({"ingestion": RoomStatus(ready=True, http_address="127.0.0.1:7")})
    async with served_world(stack.clickhouse, tmp_path, fleet) as w:
        await w.define()
        await w.clock(START_US)
        broken = [
            found(NULLS, 0.5, broken=True),
            found(REPEATS, 3, broken=True, example="o-17"),
            found(LOST, 2, broken=True, example="c-9"),
            found(SILENCE, 0.0, broken=False),
        ]
        await window(w, 0, *broken)
        subjects = ("orders.amount.null_share", "orders.order.unique", "orders.customer.references")
        assert told(w) == {subject: ["firing"] for subject in subjects}
        reasons = {a.subject: a.reason for a in w.said("monitor.alerts", AlertEvent)}
        assert reasons["orders.order.unique"] == "orders: 3 of 500 values of order repeat a value, for example o-17"

        await window(w, 1, found(NULLS, 0.0, broken=False), found(REPEATS, 0, broken=False), events=500)
        states = told(w)
        assert states["orders.amount.null_share"] == states["orders.order.unique"] == ["firing", "resolved"]
        assert states["orders.customer.references"] == ["firing", "resolved"]  # no longer expected

        await window(w, 2, found(SILENCE, 30_000, broken=True), events=0)
        assert told(w)["orders.freshness"] == ["firing"]
        judged = await w.parts.state.windows(PROJECT, w.parts.decider.decided[PROJECT], 9)
        # Half of a field is null: no measure of what is ordinary. A repeat or a silence distorts nothing.
        assert [broken for _, _, broken in judged] == [True, False, False]
        async with httpx.AsyncClient(base_url=w.http) as client:
            page = (await client.get("/")).text
            assert '<a href="http://127.0.0.1:7/data">data docs</a>' in page
            assert "orders.freshness" in page and "nothing came for 30000 s (allowed 3600 s)" in page
            shown = (await client.get("/api/alerts", params={"project": PROJECT})).json()
            assert "orders.freshness" in str(shown)
        await window(w, 3, found(SILENCE, 60, broken=False))
        assert told(w)["orders.freshness"] == ["firing", "resolved"]
