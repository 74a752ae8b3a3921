"""What a gate report says, for people: `millrace.gate/1` as the trainer writes it; anything else is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FORMAT = "millrace.gate/1"
FIRST = ("candidate", "champion", "tried")  # of the models, where there are such


@dataclass(frozen=True, slots=True)
class Asked:
    """One question of the gate and how it was answered."""

    name: str
    passed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Sliced:
    """The gate's metric of one part of the holdout; None where it has none."""

    value: str
    rows: int
    candidate: float | None
    champion: float | None


@dataclass(frozen=True, slots=True)
class GateReport:
    """A report as the page shows it."""

    metric: str
    asked: tuple[Asked, ...]
    models: tuple[str, ...]
    measures: tuple[tuple[str, tuple[float | None, ...]], ...]  # (measure, its value for each of `models`)
    slices: tuple[tuple[str, tuple[Sliced, ...]], ...]
    from_us: int
    to_us: int
    rows: int
    window_uses: float = 1.0
    left_out: tuple[Mapping[str, Any], ...] = field(default=())  # findings about rows that were not learned from
    drifted: tuple[tuple[str, float], ...] = ()


def read_report(data: bytes) -> GateReport:
    """ValueError, in words, when the bytes are no gate report."""
    try:
        raw = json.loads(data)
        if not isinstance(raw, dict) or raw.get("format") != FORMAT:
            raise ValueError(f"it is not of the format {FORMAT}")
        return _report(raw)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it lacks what a report has: {type(error).__name__}: {error}") from error


def _report(raw: Mapping[str, Any]) -> GateReport:
    metrics: dict[str, dict[str, float]] = raw["metrics"]
    models = (*(name for name in FIRST if name in metrics), *sorted(name for name in metrics if name not in FIRST))
    names = sorted({name for values in metrics.values() for name in values})
    data = raw.get("data", {})
    return GateReport(
        metric=raw["metric"],
        asked=tuple(Asked(c["name"], bool(c["passed"]), c["reason"]) for c in raw["checks"]),
        models=models,
        measures=tuple((name, tuple(metrics[model].get(name) for model in models)) for name in names),
        slices=tuple(
            (by, tuple(Sliced(one["value"], one["rows"], one["candidate"], one["champion"]) for one in lines))
            for by, lines in raw["slices"].items()
        ),
        from_us=raw["holdout"]["from_us"],
        to_us=raw["holdout"]["to_us"],
        rows=raw["holdout_rows"],
        window_uses=raw.get("window_uses", 1.0),
        left_out=tuple([*data.get("findings", []), *data.get("carried", [])]),
        drifted=tuple((one["column"], one["psi"]) for one in data.get("drifted", [])),
    )
