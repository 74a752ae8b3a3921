"""Runs the measurements, prints them, and writes bench/results.json. `python -m bench --help`.

A module of measurements plugs in by its name in MODULES: see bench/benchmark.py.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from bench import backfill, freshness, gate, ingestion, kernels, machine, online, stream, training_sets
from bench.benchmark import Bench, BenchError, Benchmark, Section
from bench.peers.environment import FOLDER, PeerEnvironment
from bench.report import RESULTS, as_facts, keep, show

MODULES = (kernels, gate, ingestion, online, stream, freshness, training_sets, backfill)
PIPE_WIDTH = 150  # a pipe or a log has none of its own


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every chosen benchmark ran, 1 when one failed, 2 when a name was not right."""
    known = {benchmark.name: benchmark for module in MODULES for benchmark in module.jobs()}
    asked = _arguments(known).parse_args(arguments)
    screen = Console()
    console = screen if screen.is_terminal else Console(width=PIPE_WIDTH)
    if asked.list:
        for benchmark in known.values():
            options = ", ".join(f"{name}={value}" for name, value in benchmark.options.items())
            console.print(f"{benchmark.name:12} {benchmark.what}" + (f" ({options})" if options else ""), markup=False)
        return 0
    try:
        chosen = choose(known, asked.only, asked.set)
    except BenchError as error:
        console.print(f"error: {error}", markup=False)
        return 2
    peers = PeerEnvironment(Path(asked.peers))
    results = Path(asked.results)
    failed = [b.name for b, options in chosen if not _measured(console, b, options, peers, results)]
    console.print(f"each cell: median (lowest – highest); every run is in {results.parent.name}/{results.name}")
    if failed:
        console.print(f"error: failed: {', '.join(failed)}", markup=False)
    return 1 if failed else 0


def choose(
    known: Mapping[str, Benchmark], only: str, settings: Sequence[str]
) -> list[tuple[Benchmark, dict[str, int]]]:
    """The benchmarks named in `only` (comma-separated, "" for all) with their options. Raises BenchError."""
    names = [name.strip() for name in only.split(",") if name.strip()] or list(known)
    if strange := [name for name in names if name not in known]:
        raise BenchError(f"no benchmark is called {', '.join(strange)}; there are {', '.join(known)}")
    options = {name: dict(known[name].options) for name in names}
    for setting in settings:
        path, _, value = setting.partition("=")
        name, _, option = path.partition(".")
        if option not in options.get(name, {}):
            there = [f"{n}.{o}" for n, own in options.items() for o in own]
            raise BenchError(f"--set {setting}: no option {path}; there are {', '.join(there) or 'none'}")
        if not value.isdigit() or int(value) < 1:
            raise BenchError(f"--set {setting}: the value must be a whole number of at least 1")
        options[name][option] = int(value)
    return [(known[name], options[name]) for name in names]


def _arguments(known: Mapping[str, Benchmark]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What we measure, with peers beside us.")
    parser.add_argument("--only", default="", help=f"comma-separated: {', '.join(known)}; all by default")
    parser.add_argument("--set", action="append", default=[], metavar="NAME.OPTION=VALUE", help="see --list")
    parser.add_argument("--peers", default=str(FOLDER), help="the peers' environment (python -m bench.peers makes it)")
    parser.add_argument("--results", default=str(RESULTS), help="the file that keeps every run")
    parser.add_argument("--list", action="store_true", help="the benchmarks and their options")
    return parser


def _measured(
    console: Console, benchmark: Benchmark, options: Mapping[str, int], peers: PeerEnvironment, results: Path
) -> bool:
    """Runs one, prints and keeps what it found; False when it failed."""
    before, started = machine.load(), time.perf_counter()
    try:
        with _showing(console, benchmark.name) as say, tempfile.TemporaryDirectory(prefix="millrace-bench-") as work:
            sections = list(benchmark.run(Bench(say, Path(work), peers, options)))
    except Exception as error:
        console.print(f"{benchmark.name} failed: {error}", style="red", markup=False)
        traceback.print_exc()
        return False
    _report(console, benchmark.name, sections, machine.busy(before))
    entry = {
        "measured_at": machine.now(),
        "took_s": round(time.perf_counter() - started, 1),
        "load": {"before": before, "after": machine.load()},
        "options": dict(options),
        "machine": machine.facts(),
        "peers": peers.versions(),
        "sections": as_facts(sections),
    }
    keep(benchmark.name, entry, results)
    return True


def _report(console: Console, name: str, sections: Sequence[Section], warning: str) -> None:
    for section in sections:
        show(console, section)
    if warning:
        console.print(f"  {name}: {warning}", style="yellow", markup=False)


@contextmanager
def _showing(console: Console, name: str) -> Iterator[Callable[[str], None]]:
    """A line that changes on a terminal, a line each elsewhere."""
    if not console.is_terminal:
        yield lambda text: console.print(f"{name}: {text}", markup=False, highlight=False)
        return
    with console.status(name) as status:
        yield lambda text: status.update(f"{name}: {text}")


def _terminated(number: int, frame: object) -> None:
    """A SIGTERM ends as Ctrl-C does: what was started is stopped."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(main())
