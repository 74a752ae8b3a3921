"""The history and the spine that training sets are measured on, as files that every way reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
START_US = 1_700_000_000_000_000
DAYS, TTL_DAYS = 30, 10
VIEWS = ("orders", "visits", "claims")
NUMBERS = ("a", "b", "c", "d")
PARTITIONS = 1
HOP_US, WINDOWS_US = 600_000_000, (HOUR_US, DAY_US, 7 * DAY_US)

_SOURCE = """
  {name}:
    event_type: bench.{name}.happened
    key: entity
    event_time: happened_at
    fields:
      entity: {{type: string, required: true}}
      happened_at: {{type: timestamp, required: true}}
      a: {{type: number}}
      b: {{type: number}}
      c: {{type: number}}
      d: {{type: number}}
"""
_PROJECT = """
project: {project}
description: Measured, not used.
clock: wall
sources:{sources}
predict: {{source: orders, entity: entity, moment: happened_at}}
features:{features}
label: {{source: orders, key: entity, value: a > 0, horizon: 1h, missing: censored}}
model:
  name: {project}
  task: binary
  template: {{kind: linear}}
  inputs: [{inputs}]
  baselines: [constant]
training: {{triggers: {{new_labels: 100}}, window: 60d, min_rows: 10}}
gate: {{metric: auc, floors: {{auc: 0.5}}}}
rollout: {{strategy: direct}}
monitors: {{}}
"""
_LATEST = """
  {name}@1: {{source: {name}, entity: entity, latest: [a, b, c, d], ttl: {ttl}d}}"""
_WINDOWS = """
  windows@1:
    source: orders
    entity: entity
    hop: 10m
    windows: [1h, 1d, 7d]
    aggregates: {n: count(), total: sum(a), middle: mean(b), most: max(c)}"""
PROJECTS = {
    "latest": _PROJECT.format(
        project="latest",
        sources="".join(_SOURCE.format(name=name) for name in VIEWS),
        features="".join(_LATEST.format(name=name, ttl=TTL_DAYS) for name in VIEWS),
        inputs=", ".join(f"{view}.{number}" for view in VIEWS for number in NUMBERS),
    ),
    "windows": _PROJECT.format(
        project="windows",
        sources=_SOURCE.format(name="orders"),
        features=_WINDOWS,
        inputs=", ".join(
            f"windows.{name}_{w}" for name in ("n", "total", "middle", "most") for w in ("1h", "1d", "7d")
        ),
    ),
}


@dataclass(frozen=True)
class Sizes:
    """How much: spine rows, feature rows per view, entities."""

    spine: int = 100_000
    events: int = 1_000_000
    entities: int = 10_000


@dataclass(frozen=True)
class Files:
    """Where the data lie."""

    folder: Path

    def events(self, view: int) -> Path:
        """entity, event_timestamp, created, a, b, c, d."""
        return self.folder / f"events_{view}.parquet"

    @property
    def spine(self) -> Path:
        """entity, moment, row: the row's number."""
        return self.folder / "spine.parquet"


def write(folder: Path, sizes: Sizes, seed: int = 7) -> Files:
    """Makes the files. Events have even microseconds and moments odd ones: no rule for equal times is needed."""
    random = np.random.default_rng(seed)
    files = Files(folder)
    for view in range(len(VIEWS)):
        event_us = START_US + random.integers(0, DAYS * DAY_US // 2, sizes.events) * 2
        delay_us = np.minimum(random.lognormal(np.log(HOUR_US / 12), 1.5, sizes.events), 2 * DAY_US)
        numbers = {name: random.normal(size=sizes.events) for name in NUMBERS}
        table = pa.table(
            {
                "entity": _keys(random.integers(0, sizes.entities, sizes.events)),
                "event_timestamp": _times(event_us),
                "created": _times(event_us + delay_us.astype(np.int64) // 2 * 2),
                **numbers,
            }
        )
        pq.write_table(table, files.events(view))
    moments = START_US + random.integers(10 * DAY_US // 2, DAYS * DAY_US // 2, sizes.spine) * 2 + 1
    # One in a hundred entities of the spine was never heard of.
    known = random.integers(0, sizes.entities + sizes.entities // 100, sizes.spine)
    spine = {"entity": _keys(known), "moment": _times(moments), "row": np.arange(sizes.spine)}
    pq.write_table(pa.table(spine), files.spine)
    return files


def _keys(numbers: np.ndarray) -> pa.Array:
    return pa.array([f"entity-{number:08d}" for number in numbers.tolist()])


def _times(microseconds: np.ndarray) -> pa.Array:
    return pa.array(microseconds, pa.timestamp("us", tz="UTC"))
