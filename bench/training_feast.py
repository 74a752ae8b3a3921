"""The peer's side, run by the interpreter of the peers' environment: Feast on DuckDB, and DuckDB by hand.

`python training_feast.py FOLDER`: reads one JSON request per line from standard input (`{"way": …, "out": …}`) and
answers each with `{"wall_s": …, "cpu_s": …, "rows": …}`; `out` names a Parquet file for the rows, written when the
clock has stopped.
"""

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import duckdb
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Float64

VIEWS, NUMBERS, TTL_DAYS = ("orders", "visits", "claims"), ("a", "b", "c", "d"), 10
HOP_US, WINDOWS = 600_000_000, {"1h": 3_600_000_000, "1d": 86_400_000_000, "7d": 7 * 86_400_000_000}


def feast_store(folder: Path) -> FeatureStore:
    """Three views on Parquet files, registered in the folder."""
    config = {
        "project": "bench",
        "registry": str(folder / "registry.db"),
        "provider": "local",
        "offline_store": {"type": "duckdb"},
        "online_store": {"type": "sqlite", "path": str(folder / "online.db")},
        "entity_key_serialization_version": 3,
    }
    store = FeatureStore(config=RepoConfig(**config))
    entity = Entity(name="entity", join_keys=["entity"])
    views = [
        FeatureView(
            name=name,
            entities=[entity],
            ttl=timedelta(days=TTL_DAYS),
            schema=[Field(name=number, dtype=Float64) for number in NUMBERS],
            source=FileSource(
                name=f"{name}_file",
                path=str(folder / f"events_{place}.parquet"),
                timestamp_field="event_timestamp",
                created_timestamp_column="created",
            ),
        )
        for place, name in enumerate(VIEWS)
    ]
    store.apply([entity, *views])
    return store


def by_feast(store: FeatureStore, spine: pd.DataFrame, known: bool) -> pd.DataFrame:
    """As a user asks for it."""
    job = store.get_historical_features(
        entity_df=spine,
        features=[f"{view}:{number}" for view in VIEWS for number in NUMBERS],
        full_feature_names=True,
        **({"filter_by_created_timestamp": True} if known else {}),
    )
    return job.to_df()


def by_range_join(folder: Path) -> pd.DataFrame:
    """Three windows by four aggregates, as known at each moment: every event of a window beside every row."""
    windows = []
    for name, width in WINDOWS.items():
        inside = f"e.at >= (s.at - {width}) // {HOP_US} * {HOP_US}"
        windows += [
            f"count(e.at) FILTER ({inside}) AS n_{name}",
            f"sum(e.a) FILTER ({inside}) AS total_{name}",
            f"avg(e.b) FILTER ({inside}) AS middle_{name}",
            f"max(e.c) FILTER ({inside}) AS most_{name}",
        ]
    widest = max(WINDOWS.values())
    return duckdb.sql(
        f"""
        WITH s AS (SELECT entity, row, epoch_us(moment) AS at FROM read_parquet('{folder}/spine.parquet')),
        e AS (SELECT *, epoch_us(event_timestamp) AS at, epoch_us(created) AS known
              FROM read_parquet('{folder}/events_0.parquet'))
        SELECT s.row, {", ".join(windows)} FROM s LEFT JOIN e
        ON s.entity = e.entity AND e.at < s.at AND e.known <= s.at AND e.at >= (s.at - {widest}) // {HOP_US} * {HOP_US}
        GROUP BY s.row ORDER BY s.row
        """
    ).df()


def by_asof(folder: Path) -> pd.DataFrame:
    """The engine's own ASOF join, blind to when anything was known."""
    joins = " ".join(
        f"ASOF LEFT JOIN read_parquet('{folder}/events_{i}.parquet') AS v{i}"
        f" ON s.entity = v{i}.entity AND s.moment > v{i}.event_timestamp"
        for i in range(len(VIEWS))
    )
    columns = ", ".join(f"v{i}.{n} AS {view}__{n}" for i, view in enumerate(VIEWS) for n in NUMBERS)
    return duckdb.sql(f"SELECT s.row, {columns} FROM read_parquet('{folder}/spine.parquet') AS s {joins}").df()


def main() -> None:
    """One request after the other."""
    folder = Path(sys.argv[1])
    store = feast_store(folder)
    spine = pd.read_parquet(folder / "spine.parquet").rename(columns={"moment": "event_timestamp"})
    ways = {
        "known": lambda: by_feast(store, spine, known=True),
        "happened": lambda: by_feast(store, spine, known=False),
        "windows": lambda: by_range_join(folder),
        "asof": lambda: by_asof(folder),
    }
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        frame = ways[request["way"]]()
        answer = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, "rows": len(frame)}
        if request.get("out"):
            frame.to_parquet(request["out"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
