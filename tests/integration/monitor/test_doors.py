"""HTTP/JSON, gRPC and metrics give the same answers; buttons are guarded."""

import grpc
import httpx
import pytest
from millrace.wire.common.v1.common_pb2 import RoomStatus
from millrace.wire.monitor.v1.service_pb2 import ListAlertsRequest, PerformanceRequest, WhyRequest
from millrace.wire.monitor.v1.service_pb2_grpc import MonitorStub
from millrace.wire.registry.v1.events_pb2 import ModelCommand

from tests.integration.monitor.world import HOUR_US, START_US, FakeFleet, champion, served_world, warm

pytestmark = pytest.mark.stack


async def bad_release(w):
    await w.define()
    run = await w.run_passed("run-1", "sha256:snapshot-1")
    first = await w.move(1, "champion", "released", START_US, 1, cause=run, run_id="run-1")
    await w.plan(1, champion(1), cause=first)
    await w.clock(START_US)
    forced = await w.move(2, "champion", "forced", START_US, 2, actor="eve", other_version=1)
    await w.plan(2, champion(2), warm(1), cause=forced)
    at = list(range(START_US, START_US + 5 * HOUR_US, 60_000_000))
    truth = (w.random.random(len(at)) < 0.5).astype(float)
    await w.predict(at, {2: "bad", 1: "good"}, truth, epoch=2)
    await w.label(at, truth)
    await w.clock(START_US + 12 * HOUR_US)
    return forced


async def test_answers_agree(stack, tmp_path):
    fleet = FakeFleet({"ingestion": RoomStatus(ready=True, lag_records=3), "trainer": None})
    async with (
        served_world(stack.clickhouse, tmp_path, fleet) as w,
        httpx.AsyncClient(base_url=w.http) as http,
        grpc.aio.insecure_channel(w.grpc) as channel,
    ):
        await bad_release(w)
        stub = MonitorStub(channel)
        shown = (await http.get("/api/fleet")).json()
        assert {room["room"]: room["answers"] for room in shown["rooms"]} == {"ingestion": True, "trainer": False}
        assert [(m["version"], m["role"]) for m in shown["models"]] == [(2, "champion"), (1, "shadow")]
        assert shown["clocks_us"] == {"world": START_US + 12 * HOUR_US}

        (alert,) = (await http.get("/api/alerts", params={"open_only": True})).json()
        (same,) = (await stub.ListAlerts(ListAlertsRequest(project="world", open_only=True))).alerts
        assert (alert["rule"], alert["event_id"], alert["state"]) == (same.rule, same.event_id, same.state)

        why = (await http.get(f"/api/why/{alert['event_id']}")).json()
        chain = await stub.Why(WhyRequest(event_id=alert["event_id"]))
        assert why["complete"] and chain.complete
        assert [link["event_id"] for link in why["links"]] == [link.event_id for link in chain.links]
        assert (await http.get("/api/why/nobody")).status_code == 404

        cells = (await http.get("/api/performance", params={"project": "world"})).json()
        windows = (await stub.Performance(PerformanceRequest(project="world"))).windows
        assert len(cells) == len(windows) == 4  # two versions, two metrics
        assert {c["answered"] for c in cells if c["version"] == 1} == {False}

        page = (await http.get("/api/events", params={"limit": 2})).json()
        older = (await http.get("/api/events", params={"limit": 2, "before_us": page[-1]["received_us"]})).json()
        assert len(page) == 2 and not {e["event_id"] for e in page} & {e["event_id"] for e in older}

        metrics = (await http.get("/metrics")).text
        assert "millrace_monitor_decisions" in metrics and "millrace_room_lag" in metrics


async def test_the_button_is_guarded_and_stale_presses_do_nothing(stack, tmp_path):
    async with served_world(stack.clickhouse, tmp_path) as w, httpx.AsyncClient(base_url=w.http) as http:
        await bad_release(w)
        pressed = {"project": "world", "model": "late", "version": "2", "target": "1"}
        assert (await http.post("/rollback", data=pressed)).status_code == 403
        token = http.cookies.get("millrace_csrf") or (await http.get("/")).cookies.get("millrace_csrf")
        answer = await http.post("/rollback", data={**pressed, "csrf": token, "version": "7"})
        assert answer.status_code == 409 and "load the page again" in answer.json()["error"]
        assert (await http.post("/rollback", data={**pressed, "csrf": token})).status_code == 303
        await w.clock(START_US + 13 * HOUR_US)
        commands = [c for c in w.said("models.commands", ModelCommand) if c.actor == "local"]
        assert [(c.version, c.target_version) for c in commands] == [(2, 1)]


async def test_pages_render(stack, tmp_path):
    async with served_world(stack.clickhouse, tmp_path) as w, httpx.AsyncClient(base_url=w.http) as http:
        forced = await bad_release(w)
        for path in ("/", "/events", "/events?topic=models.events", "/reports", f"/why/{forced}"):
            answer = await http.get(path)
            assert answer.status_code == 200, (path, answer.text)
            assert "default-src 'self'" in answer.headers["content-security-policy"]
        for part in ("loop", "models", "alerts", "timeline", "performance"):
            assert (await http.get(f"/fragments/{part}")).status_code == 200
        assert (await http.get("/fragments/nothing")).status_code == 404
        assert (await http.get("/reports/..%2Fmonitor.db")).status_code == 404
        assert (await http.get("/static/monitor/console.js")).status_code == 200
