"""`python -m bench` as a person runs it, small: real rooms on a real stack, the peers not installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench.report import MARKS

pytestmark = [pytest.mark.stack, pytest.mark.timeout(420)]
ROOT = Path(__file__).resolve().parents[3]
SIZES = {
    "stream": ("stream.events=3000", "stream.repetitions=1"),
    "online": ("online.entities=150", "online.events_each=2", "online.requests=10", "online.repetitions=1"),
    "freshness": ("freshness.events_per_s=100", "freshness.seconds=2", "freshness.repetitions=1"),
    "backfill": ("backfill.events=20000",),
}


def bench(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One run with results and temporary files of its own, and no peers."""
    places = ["--results", str(tmp_path / "results.json"), "--peers", str(tmp_path / "no-peers")]
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments, *places],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'libs'}", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=400,
    )


@pytest.mark.parametrize("name", SIZES)
def test_a_benchmark_measures_and_leaves_nothing_behind(name, tmp_path):
    ran = bench(tmp_path, "--only", name, *(part for size in SIZES[name] for part in ("--set", size)))
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    entry = json.loads((tmp_path / "results.json").read_text())["benchmarks"][name]
    (section,) = entry["sections"]
    measured = [value for row in section["rows"] for runs in row["runs"].values() for value in runs]
    assert measured
    assert all(value >= 0 for value in measured)
    assert {target["verdict"] for target in section["targets"]} <= MARKS.keys()
    assert entry["machine"]["cores"] >= 1
    asked = {option: int(value) for option, _, value in (size.split(".")[1].partition("=") for size in SIZES[name])}
    assert asked.items() <= entry["options"].items()
    if name in ("online", "stream"):
        assert section["absent"]
        assert all("python -m bench.peers" in reason for reason in section["absent"].values())
        assert "absent: " in ran.stdout
    assert not [
        p.info["pid"] for p in psutil.process_iter(["pid", "cmdline"]) if str(tmp_path) in str(p.info["cmdline"])
    ]
    assert not list(tmp_path.glob("millrace-bench-*"))
