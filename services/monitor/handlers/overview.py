"""What the console and the JSON door show, gathered from the state, the index and the fleet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.monitor.domain.alerts import Alert
from services.monitor.domain.performance import Cell
from services.monitor.domain.plans import Change, Plan, Variant
from services.monitor.handlers.queries import Queries, RoomView

TIMELINE_TOPICS = ("models.events", "monitor.alerts", "training.requests", "training.runs")
TIMELINE_EVENTS = 400
_LANES = {"models.events": "releases", "monitor.alerts": "alerts", "training.requests": "training"}
_QUIET_KINDS = frozenset({"registered", "gated", "retired", "queued", "pending"})


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One serving version of a model. Times on the project's clock; NaN where nothing is known yet."""

    project: str
    model: str
    version: int
    role: str
    weight: float
    fallback: bool
    since_us: int
    event_id: str
    metric: str
    value: float
    low: float
    high: float
    labelled: int
    coverage: float
    rollback_to: int  # 0: there is no warm version to go back to


@dataclass(frozen=True, slots=True)
class Moment:
    """One event of the timeline, at a time of the project's clock."""

    at_us: int
    lane: str
    kind: str  # good, warn, bad, note
    text: str
    event_id: str
    project: str


async def model_rows(queries: Queries) -> list[ModelRow]:
    """Every version of every plan, champions first."""
    rows: list[ModelRow] = []
    for plan in await queries.state.plans():
        changes = await queries.state.changes(plan.project, plan.model)
        cells = await queries.performance(plan.project)
        metric = _metric(queries, plan.project)
        order = {"champion": 0, "canary": 1, "ab": 2, "shadow": 3}
        for variant in sorted(plan.variants, key=lambda v: (order.get(v.role, 9), -v.version)):
            rows.append(_model_row(plan, variant, changes, cells, metric))
    return rows


async def timeline(queries: Queries, project: str = "") -> list[Moment]:
    """Releases, alerts, rollbacks and trainings, oldest first."""
    found = await queries.index.recent(project=project, topics=TIMELINE_TOPICS, limit=TIMELINE_EVENTS)
    moments = [_moment(row) for row in found if row["clock_us"] and row["kind"] not in _QUIET_KINDS]
    return sorted(moments, key=lambda m: m.at_us)


def series(cells: Sequence[Cell], metric: str) -> dict[str, list[tuple[float, float]]]:
    """Values per version and kind of answer, by window: `v3`, `v2 (shadow)`."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for cell in sorted(cells, key=lambda c: (not c.answered, c.version, c.start_us)):
        if cell.metric == metric and math.isfinite(cell.value):
            name = f"v{cell.version}" + ("" if cell.answered else " (shadow)")
            lines.setdefault(name, []).append((float(cell.start_us), cell.value))
    return lines


async def performance_charts(queries: Queries) -> list[tuple[str, str, dict[str, list[tuple[float, float]]]]]:
    """(project, metric, series) of every project; empty series where no label has matured."""
    return [
        (name, _metric(queries, name), series(await queries.performance(name), _metric(queries, name)))
        for name in sorted(queries.projects())
    ]


def room_json(view: RoomView) -> dict[str, Any]:
    """A room for /api/fleet."""
    status = view.status
    if status is None:
        return {"room": view.room, "answers": False, "ready": False, "reasons": ["does not answer"], "rate": 0.0}
    return {
        "room": view.room,
        "answers": True,
        "ready": status.ready,
        "reasons": list(status.reasons),
        "rate": view.rate,
        "lag_records": status.lag_records,
        "unpublished_records": status.unpublished_records,
        "busy_jobs": status.busy_jobs,
        "handled_records": status.handled_records,
        "dead_letters": status.dead_letters,
        "oldest_s": status.oldest_s,
        "retries": status.retries,
        "delayed_records": status.delayed_records,
        "watermarks_us": dict(status.watermarks_us),
        "definitions": dict(status.definitions),
        "grpc": status.grpc_address,
        "http": status.http_address,
    }


def cell_json(cell: Cell) -> dict[str, Any]:
    """A cell for /api/performance; null where there is no value yet."""
    return {
        "start_us": cell.start_us,
        "version": cell.version,
        "answered": cell.answered,
        "metric": cell.metric,
        "value": _finite(cell.value),
        "low": _finite(cell.low),
        "high": _finite(cell.high),
        "predictions": cell.predictions,
        "labelled": cell.labelled,
        "coverage": cell.coverage,
    }


def alert_json(alert: Alert) -> dict[str, Any]:
    """An alert for /api/alerts."""
    names = (
        "project", "rule", "subject", "incident", "severity", "action", "reason", "observations", "since_us",
        "updated_us", "event_id", "cause_id", "evidence_query",
    )  # fmt: skip
    values = {name: getattr(alert, name) for name in names}
    return values | {
        "state": alert.state.value,
        "statistic": _finite(alert.statistic),
        "threshold": _finite(alert.threshold),
    }


def _metric(queries: Queries, project: str) -> str:
    definition = queries.projects().get(project)
    declared = definition.gate.metric if definition else "auc"
    measured = {"binary": ("auc", "log_loss"), "regression": ("mae", "rmse")}
    task = definition.model.task.value if definition else "binary"
    return declared if declared in measured[task] else measured[task][0]


def _model_row(plan: Plan, variant: Variant, changes: Sequence[Change], cells: Sequence[Cell], metric: str) -> ModelRow:
    own = [c for c in changes if c.version == variant.version and c.to_state.startswith(variant.role)]
    since = own[-1] if own else None
    latest = [c for c in cells if c.version == variant.version and c.metric == metric and math.isfinite(c.value)]
    cell = max(latest, key=lambda c: (c.start_us, c.answered), default=None)
    target = plan.target if variant.role == "champion" else plan.champion if variant.role == "canary" else None
    nan = math.nan
    return ModelRow(
        project=plan.project,
        model=plan.model,
        version=variant.version,
        role=variant.role,
        weight=_weight(plan, variant),
        fallback=variant.fallback,
        since_us=since.clock_us if since else plan.received_us,
        event_id=since.event_id if since else plan.event_id,
        metric=metric,
        value=cell.value if cell else nan,
        low=cell.low if cell else nan,
        high=cell.high if cell else nan,
        labelled=cell.labelled if cell else 0,
        coverage=cell.coverage if cell else nan,
        rollback_to=target.version if target else 0,
    )


def _weight(plan: Plan, variant: Variant) -> float:
    if variant.role == "champion":
        return 1.0 - sum(v.weight for v in plan.variants if v.role in ("canary", "ab"))
    return 0.0 if variant.role == "shadow" else variant.weight


def _moment(row: Mapping[str, Any]) -> Moment:
    kind, lane = str(row["kind"]), _LANES.get(str(row["topic"]), "training")
    if kind == "rolled_back":
        lane = "rollbacks"
    tone = "note"
    if kind in ("released", "promoted", "advanced", "passed", "restored"):
        tone = "good"
    elif kind in ("rolled_back", "rejected", "failed") or (lane == "alerts" and kind == "firing"):
        tone = "bad"
    elif kind in ("forced", "refused", "declined", "drift", "held", "no_data"):
        tone = "warn"
    return Moment(row["clock_us"], lane, tone, row["summary"], row["event_id"], row["project"])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
