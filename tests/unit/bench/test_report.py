"""The frame of `make bench`: which benchmarks run, what a bar's verdict is, what is kept, who is absent."""

import json
import stat

import pytest
from rich.console import Console

from bench.__main__ import MODULES, choose, main
from bench.benchmark import BenchError, Benchmark, Column, Row, Section, Target, ratios
from bench.peers.environment import PEERS, PeerEnvironment, requirements
from bench.report import as_facts, keep, show

KNOWN = {name: Benchmark(name, name, lambda bench: [], {"events": 10}) for name in ("slow", "fast")}


def test_all_run_unless_some_are_named():
    assert [b.name for b, _ in choose(KNOWN, "", [])] == ["slow", "fast"]
    assert [b.name for b, _ in choose(KNOWN, "fast, slow", [])] == ["fast", "slow"]


def test_a_setting_changes_one_option_of_one_run():
    (chosen,) = choose(KNOWN, "fast", ["fast.events=3"])
    assert chosen[1] == {"events": 3}
    assert KNOWN["fast"].options == {"events": 10}


@pytest.mark.parametrize(
    ("only", "setting", "says"),
    [
        ("quick", [], "no benchmark is called quick; there are slow, fast"),
        ("fast", ["slow.events=3"], "there are fast.events"),
        ("fast", ["fast.rows=3"], "no option fast.rows"),
        ("fast", ["fast.events=many"], "a whole number"),
        ("fast", ["fast.events=0"], "at least 1"),
        ("fast", ["events"], "no option events"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_ones(only, setting, says):
    with pytest.raises(BenchError, match=says):
        choose(KNOWN, only, setting)


def test_a_wrong_name_ends_before_anything_runs(capsys):
    assert main(["--only", "no-such"]) == 2
    assert "there are kernels" in capsys.readouterr().out


def test_the_list_names_every_benchmark_of_every_module(capsys):
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out
    names = [benchmark.name for module in MODULES for benchmark in module.jobs()]
    assert len(names) == len(set(names))
    assert all(name in listed for name in names)


@pytest.mark.parametrize(
    ("target", "verdict"),
    [
        (Target("p99", (1.0, 2.0, 2.0), at_most=2), "reached"),
        (Target("p99", (1.0, 1.5, 9.0), at_most=2), "by the median"),
        (Target("p99", (1.0, 3.0, 9.0), at_most=2), "not reached"),
        (Target("rate", (9.0, 5.0), at_least=5), "reached"),
        (Target("rate", (4.0, 4.9), at_least=5), "not reached"),
        (Target("rate", (), at_least=5), "not measured"),
        (Target("rate", (4.0, 4.9), at_least=5, parts=(4.5, 4.9)), "not by the parts alone"),
        (Target("rate", (4.0, 4.9), at_least=5, parts=(4.5, 4.2, 5.1)), "not reached"),
        (Target("p99", (1.0, 1.5, 9.0), at_most=2, parts=(3.0,)), "by the median"),
        (Target("rate", (2.6, 4.0, 1.0), at_least=5, pace=0.5), "at the peers' pace"),
        (Target("rate", (2.4, 4.0, 1.0), at_least=5, pace=0.5), "not reached"),
        (Target("rate", (6.0, 7.0, 1.0), at_least=5, pace=0.5), "by the median"),
        (Target("p99", (3.0, 3.9, 9.0), at_most=2, pace=0.5), "at the peers' pace"),
    ],
)
def test_a_bar_is_reached_by_every_run_or_by_the_median_or_not(target, verdict):
    assert target.verdict() == verdict


def test_a_target_names_its_one_bar():
    with pytest.raises(BenchError, match="at_most or at_least"):
        Target("p99", (1.0,))
    assert Target("rate", (), at_least=50_000).bound == "≥ 50,000"


def test_ratios_are_taken_run_by_run():
    assert ratios((2.0, 9.0, 1.0), (1.0, 3.0)) == (2.0, 3.0)


def section() -> Section:
    return Section(
        "Reading",
        (Column("rows/s"), Column("p99 ms", ".2f")),
        (Row("ours", {"rows/s": (10.0, 30.0, 20.0), "p99 ms": (1.0,)}), Row("theirs", {"rows/s": (5.0, 6.0, 7.0)})),
        targets=(Target("rows/s", (10.0, 30.0, 20.0), at_least=15),),
        absent={"theirs-too": "no wheel for this machine"},
    )


def test_a_table_has_medians_with_their_spread_and_names_who_is_absent():
    console = Console(width=150, record=True, quiet=False)
    show(console, section())
    text = console.export_text()
    assert "20" in text
    assert "(10 – 30)" in text
    assert "bar ≥ 15: by the median" in text
    assert "absent: theirs-too (no wheel for this machine)" in text


def test_what_one_run_measures_leaves_the_rest_as_it_was(tmp_path):
    file = tmp_path / "results.json"
    keep("slow", {"sections": as_facts([section()])}, file)
    keep("fast", {"sections": []}, file)
    keep("slow", {"sections": as_facts([section()]), "again": True}, file)
    kept = json.loads(file.read_text())["benchmarks"]
    assert set(kept) == {"fast", "slow"}
    assert kept["slow"]["again"] is True
    assert kept["slow"]["sections"][0]["rows"][0]["runs"]["rows/s"] == [10.0, 30.0, 20.0]


def test_every_peer_of_an_environment_that_is_not_there_is_absent_with_a_reason(tmp_path):
    environment = PeerEnvironment(tmp_path / "none")
    assert environment.versions() == {}
    assert set(environment.absent(*PEERS)) == set(PEERS)
    assert "python -m bench.peers" in environment.absent("feast")["feast"]


def test_what_could_not_be_installed_is_absent_by_its_own_reason(tmp_path):
    folder = tmp_path / "peers"
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.write_text('#!/bin/sh\necho \'{"feast": "1.0"}\'\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    (folder / "absent.json").write_text(json.dumps({"quixstreams": "no wheel"}))
    assert PeerEnvironment(folder).absent("feast", "quixstreams") == {"quixstreams": "no wheel"}


def test_the_peers_are_pinned_and_no_address_is_named():
    lines = requirements()
    assert all("==" in line for line in lines)
    assert not [line for line in lines if line.startswith("-")]
    names = {line.partition("=")[0].partition("[")[0] for line in lines}
    assert set(PEERS) <= names
