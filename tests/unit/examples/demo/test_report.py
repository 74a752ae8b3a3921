"""What the report carries and shows: files, pictures, the table, the exit status."""

import base64
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from examples.flights.demo import pictures, report, table
from tests.unit.examples.demo.conftest import T0

WEEK_US = 7 * 86_400_000_000


@pytest.fixture
def found() -> dict[str, Any]:
    """A report with something of everything."""
    week = {"rows": 300, "late_rate": 0.25, "frozen": 0.5, "continuous": 0.75, "versions": [1, 4]}
    return {
        "input_rows": 12_345,
        "releases": [{"epoch": 1, "cause": "released"}, {"epoch": 2, "cause": "forced"}],
        "predictions": {"asked": 9, "answered": 1_009, "shadow": 7, "logged": 1_016, "in_clickhouse": 1_016},
        "failed_requests": 0,
        "retried_requests": 3,
        "logged_failures": 0,
        "alerts": [{"rule": "label_drift"}, {"rule": "data_quality"}, {"rule": "data_quality"}],
        "drift": [{"rule": "label_drift"}],
        "quarantined": {"departures.departure_delay: range": 594},
        "rollback": {"from": 3, "to": 1, "seconds_from_bad_release": 4.1},
        "retrain": [{"state": "refused", "triggers": ["drift", "new_labels"]}],
        "auc_by_week": [week | {"start_us": T0}, week | {"start_us": T0 + WEEK_US, "rows": 100, "continuous": 0.55}],
        "chain": [{"event_id": "e1", "event_type": "rolled_back", "summary": "<v3> rolled [back]"}, {"event_id": "e2"}],
        "throughput": {"events_per_s": 564.6},
        "latency_ms": {
            "single": {"p50": 7.41, "p99": 45.47, "requests": 400},
            "batch": {"p50": 35.2, "p99": 175.8, "requests": 5_907},
        },
        "durations_s": {"start": 24.2, "total": 512.9},
        "timeline": [{"kind": k, "clock_us": T0, "label": f"a {k}"} for k in pictures.KIND_COLOURS],
        "troubles": [],
        "missing_links": [],
    }


def shown(found: dict[str, Any]) -> str:
    screen = io.StringIO()
    table.show(found, Path("there/report.html"), Console(file=screen, width=200))
    return screen.getvalue()


def svgs(page: str) -> list[str]:
    """The pictures that a page carries inside."""
    parts = page.split("data:image/svg+xml;base64,")[1:]
    return [base64.b64decode(part.split('"')[0]).decode() for part in parts]


def test_the_exit_status_is_0_only_when_nothing_is_missing_and_nothing_failed(found: dict[str, Any]) -> None:
    assert report.exit_status(found) == 0
    assert report.exit_status(found | {"missing_links": ["a first release (models.releases)"]}) == 1
    assert report.exit_status(found | {"troubles": [{"during": "replay", "reason": "NOT_FOUND: x"}]}) == 1


def test_both_files_are_written(found: dict[str, Any], tmp_path: Path) -> None:
    page = report.write(found, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text()) == found
    assert page == tmp_path / "report.html"
    text = page.read_text()
    assert text.count("<img") == 2
    for svg in svgs(text):
        assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert "12,345; 564.6 per second" in text


def test_a_report_of_nothing_can_be_written_and_shown(found: dict[str, Any], tmp_path: Path) -> None:
    empty: dict[str, Any] = {name: type(value)() for name, value in found.items()}
    zero = {"p50": 0.0, "p99": 0.0, "requests": 0}
    empty |= {"predictions": dict.fromkeys(found["predictions"], 0), "throughput": {"events_per_s": 0.0}}
    empty |= {"latency_ms": {"single": zero, "batch": zero}, "missing_links": ["labels matured (labels)"]}
    empty["troubles"] = [{"during": "replay", "reason": "UNAVAILABLE: [gone]", "traceback": "..."}]
    assert len(svgs(report.write(empty, tmp_path).read_text())) == 2
    text = shown(empty)
    assert "failed: replay: UNAVAILABLE: [gone]\n" in text
    assert "missing link: labels matured (labels)\n" in text
    assert "none seen" in text
    assert "Why the rollback happened" not in text


def test_the_page_says_text_as_text() -> None:
    page = pictures.page(
        "<script>alert(1)</script>",
        [("AUC & more", "<img>")],
        [("<b>failed", "0 < 1")],
        [{"event_type": "<i>", "summary": "a & b", "event_id": "<e>"}],
    )
    assert "<script>" not in page
    assert "<title>&lt;script&gt;alert(1)&lt;/script&gt;</title>" in page
    assert "<h2>AUC &amp; more</h2><img>" in page  # a picture is markup already
    assert "<th>&lt;b&gt;failed</th><td>0 &lt; 1</td>" in page
    assert "<b>&lt;i&gt;</b> a &amp; b<br><code>&lt;e&gt;</code>" in page


def test_pictures_draw_what_they_are_given(found: dict[str, Any]) -> None:
    weeks, none = pictures.auc_by_week(found["auc_by_week"]), pictures.auc_by_week([])
    (curves,), (empty,) = svgs(weeks), svgs(none)
    # Two lines with a marker per week, and a bar per week.
    assert curves.count("<use ") > empty.count("<use ")
    assert curves.count("#d6dde5") - empty.count("#d6dde5") == 2
    (lanes,) = svgs(pictures.timeline(found["timeline"]))
    assert all(colour in lanes for colour in pictures.KIND_COLOURS.values())
    (quiet,) = svgs(pictures.timeline([]))
    assert not [colour for colour in pictures.KIND_COLOURS.values() if colour in quiet]


def test_a_day_is_that_of_utc() -> None:
    assert pictures.day(T0).isoformat() == "2013-08-08T00:00:00+00:00"


def test_the_table_states_the_figures(found: dict[str, Any]) -> None:
    rows = dict(table.facts(found))
    assert rows["failed requests"] == "0, and 0 in the log of predictions"
    assert rows["retried requests"] == "3: attempts that failed and were made again"
    assert rows["alerts fired"] == "1× label_drift, 2× data_quality"
    assert rows["gate verdicts"] == "refused (drift, new_labels)"
    assert rows["rollback"] == "version 3 → 1, 4.1 s after the news of the bad release"
    assert rows["AUC, mean of the weeks"] == "0.700 as answered, 0.500 for the frozen first model"
    assert rows["refused, in quarantine"] == "594"


def test_the_terminal_shows_weeks_chain_and_page(found: dict[str, Any]) -> None:
    text = shown(found)
    assert "08 Aug" in text and "15 Aug" in text
    assert "← rolled_back: <v3> rolled [back]" in text
    assert text.rstrip().endswith("report: there/report.html")


def test_labels_of_neighbours_stand_above_each_other_and_say_a_thing_once() -> None:
    def mark(at: int, label: str, kind: str = "alert") -> dict[str, Any]:
        return {"kind": kind, "clock_us": at, "label": label}

    marks = [mark(0, "a"), mark(50, "b"), mark(54, "c"), mark(52, "b"), mark(52, "d", "release"), mark(100, "e")]
    assert [(m["clock_us"], m["label"], level) for m, level in pictures.heights(marks)] == [
        (0, "a", 0), (50, "b", 0), (52, "b", None), (52, "d", 0), (54, "c", 1), (100, "e", 0),
    ]  # fmt: skip
    assert pictures.heights([]) == []
