"""Training sets beside Feast on DuckDB, on the same files, in turns: `python -m bench.training_sets`.

Ours is end to end through the room's gRPC door: the spine goes up, the set is worked out and kept under its digest, the
rows come back verified. Feast and DuckDB read the same Parquet files in one process. Answers are held against each
other, row by row. `--feast` names the interpreter of an environment with `feast[duckdb]`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import IO, Any

import numpy as np
import psutil
import pyarrow.parquet as pq
from millrace.client.features import Features
from rich.console import Console
from rich.table import Table

from bench.training_data import NUMBERS, VIEWS, Files, Sizes, write
from infra.embedded.clickhouse import prepare
from infra.embedded.program import Child

REPOSITORY = Path(__file__).resolve().parents[1]
PEERS = REPOSITORY / ".venv-peers" / "bin" / "python"
RESULTS = Path(__file__).with_name("training_sets.json")
REPETITIONS = 7
MEMORY_MIB = 2_048
WAYS = ("known", "happened", "windows")


@dataclass
class Runs:
    """Seconds of each run of one way: by the wall, and of processors in all its processes together."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    rows: int = 0


async def measured(folder: Path, feast: Path, sizes: Sizes, repetitions: int, console: Console) -> dict[str, Any]:
    """All runs of all ways, and what the first training set after a start took."""
    files = write(folder, sizes)
    with _room(folder, MEMORY_MIB) as (address, processes), _peer(feast, folder) as peer:
        ours = {way: Runs() for way in WAYS}
        theirs = {way: Runs() for way in (*WAYS, "asof")}
        first: dict[str, float] = {}
        for way in WAYS:  # not counted: what was read once is kept
            first[way] = (await _ours(address, processes, files, way, folder))[0]
            _theirs(peer, way, folder / f"theirs_{way}.parquet")
            _agree(folder, way)
        for turn in range(repetitions):
            console.print(f"turn {turn + 1} of {repetitions}")
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


def _note(runs: Runs, wall_s: float, cpu_s: float, rows: int) -> None:
    runs.wall_s.append(wall_s)
    runs.cpu_s.append(cpu_s)
    runs.rows = rows


def _plain(runs: dict[str, Runs]) -> dict[str, Any]:
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


def report(facts: dict[str, Any]) -> Table:
    """Rows per second, ours and theirs, and the ratio turn by turn."""
    table = Table(title=f"{facts['sizes']['spine']:,} rows, {facts['sizes']['events']:,} events a view")
    for name in ("job", "ours, rows/s", "peer, rows/s", "ours : peer", "ours : peer, CPU", "first set, s"):
        table.add_column(name, justify="right" if name != "job" else "left")
    names = {
        "known": "3 views, as known at: Feast on DuckDB",
        "happened": "3 views, as happened: Feast on DuckDB",
        "windows": "3 windows × 4 aggregates, as known: range join in DuckDB",
    }
    for way, name in names.items():
        ours, theirs = facts["ours"][way], facts["theirs"][way]
        table.add_row(
            name,
            _spread([ours["rows"] / s for s in ours["wall_s"]], ",.0f"),
            _spread([theirs["rows"] / s for s in theirs["wall_s"]], ",.0f"),
            _spread(ratios(facts, way, "wall_s"), ".2f"),
            _spread(ratios(facts, way, "cpu_s"), ".2f"),
            f"{facts['first_s'][way]:.2f}",
        )
    asof = facts["theirs"]["asof"]
    table.add_row("3 views, plain ASOF in DuckDB", "", _spread([asof["rows"] / s for s in asof["wall_s"]], ",.0f"))
    return table


def ratios(facts: dict[str, Any], way: str, clock: str) -> list[float]:
    """How many times as long the peer took, turn by turn."""
    return [t / o for o, t in zip(facts["ours"][way][clock], facts["theirs"][way][clock], strict=True)]


def _spread(values: list[float], form: str) -> str:
    return f"{median(values):{form}} ({min(values):{form}} – {max(values):{form}})"


def main() -> None:
    """Measures, prints, writes bench/training_sets.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--feast", type=Path, default=PEERS, help="Python with feast[duckdb]")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--spine", type=int, default=Sizes.spine)
    parser.add_argument("--events", type=int, default=Sizes.events)
    chosen = parser.parse_args()
    console = Console(width=170)
    if not chosen.feast.exists():
        raise SystemExit(f"{chosen.feast} is not there: --feast names a Python with feast[duckdb]")
    sizes = Sizes(spine=chosen.spine, events=chosen.events)
    with tempfile.TemporaryDirectory(prefix="millrace-training-") as folder:
        facts = asyncio.run(measured(Path(folder), chosen.feast, sizes, chosen.repetitions, console))
    facts["load"] = os.getloadavg()[0]
    RESULTS.write_text(json.dumps(facts, indent=2) + "\n")
    console.print(report(facts))


if __name__ == "__main__":
    main()
