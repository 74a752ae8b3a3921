"""The project files that are measured: sensors, five views of ten features, and three windows of four aggregates."""

from __future__ import annotations

VIEWS, FEATURES = 5, 10
STREAM_WINDOWS = ("1h", "6h", "24h")
LATEST = tuple(f"f{i}" for i in range(FEATURES))
_REST = """
label:
  source: truths
  key: truth_of
  value: outcome
  horizon: 6h
  missing: censored
model:
  name: {name}
  task: regression
  template: {{kind: linear}}
  inputs:
{inputs}
  baselines: [constant]
training: {{triggers: {{new_labels: 100000000}}, min_rows: 100}}
gate: {{metric: mae, floors: {{mae: 6.0}}}}
rollout: {{strategy: direct}}
monitors: {{}}
"""
_LAST = """  last@1: {source: readings, entity: sensor, latest: [value], ttl: 30d}
"""
_TRUTHS = """
  truths:
    event_type: bench.truth.known
    key: truth_of
    event_time: at
    fields:
      truth_of: {type: string, required: true}
      at: {type: timestamp, required: true}
      outcome: {type: number}
"""


def latest_project(name: str, clock: str = "replay") -> str:
    """Five sources s0 to s4, each with one view of its ten numbers as last seen."""
    views = [
        f"  v{v}@1: {{source: s{v}, entity: sensor, latest: [{', '.join(LATEST)}], ttl: 30d}}" for v in range(VIEWS)
    ]
    return _wide(name, clock, views)


def windowed_project(name: str) -> str:
    """The same five sources, each with one view of five aggregates over two windows."""
    aggregates = "{n: count(), mean: mean(f0), low: min(f1), high: max(f1), total: sum(f2)}"
    views = [
        f"  v{v}@1: {{source: s{v}, entity: sensor, hop: 10m, windows: [1h, 6h], aggregates: {aggregates}}}"
        for v in range(VIEWS)
    ]
    return _wide(name, "replay", views)


def stream_project(name: str, clock: str = "replay", *, with_latest: bool = False) -> str:
    """One source `readings`; its view has count, mean, std and max of `value` over three windows.

    `with_latest`: a second view, `last`, has the newest reading, which can be read before a hop is over.
    """
    fields = "\n".join(
        f"      {field}: {{type: {kind}}}"
        for field, kind in (
            ("value", "number"), ("pressure", "number"), ("humidity", "number"), ("kind", "string"),
            ("site", "string"), ("battery", "integer"), ("note", "string"),
        )
    )  # fmt: skip
    return f"""
project: {name}
description: Sensors that are read all the time.
clock: {clock}
sources:
  readings:
    event_type: bench.sensor.read
    key: sensor
    event_time: at
    fields:
      reading_id: {{type: string, required: true}}
      sensor: {{type: string, required: true}}
      at: {{type: timestamp, required: true}}
{fields}
    lateness: 1h{_TRUTHS}
predict: {{source: readings, entity: sensor, moment: at}}
features:
  activity@1:
    source: readings
    entity: sensor
    hop: 10m
    windows: [{", ".join(STREAM_WINDOWS)}]
    aggregates: {{n: count(), mean: mean(value), spread: std(value), high: max(value)}}
{_LAST if with_latest else ""}""" + _REST.format(
        name=name, inputs="    - {view: activity}" + ("\n    - {view: last}" if with_latest else "")
    )


def _wide(name: str, clock: str, views: list[str]) -> str:
    numbers = "\n".join(f"      {field}: {{type: number}}" for field in LATEST)
    sources = "\n".join(
        f"""  s{v}:
    event_type: bench.sensor{v}.read
    key: sensor
    event_time: at
    fields:
      sensor: {{type: string, required: true}}
      at: {{type: timestamp, required: true}}
{numbers}
    lateness: 1h"""
        for v in range(VIEWS)
    )
    inputs = "\n".join(f"    - {{view: v{v}}}" for v in range(VIEWS))
    return (
        f"""
project: {name}
description: Five views of ten features.
clock: {clock}
sources:
{sources}{_TRUTHS}
predict: {{source: s0, entity: sensor, moment: at}}
features:
"""
        + "\n".join(views)
        + _REST.format(name=name, inputs=inputs)
    )
