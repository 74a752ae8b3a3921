"""Evidently's reports: made in a child, listed, bounded on disk; a column of nulls does not break them."""

import numpy as np
import pytest

from services.monitor.adapters.drift_evidently import EvidentlyReports
from services.monitor.errors import ReportFailed
from tests.integration.monitor.world import DAY_US, START_US, champion, world
from tests.support.poll import until

pytestmark = pytest.mark.stack


async def test_a_report_is_made_and_listed(stack, tmp_path):
    async with world(stack.clickhouse, tmp_path) as w:
        await w.define()
        first = await w.move(1, "champion", "released", START_US, 1)
        await w.plan(1, champion(1), cause=first)
        await w.clock(START_US)
        at = list(range(START_US, START_US + 5 * DAY_US, 15 * 60_000_000))
        await w.predict(at, {1: "good"}, np.ones(len(at)), epoch=1)
        await w.clock(START_US + 5 * DAY_US)
        await w.parts.reporter._make_if_due(*await _subject(w))
        (row,) = await until(w.parts.state.reports, 10)
        assert (row.version, row.start_us, row.columns) == (1, START_US + 4 * DAY_US, 3)
        page = (tmp_path / "monitor" / "reports" / row.file).read_text()
        assert "<html" in page and "plan.amount" in page
        await w.parts.reporter._make_if_due(*await _subject(w))
        assert w.parts.reporter.made == 1  # the next one is fourteen windows away


async def _subject(w):
    (plan,) = await w.parts.state.plans("world")
    return w.parts.projects()["world"], plan


async def test_nulls_are_left_out_and_failures_are_told(tmp_path):
    flags = (True, False, None)
    rows = [
        {"a": i % 7, "b": None, "c": "x" if i % 2 else "", "d": flags[i % 3], "e": flags[1 + i % 2]} for i in range(80)
    ]
    reports = EvidentlyReports(tmp_path, 250)
    verdict = await reports.make(rows, rows, ["c"], "one.html")
    assert (verdict.drifted, verdict.columns) == (0, 4)
    with pytest.raises(ReportFailed, match="no rows"):
        await reports.make([], rows, [], "two.html")
    hasty = EvidentlyReports(tmp_path, 0.05)
    with pytest.raises(ReportFailed, match="no report within"):
        await hasty.make(rows, rows, ["c"], "two.html")
    assert [path.name for path in tmp_path.iterdir()] == ["one.html"]
