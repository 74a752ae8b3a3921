"""Training sets beside Feast on DuckDB, on the same files, in turns.

Ours is end to end through the room's gRPC door: the spine goes up, the set is worked out and kept under its digest, the
rows come back verified. Feast and DuckDB read the same Parquet files in one process. Answers are held against each
other, row by row.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil
import pyarrow.parquet as pq
from millrace.client.features import Features

from bench.benchmark import Bench, Benchmark, Column, Row, Runs, Section, Target
from bench.training_data import NUMBERS, VIEWS, Files, Sizes, write
from infra.embedded.clickhouse import prepare
from infra.embedded.program import Child

REPOSITORY = Path(__file__).resolve().parents[1]
REPETITIONS = 7
MEMORY_MIB = 2_048
WAYS = ("known", "happened", "windows")


@dataclass
class Timed:
    """Seconds of each run of one way: by the wall, and of processors in all its processes together."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    rows: int = 0


async def measured(
    folder: Path, feast: Path, sizes: Sizes, repetitions: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """All runs of all ways, and what the first training set after a start took."""
    files = write(folder, sizes)
    with _room(folder, MEMORY_MIB) as (address, processes), _peer(feast, folder) as peer:
        ours = {way: Timed() for way in WAYS}
        theirs = {way: Timed() for way in (*WAYS, "asof")}
        first: dict[str, float] = {}
        for way in WAYS:  # not counted: what was read once is kept
            first[way] = (await _ours(address, processes, files, way, folder))[0]
            _theirs(peer, way, folder / f"theirs_{way}.parquet")
            _agree(folder, way)
        for turn in range(repetitions):
            say(f"turn {turn + 1} of {repetitions}")
            for way in WAYS:
                for who in ("ours", "theirs")[:: 1 if turn % 2 else -1]:
                    if who == "ours":
                        wall_s, cpu_s, rows = await _ours(address, processes, files, way)
                        _note(ours[way], wall_s, cpu_s, rows)
                    else:
                        answer = _theirs(peer, way)
                        _note(theirs[way], answer["wall_s"], answer["cpu_s"], answer["rows"])
            answer = _theirs(peer, "asof")
            _note(theirs["asof"], answer["wall_s"], answer["cpu_s"], answer["rows"])
    return {"sizes": vars(sizes), "first_s": first, "ours": _plain(ours), "theirs": _plain(theirs)}


def _note(runs: Timed, wall_s: float, cpu_s: float, rows: int) -> None:
    runs.wall_s.append(wall_s)
    runs.cpu_s.append(cpu_s)
    runs.rows = rows


def _plain(runs: dict[str, Timed]) -> dict[str, Any]:
    return {way: vars(one) for way, one in runs.items()}


async def _ours(
    address: str, processes: list[psutil.Process], files: Files, way: str, keep: Path | None = None
) -> tuple[float, float, int]:
    """(seconds by the wall, of processors, rows) from the spine's file to a table in memory."""
    project = "windows" if way == "windows" else "latest"
    async with Features(address, project) as features:
        before, started = _cpu_s(processes), time.perf_counter()
        found = await features.training_set(spine=files.spine, as_happened=way == "happened")
        table = await found.to_arrow()
        wall_s = time.perf_counter() - started
        cpu_s = _cpu_s(processes) - before
    if keep is not None:
        pq.write_table(table, keep / f"ours_{way}.parquet")
    return wall_s, cpu_s, table.num_rows


def _cpu_s(processes: list[psutil.Process]) -> float:
    """Of this process, the room and the engine, with their children."""
    total = time.process_time()
    for process in processes:
        for one in [process, *process.children(recursive=True)]:
            times = one.cpu_times()
            total += times.user + times.system
    return total


@contextmanager
def _room(folder: Path, memory_mib: int) -> Iterator[tuple[str, list[psutil.Process]]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    engine = Child(prepare(folder / "clickhouse", port), folder / "clickhouse.log")
    try:
        engine.wait_ready(threading.Event(), lambda reason: None)
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "bench.training_room", str(folder), url, str(memory_mib)]
        with _running(command, cwd=REPOSITORY) as room:
            said = json.loads(_line(room.stdout))
            yield said["grpc"], [psutil.Process(room.pid), psutil.Process(engine.pid)]
    finally:
        engine.stop()


@contextmanager
def _peer(feast: Path, folder: Path) -> Iterator[subprocess.Popen[str]]:
    with _running([str(feast), str(Path(__file__).with_name("training_feast.py")), str(folder)], cwd=folder) as peer:
        _line(peer.stdout)
        yield peer


@contextmanager
def _running(command: list[str], cwd: Path) -> Iterator[subprocess.Popen[str]]:
    # The peer has an environment of its own: nothing of ours is put before it.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ours = {"PYTHONPATH": os.pathsep.join((str(REPOSITORY / "libs"), str(REPOSITORY)))} if cwd == REPOSITORY else {}
    environment = {**kept, **ours, "FEAST_USAGE": "False"}
    with subprocess.Popen(
        command, cwd=cwd, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _theirs(peer: subprocess.Popen[str], way: str, out: Path | None = None) -> dict[str, Any]:
    assert peer.stdin is not None
    peer.stdin.write(json.dumps({"way": way, "out": str(out) if out else ""}) + "\n")
    peer.stdin.flush()
    answer: dict[str, Any] = json.loads(_line(peer.stdout))
    return answer


def _line(stream: IO[str] | None) -> str:
    """The next line that is JSON; libraries print others."""
    assert stream is not None
    for line in stream:
        if line.startswith("{"):
            return line
    raise RuntimeError("a process of the measurement ended; its reason is above")


def _agree(folder: Path, way: str) -> None:
    """Raises when the two do not say the same."""
    ours = pq.read_table(folder / f"ours_{way}.parquet").to_pandas().set_index("row").sort_index()
    theirs = pq.read_table(folder / f"theirs_{way}.parquet").to_pandas().set_index("row").sort_index()
    if len(ours) != len(theirs):
        raise RuntimeError(f"{way}: {len(ours)} rows of ours, {len(theirs)} of theirs")
    if way == "windows":
        pairs = {f"windows.{name}": name for name in theirs.columns}
    else:
        pairs = {f"{view}.{number}": f"{view}__{number}" for view in VIEWS for number in NUMBERS}
    for mine, other in pairs.items():
        np.testing.assert_allclose(
            ours[mine].to_numpy(float), theirs[other].to_numpy(float), rtol=1e-9, atol=1e-9, err_msg=f"{way}: {mine}"
        )


def _section(facts: dict[str, Any]) -> Section:
    """Rows per second and processor seconds, ours and theirs, and the ratio turn by turn."""
    names = {
        "known": "3 views, as known at: Feast on DuckDB",
        "happened": "3 views, as happened: Feast on DuckDB",
        "windows": "3 windows × 4 aggregates, as known: range join in DuckDB",
    }
    rows = []
    for way, name in names.items():
        ours, theirs = facts["ours"][way], facts["theirs"][way]
        runs = {
            "ours, rows/s": tuple(ours["rows"] / s for s in ours["wall_s"]),
            "peer, rows/s": tuple(theirs["rows"] / s for s in theirs["wall_s"]),
            "ours : peer": ratios(facts, way, "wall_s"),
            "ours : peer, CPU": ratios(facts, way, "cpu_s"),
        }
        rows.append(Row(name, runs, note=f"the first set after a start: {facts['first_s'][way]:.1f} s"))
    asof = facts["theirs"]["asof"]
    plain: Runs = tuple(asof["rows"] / s for s in asof["wall_s"])
    rows.append(Row("3 views, plain ASOF in DuckDB", {"peer, rows/s": plain}))
    forms = {"ours, rows/s": ",.0f", "peer, rows/s": ",.0f", "ours : peer": ",.2f", "ours : peer, CPU": ",.2f"}
    return Section(
        f"Training sets: {facts['sizes']['spine']:,} rows, {facts['sizes']['events']:,} events a view",
        tuple(Column(name, form) for name, form in forms.items()),
        tuple(rows),
        targets=(Target("Feast on DuckDB, as known at", ratios(facts, "known", "wall_s"), at_least=3.5),),
        notes=("warm: the room holds its timelines, as Feast holds its files in the page cache",),
    )


def ratios(facts: dict[str, Any], way: str, clock: str) -> Runs:
    """How many times as long the peer took, turn by turn."""
    return tuple(t / o for o, t in zip(facts["ours"][way][clock], facts["theirs"][way][clock], strict=True))


def jobs() -> list[Benchmark]:
    """As `bench.benchmark` says."""
    options = {
        "repetitions": REPETITIONS, "spine": Sizes.spine, "events": Sizes.events, "entities": Sizes.entities
    }  # fmt: skip
    return [Benchmark("training", "point-in-time training sets, beside Feast on DuckDB", run, options)]


def run(bench: Bench) -> list[Section]:
    """Every way, ours and the peer's in turns, on the same files."""
    if absent := bench.peers.absent("feast", "duckdb"):
        return [Section("Training sets", (), (), absent=absent)]
    sizes = Sizes(bench.option("spine"), bench.option("events"), bench.option("entities"))
    return [
        _section(asyncio.run(measured(bench.work, bench.peers.python, sizes, bench.option("repetitions"), bench.say)))
    ]
