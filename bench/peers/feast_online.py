"""Feast in process on a Redis store: five views of ten numbers, read by get_online_features. Stands alone.

Argument: {"host", "port", "db", "entities", "views", "features"}. It prints {"ready": seconds of loading}, then answers
each line {"rows", "count"} with {"seconds": [...], "present": values that were there}.
"""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.repo_config import RegistryConfig
from feast.types import Float64
from feast.value_type import ValueType


def main() -> None:
    """Loads, then answers until standard input ends."""
    asked = json.loads(sys.argv[1])
    started = time.perf_counter()
    store, names = prepare(asked)
    print(json.dumps({"ready": time.perf_counter() - started}), flush=True)
    draw = np.random.default_rng(7)
    for line in sys.stdin:
        question = json.loads(line)
        picks = draw.integers(0, asked["entities"], size=(question["count"], question["rows"]))
        seconds, present = [], 0
        for pick in picks:
            rows = [{"sensor": f"s{number:06d}"} for number in pick]
            before = time.perf_counter()
            found = store.get_online_features(features=names, entity_rows=rows, full_feature_names=True).to_dict()
            seconds.append(time.perf_counter() - before)
            present += sum(value is not None for name, column in found.items() if name != "sensor" for value in column)
        print(json.dumps({"seconds": seconds, "present": present}), flush=True)


def prepare(asked: dict) -> tuple[FeatureStore, list[str]]:  # type: ignore[type-arg]
    """A store with every view applied and every entity written."""
    folder = Path.cwd()
    features = [f"f{i}" for i in range(asked["features"])]
    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=RegistryConfig(path=str(folder / "registry.db"), cache_ttl_seconds=0),
            online_store={
                "type": "redis",
                "connection_string": f"{asked['host']}:{asked['port']},db={asked['db']}",
                "key_ttl_seconds": None,
            },
            entity_key_serialization_version=3,
        )
    )
    sensor = Entity(name="sensor", join_keys=["sensor"], value_type=ValueType.STRING)
    now = datetime.now(UTC)
    draw = np.random.default_rng(3)
    frame = pd.DataFrame({"sensor": [f"s{number:06d}" for number in range(asked["entities"])], "at": now})
    for feature in features:
        frame[feature] = draw.normal(size=len(frame))
    path = folder / "rows.parquet"
    frame.to_parquet(path)
    views = [
        FeatureView(
            name=f"v{v}",
            entities=[sensor],
            ttl=timedelta(days=30),
            schema=[Field(name=feature, dtype=Float64) for feature in features],
            source=FileSource(name=f"s{v}", path=str(path), timestamp_field="at"),
        )
        for v in range(asked["views"])
    ]
    store.apply([sensor, *views])
    for view in views:
        store.write_to_online_store(view.name, frame)
    return store, [f"{view.name}:{feature}" for view in views for feature in features]


if __name__ == "__main__":
    main()
