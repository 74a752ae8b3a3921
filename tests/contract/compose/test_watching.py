"""Prometheus and Grafana: they scrape the rooms that are there and ask for metrics that exist."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests.contract.compose.compose import ROOMS, ROOT, services

DASHBOARDS = sorted((ROOT / "infra" / "grafana" / "dashboards").glob("*.json"))
METRIC = re.compile(r"\b(millrace_\w+)")
# Names of what a room exposes, read from the code that counts, in a process of its own: counters register globally.
EXPOSED = """
import services.inference.handlers.metrics as inference, services.ingestion.entrypoints.metrics
import services.feature_store.entrypoints.metrics
from fastapi import FastAPI
from fastapi.testclient import TestClient
from millrace.runtime.metrics import install_metrics
from millrace.runtime.status import StatusBoard
inference.Metrics()
app = FastAPI()
board = StatusBoard("x")
board.watermarks(lambda: {"p": 1})
install_metrics(app, board)
print(TestClient(app).get("/metrics").text)
"""


def exposed() -> set[str]:
    said = subprocess.run([sys.executable, "-c", EXPOSED], capture_output=True, text=True, cwd=ROOT, check=False)
    assert said.returncode == 0, said.stderr
    names = set(re.findall(r"^# TYPE (\S+)", said.stdout, re.MULTILINE))
    # A histogram is asked for by its parts.
    return names | {f"{name}{part}" for name in names for part in ("_bucket", "_count", "_sum", "_total")}


def expressions() -> list[str]:
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    asked = [target["expr"] for board in boards for panel in board["panels"] for target in panel["targets"]]
    rules = yaml.safe_load((ROOT / "infra/prometheus/alerts.yml").read_text())
    return asked + [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


def test_every_metric_asked_for_is_exposed() -> None:
    wanted = {name for expression in expressions() for name in METRIC.findall(expression)}
    assert wanted
    assert not wanted - exposed()


def test_prometheus_scrapes_exactly_the_rooms() -> None:
    (job,) = yaml.safe_load((ROOT / "infra/prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"][0]["targets"] == [f"{room}:8000" for room in ROOMS]
    token = services()["prometheus"]["configs"][0]["target"]
    assert job["authorization"]["credentials_file"] == token


def test_every_alert_says_what_is_wrong_and_how_bad_it_is() -> None:
    rules = yaml.safe_load((ROOT / "infra/prometheus/alerts.yml").read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_use_the_provisioned_source_and_do_not_overlap(path: Any) -> None:
    (source,) = yaml.safe_load((ROOT / "infra/grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(path.read_text())["panels"]:
        assert panel["datasource"]["uid"] == source["uid"]
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + 8)}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
