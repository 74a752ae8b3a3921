"""The feature store's training sets behind their real door, on ClickHouse's engine, with history already in it.

`python -m bench.training_room FOLDER`: fills the history from the Parquet files there, says `{"grpc": …, "pids": …}` on
one line, and serves until its standard input ends. The log is a twin: what is measured begins at history.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from millrace.bus.memory import MemoryBus
from millrace.definitions.load import load_text
from millrace.runtime.definitions import Definition
from millrace.runtime.doors import grpc_errors
from millrace.stores.clickhouse import ClickHouse
from millrace.stores.objects import FolderObjects

from bench.training_data import PARTITIONS, PROJECTS, VIEWS, Files
from services.feature_store.adapters.history_clickhouse import ClickHouseHistory
from services.feature_store.adapters.spool_files import FileSpools
from services.feature_store.adapters.timeline_shelf import ProcessShelf
from services.feature_store.bootstrap import MIGRATIONS, FeatureStore, Neighbours
from services.feature_store.domain.values import Position
from services.feature_store.handlers.feeds import ProjectFeed
from services.feature_store.handlers.schemas import history_schema
from services.feature_store.settings import Settings

INSERT_ROWS = 100_000
FOREVER_US = 2**60


class _Nothing:
    """An online store and labels that nobody asks for here."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is no part of this measurement")


async def serve(folder: Path, clickhouse_url: str, memory_mib: int) -> None:
    """Until standard input ends."""
    clickhouse = ClickHouse(clickhouse_url, database="bench")
    await clickhouse.start(MIGRATIONS)
    history = ClickHouseHistory(clickhouse)
    shelf = ProcessShelf(2)
    nothing: Any = _Nothing()
    objects, spools = FolderObjects(folder / "objects"), FileSpools(folder / "spools")
    neighbours = Neighbours(
        MemoryBus(),
        nothing,
        history,
        nothing,
        objects,
        shelf,
        spools,
        keys=nothing,
        rates=nothing,
        models=nothing,
        erasing=nothing,
        snapshots=nothing,
        read_log=nothing,
        marks=nothing,
        shadows=nothing,
    )
    store = FeatureStore(Settings(training_memory_mib=memory_mib), neighbours)
    filled: set[str] = set()
    for name, text in PROJECTS.items():
        await store.feeds.learn(name, Definition(1, f"sha256:{name}", load_text(text)))
        await _fill(store, store.feeds.project(name), history, folder, filled)
    server = grpc.aio.server(interceptors=(grpc_errors(),))
    store.register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"grpc": f"127.0.0.1:{port}"}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(1)
    await shelf.close()
    await clickhouse.close()


async def _fill(
    store: FeatureStore, feed: ProjectFeed, history: ClickHouseHistory, folder: Path, filled: set[str]
) -> None:
    for place, source in enumerate(VIEWS):
        if source not in feed.sources:
            continue
        own = feed.sources[source]
        await history.ensure(own.table)
        if own.table.name not in filled:
            filled.add(own.table.name)
            rows = history_rows(pq.read_table(Files(folder).events(place)), own.table.fields)
            for begin in range(0, rows.num_rows, INSERT_ROWS):
                await history.insert(own.table, rows.slice(begin, INSERT_ROWS))
        for partition in range(own.partitions):
            store.writer.reached(own.table, partition, Position(0, FOREVER_US))


def history_rows(events: pa.Table, fields: Any) -> pa.Table:
    """Events of the data files as history keeps them."""
    size = events.num_rows
    number = pa.array(range(size), pa.int64())
    columns = {
        "_event_us": events["event_timestamp"].cast(pa.int64()),
        "_visible_us": events["created"].cast(pa.int64()),
        "_partition": pc.subtract(number, pc.multiply(pc.divide(number, PARTITIONS), PARTITIONS)),
        "_offset": pc.divide(number, PARTITIONS),
        "_event_id": pc.cast(number, pa.string()),
        "_via": pa.array([""] * size),
        **{name: events[name] for name, _ in fields if name in events.column_names},
        "happened_at": events["event_timestamp"].cast(pa.int64()),
    }
    schema = history_schema(fields)
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
