"""Sections of a file that passed the schema, as values of the model. No names are looked up here."""

from __future__ import annotations

import re
from typing import Any

from millrace.definitions.gate import Behaviour, Disturbance, FairnessRule, Gate, Robustness, SliceRule
from millrace.definitions.model import (
    DAY_US,
    WITH_ARGUMENT,
    Aggregate,
    Aggregation,
    CanaryStep,
    Clock,
    Docs,
    DriftMonitor,
    Field,
    FieldType,
    Label,
    Missing,
    Monitors,
    PerformanceMonitor,
    Pii,
    Predict,
    QualityMonitor,
    Reference,
    ReleaseMonitor,
    Rollout,
    Source,
    Task,
    Template,
    Training,
    View,
)

Section = dict[str, Any]

_UNITS_US = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": DAY_US}
_MONITORS: dict[str, Any] = {
    "data_quality": QualityMonitor,
    "performance": PerformanceMonitor,
    "release": ReleaseMonitor,
}
_CALL = re.compile(r"\s*([a-z_]+)\s*\((.*)\)\s*", re.DOTALL)
_ARGUMENT = re.compile(r"(.*),\s*(-?[0-9]+(?:\.[0-9]+)?)\s*", re.DOTALL)


def duration_us(text: str) -> int:
    """Microseconds of `90s`, `10m`, `3h`, `7d`; ValueError when it is none."""
    match = re.fullmatch(r"([0-9]+)(ms|s|m|h|d)", text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration")
    return int(match[1]) * _UNITS_US[match[2]]


def source(name: str, raw: Section) -> Source:
    """A source; its key and event time are required whatever their fields say."""
    implied = {raw["key"], raw["event_time"]}
    fields = tuple(_field(field, spec, field in implied) for field, spec in raw["fields"].items())
    durations = _durations(raw, "lateness", "max_future", "freshness", "retention")
    return Source(name, raw["event_type"], raw["key"], raw["event_time"], fields, **durations)


def predict(raw: Section) -> Predict:
    """The predict section."""
    return Predict(raw["source"], raw["entity"], raw["moment"], tuple(raw.get("request", ())))


def split_view(key: str) -> tuple[str, int]:
    """(name, version) of `name@version`."""
    name, _, version = key.partition("@")
    return name, int(version)


def split_call(text: str) -> tuple[str, str]:
    """(function, expression) of `function(expression)`."""
    match = _CALL.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not function(expression)")
    return match[1], match[2].strip()


def aggregate(column: str, text: str) -> Aggregate:
    """One column of a windowed view; a function that takes an argument has it after its expression (0: it has none).

    ValueError for an unknown function.
    """
    name, inside = split_call(text)
    function = Aggregation(name)
    found = _ARGUMENT.fullmatch(inside) if function in WITH_ARGUMENT else None
    return (
        Aggregate(column, function, found[1].strip(), float(found[2])) if found else Aggregate(column, function, inside)
    )


def joined(names: str | list[str]) -> str:
    """One name, or several as the one text that the model keeps."""
    return names if isinstance(names, str) else ",".join(names)


def view(key: str, raw: Section) -> View:
    """A view; ValueError when an aggregate names no known function."""
    name, version = split_view(key)
    return View(
        name=name,
        version=version,
        source=raw["source"],
        entity=joined(raw["entity"]),
        latest=tuple(raw.get("latest", ())),
        derive=tuple(raw.get("derive", {}).items()),
        aggregates=tuple(aggregate(column, text) for column, text in raw.get("aggregates", {}).items()),
        windows_us=tuple(duration_us(text) for text in raw.get("windows", ())),
        where=raw.get("where", ""),
        docs=docs(raw),
        column_docs=tuple((column, docs(said)) for column, said in raw.get("columns", {}).items()),
        **_durations(raw, "hop", "ttl"),
    )


def docs(raw: Section | str) -> Docs:
    """What is said of a thing: a text is its description."""
    if isinstance(raw, str):
        return Docs(raw)
    return Docs(raw.get("description", ""), raw.get("owner", ""), tuple(raw.get("tags", ())))


def label(raw: Section) -> Label:
    """The label section."""
    return Label(
        source=raw["source"],
        key=raw["key"],
        value=raw["value"],
        horizon_us=duration_us(raw["horizon"]),
        missing=Missing(raw.get("missing", Missing.CENSORED)),
        default=float(raw.get("default", 0.0)),
    )


def template(raw: Section) -> Template:
    """The net of a model."""
    known: Section = {name: raw[name] for name in ("epochs", "batch_size", "seed") if name in raw}
    if "hidden" in raw:
        known["hidden"] = tuple(raw["hidden"])
    if "learning_rate" in raw:
        known["learning_rate"] = float(raw["learning_rate"])
    return Template(raw["kind"], **known)


def training(raw: Section) -> Training:
    """The training section."""
    triggers = raw.get("triggers", {})
    known = {name: raw[name] for name in ("budget_per_day", "min_rows") if name in raw}
    return Training(
        new_labels=triggers.get("new_labels", 0),
        on_drift=triggers.get("drift", False),
        every_us=duration_us(triggers["schedule"]) if "schedule" in triggers else 0,
        **known,
        **_durations(raw, "window", "debounce", "cooldown"),
    )


def gate(raw: Section) -> Gate:
    """The gate section."""
    known = {name: float(raw[name]) for name in ("margin", "confidence", "holdout") if name in raw}
    latency = raw.get("latency", {})
    return Gate(
        metric=raw["metric"],
        floors=tuple(sorted((name, float(value)) for name, value in raw.get("floors", {}).items())),
        max_ece=_optional(raw.get("calibration", {}), "max_ece"),
        max_p99_ms=_optional(latency, "max_p99_ms"),
        max_size_mb=_optional(latency, "max_size_mb"),
        slices=tuple(one if isinstance(one, str) else one["by"] for one in raw.get("slices", ())),
        slice_rules=tuple(_slice(one) for one in raw.get("slices", ()) if not isinstance(one, str)),
        fairness=tuple(_fairness(one) for one in raw.get("fairness", ())),
        robustness=Robustness(**{name: _disturbance(one) for name, one in raw.get("robustness", {}).items()}),
        behaviour=tuple(_behaviour(one) for one in raw.get("behaviour", ())),
        **known,
    )


def _slice(raw: Section) -> SliceRule:
    return SliceRule(**{**_floats(raw, "floor", "max_loss"), "values": tuple(raw.get("values", ()))})


def _fairness(raw: Section) -> FairnessRule:
    return FairnessRule(**_floats(raw, "max_opportunity_gap", "max_parity_gap"))


def _disturbance(raw: Section) -> Disturbance:
    return Disturbance(**_floats(raw, "share", "max_loss"))


def _behaviour(raw: Section) -> Behaviour:
    known = _floats(raw, "by", "at_least", "at_most", "max_change", "max_failing")
    rises = known.pop("answer", "rises") == "rises"
    given = tuple((name, str(value)) for name, value in known.pop("given", {}).items())
    return Behaviour(raised=known.pop("raise", ""), rises=rises, given=given, **known)


def _floats(raw: Section, *names: str) -> Section:
    """The section with these numbers as floats: YAML reads 1 as an integer."""
    return {name: float(value) if name in names else value for name, value in raw.items()}


def rollout(raw: Section) -> Rollout:
    """The rollout section; a shadow's step weighs nothing."""
    steps = tuple(_step(step) for step in raw.get("steps", ()))
    strategy = raw.get("strategy", "canary" if steps else "direct")
    return Rollout(strategy=strategy, steps=steps, **_durations(raw, "guard"))


def monitors(raw: Section) -> Monitors:
    """The monitors section; what it leaves out keeps its default."""
    known: dict[str, Any] = {name: _drift(raw[name]) for name in ("drift", "label_drift") if name in raw}
    for name, kind in _MONITORS.items():
        if name in raw:
            section: Section = {key: _exact(key, value) for key, value in raw[name].items() if key != "window"}
            known[name] = kind(**section, **_durations(raw[name], "window"))
    return Monitors(**known)


def project_clock(raw: Any) -> Clock:
    """The clock; `wall` when the file does not say."""
    return Clock(raw) if raw is not None else Clock.WALL


def task(raw: str) -> Task:
    """The task of a model."""
    return Task(raw)


def _field(name: str, raw: Section, implied: bool) -> Field:
    bounds = raw.get("range")
    return Field(
        name=name,
        type=FieldType(raw["type"]),
        required=bool(raw.get("required", False)) or implied,
        range=(float(bounds[0]), float(bounds[1])) if bounds else None,
        set=tuple(raw["set"]) if "set" in raw else None,
        regex=raw.get("regex"),
        pii=Pii(raw.get("pii", Pii.KEEP)),
        max_null_share=_optional(raw, "max_null_share"),
        unique=bool(raw.get("unique", False)),
        references=Reference(**raw["references"]) if "references" in raw else None,
    )


def _step(raw: Section) -> CanaryStep:
    after_us = duration_us(raw.get("after", "0s"))
    return CanaryStep(float(raw.get("weight", 0.0)), after_us, raw.get("min_predictions", 0))


def _drift(raw: Section) -> DriftMonitor:
    return DriftMonitor(float(raw["false_alarms_per_year"]), duration_us(raw["window"]), raw.get("action", "alert"))


def _durations(raw: Section, *names: str) -> dict[str, int]:
    return {f"{name}_us": duration_us(raw[name]) for name in names if name in raw}


def _optional(raw: Section, name: str) -> float | None:
    return float(raw[name]) if name in raw else None


def _exact(key: str, value: Any) -> Any:
    """Shares and confidences are floats also when written `1`, so that 1 and 1.0 are one definition."""
    return float(value) if key in ("max_quarantined_share", "max_disagreement", "confidence") else value
