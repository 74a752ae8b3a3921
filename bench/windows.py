"""Point-in-time windows: `millrace.aggregates.window_values` and pandas on the same history."""

from __future__ import annotations

import numpy as np
import pandas as pd
from millrace.aggregates import Events, window_start, window_values
from millrace.definitions.model import Aggregate, Aggregation

from bench.measuring import Job, Way

HOUR_US = 3_600_000_000
HOP_US = 600_000_000
WINDOWS_US = (HOUR_US, 3 * HOUR_US)
ENTITIES, EVENTS, MOMENTS = 200, 60_000, 15_000
AGGREGATES = (Aggregate("mean", Aggregation.MEAN, "x"), Aggregate("count", Aggregation.COUNT, "x"))
Arrays = tuple[np.ndarray, np.ndarray]


def windows_job() -> Job:
    """Means and counts of two windows, for many (entity, moment) pairs. Both ways must give the same numbers."""
    events, values, spine = _history(seed=11)
    entity, moment = spine

    def ours() -> np.ndarray:
        return window_values(entity, moment, events, [values, values], AGGREGATES, WINDOWS_US, HOP_US, as_happened=True)

    def peer() -> np.ndarray:
        return _by_pandas(events, values, spine)

    np.testing.assert_allclose(ours(), peer(), rtol=1e-9, atol=1e-9)
    return Job("point-in-time windows", MOMENTS, "moments", Way("window_values", ours), Way("pandas merge_asof", peer))


def late_windows_job() -> Job:
    """The same where events become known late, which running totals cannot say: the peer joins and groups."""
    events, values, spine = _history(seed=12, events=20_000, moments=5_000)
    entity, moment = spine

    def ours() -> np.ndarray:
        return window_values(entity, moment, events, [values, values], AGGREGATES, WINDOWS_US, HOP_US)

    def peer() -> np.ndarray:
        return _by_join(events, values, spine)

    np.testing.assert_allclose(ours(), peer(), rtol=1e-9, atol=1e-9)
    return Job(
        "the same, events known late", len(moment), "moments", Way("window_values", ours), Way("pandas merge", peer)
    )


def _history(seed: int, events: int = EVENTS, moments: int = MOMENTS) -> tuple[Events, np.ndarray, Arrays]:
    """Events of a week, known up to an hour late, a tenth without a value; moments in the week's second half."""
    random = np.random.default_rng(seed)
    start, week = 1_372_636_800_000_000, 7 * 24 * HOUR_US
    event_us = start + random.integers(0, week, events)
    visible_us = event_us + random.integers(1, HOUR_US, events)
    entity = random.integers(0, ENTITIES, events)
    values = np.where(random.random(events) < 0.1, np.nan, random.normal(size=events))
    spine = random.integers(0, ENTITIES, moments), start + random.integers(week // 2, week, moments)
    return Events(entity, event_us, visible_us, np.arange(events)), values, spine


def _by_pandas(events: Events, values: np.ndarray, spine: Arrays) -> np.ndarray:
    """Running totals per entity, looked up by merge_asof at both ends of each window and subtracted.

    `rolling` ends its windows at its own rows only; totals and merge_asof are how pandas reads them at other moments.
    """
    frame = pd.DataFrame({"entity": events.entity, "at": events.event_us, "x": values}).sort_values("at")
    frame["n"] = frame["x"].notna().groupby(frame["entity"]).cumsum()
    frame["total"] = frame["x"].fillna(0.0).groupby(frame["entity"]).cumsum()
    entity, moment = spine
    result = np.empty((2, len(WINDOWS_US), len(moment)))
    until = _totals(frame, entity, moment)
    for i, width_us in enumerate(WINDOWS_US):
        before = _totals(frame, entity, window_start(moment, width_us, HOP_US))
        n, total = until["n"] - before["n"], until["total"] - before["total"]
        result[0, i] = (total / n).where(n > 0)
        result[1, i] = n
    return result


def _totals(frame: pd.DataFrame, entity: np.ndarray, at_us: np.ndarray) -> pd.DataFrame:
    """Count and sum per row of the spine, of events strictly before `at_us`, in the spine's order."""
    wanted = pd.DataFrame({"entity": entity, "at": at_us, "row": np.arange(len(at_us))}).sort_values("at")
    found = pd.merge_asof(wanted, frame, on="at", by="entity", allow_exact_matches=False)
    return found.sort_values("row").reset_index(drop=True)[["n", "total"]].fillna(0.0)


def _by_join(events: Events, values: np.ndarray, spine: Arrays) -> np.ndarray:
    """Every event of the entity beside every moment, filtered, grouped; one window after the other."""
    history = pd.DataFrame({"entity": events.entity, "at": events.event_us, "known": events.visible_us, "x": values})
    entity, moment = spine
    rows = pd.DataFrame({"entity": entity, "moment": moment, "row": np.arange(len(moment))})
    pairs = rows.merge(history, on="entity")
    pairs = pairs[(pairs["at"] < pairs["moment"]) & (pairs["known"] <= pairs["moment"])]
    result = np.empty((2, len(WINDOWS_US), len(moment)))
    for i, width_us in enumerate(WINDOWS_US):
        inside = pairs[pairs["at"] >= window_start(pairs["moment"].to_numpy(), width_us, HOP_US)]
        grouped = inside.groupby("row")["x"].agg(["mean", "count"]).reindex(np.arange(len(moment)))
        result[0, i] = grouped["mean"]
        result[1, i] = grouped["count"].fillna(0)
    return result
