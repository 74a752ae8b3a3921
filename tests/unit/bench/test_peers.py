"""Peers' programs: asked by lines of JSON, ended with their block, named when they fail."""

import os
import sys
from pathlib import Path

import psutil
import pytest

from bench.benchmark import BenchError
from bench.peers.environment import PeerEnvironment
from bench.peers.program import started

ECHO = """
import json, os, sys
asked = json.loads(sys.argv[1])
print("a line that is no answer")
path = os.environ.get("PYTHONPATH", "")
print(json.dumps({"pid": os.getpid(), "path": path, "argument": asked["argument"]}), flush=True)
for line in sys.stdin:
    print(json.dumps({"twice": 2 * json.loads(line)["number"]}), flush=True)
"""


@pytest.fixture
def peers(tmp_path: Path) -> PeerEnvironment:
    environment = PeerEnvironment(tmp_path / "none")
    environment.python = Path(sys.executable)
    return environment


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "peer.py"
    path.write_text(text)
    return str(path)


def test_a_program_gets_its_arguments_and_answers_line_by_line(peers, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "somewhere-of-ours")
    with started(peers, script(tmp_path, ECHO), {"argument": 3}, tmp_path) as program:
        first = program.ask(20)
        assert (first["argument"], first["path"], first["pid"]) == (3, "", program.pid)
        assert program.ask(20, number=21) == {"twice": 42}
    assert not psutil.pid_exists(first["pid"])


def test_a_program_that_fails_is_reported_with_its_last_words(peers, tmp_path):
    failing = script(tmp_path, "import sys; sys.exit('no broker at that address')")
    with started(peers, failing, {}, tmp_path) as program, pytest.raises(BenchError, match="no broker at that address"):
        program.ask(20)


def test_a_program_that_does_not_answer_is_ended_at_its_deadline(peers, tmp_path):
    hanging = script(tmp_path, "import signal; signal.pause()")
    with started(peers, hanging, {}, tmp_path) as program:
        with pytest.raises(BenchError, match=r"deadline 0 s"):
            program.ask(0.3)
        assert program.pid != os.getpid()
    assert not psutil.pid_exists(program.pid)


def test_the_block_ends_a_program_that_is_still_at_work(peers, tmp_path):
    busy = script(tmp_path, 'print("{}", flush=True)\nimport sys\nsys.stdin.read()')
    with pytest.raises(RuntimeError), started(peers, busy, {}, tmp_path) as program:
        program.ask(20)
        raise RuntimeError
    assert not psutil.pid_exists(program.pid)
