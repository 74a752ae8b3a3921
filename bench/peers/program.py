"""Runs a peer's program in the peers' environment: arguments in, one line of JSON per answer."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from bench.benchmark import BenchError
from bench.peers.environment import PeerEnvironment

FOLDER = Path(__file__).parent
END_GRACE_S = 10.0
LAST_WORDS = 400


class Program:
    """A running program. Each `ask` writes a line of JSON and reads one; what it prints besides is not looked at."""

    def __init__(self, name: str, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self._name, self._process, self._errors = name, process, errors

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(self, deadline_s: float, **question: object) -> Mapping[str, Any]:
        """The answer to a question. Raises BenchError when the program ended or is too slow."""
        if question and self._process.stdin is not None:
            try:
                self._process.stdin.write(json.dumps(question) + "\n")
                self._process.stdin.flush()
            except OSError as error:
                raise BenchError(f"{self._name}: {error}: {self._last_words()}") from error
        return self._answer(deadline_s)

    def _answer(self, deadline_s: float) -> Mapping[str, Any]:
        assert self._process.stdout is not None
        timer = threading.Timer(deadline_s, self._process.kill)
        timer.start()
        try:
            for line in self._process.stdout:
                if line.startswith("{"):
                    return dict(json.loads(line))
        finally:
            timer.cancel()
        code = self._process.wait()
        raise BenchError(f"{self._name} ended with {code} (deadline {deadline_s:.0f} s): {self._last_words()}")

    def _last_words(self) -> str:
        self._errors.seek(0)
        return " | ".join(line.strip() for line in self._errors.read().splitlines() if line.strip())[-LAST_WORDS:]


@contextmanager
def started(peers: PeerEnvironment, script: str, arguments: Mapping[str, object], work: Path) -> Iterator[Program]:
    """`script` of this folder with its arguments as one JSON object, in its own folder; it ends with the block."""
    folder = work / Path(script).stem
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "stderr.log").open("w+") as errors:
        process = subprocess.Popen(
            [str(peers.python), str(FOLDER / script), json.dumps(arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=folder,
            env=_environment(folder), start_new_session=True,
        )  # fmt: skip
        try:
            yield Program(script, process, errors)
        finally:
            _end(process)


def _environment(folder: Path) -> dict[str, str]:
    """Nothing of ours: neither our PYTHONPATH nor our settings."""
    import os

    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MILLRACE", "VIRTUAL"))}
    return kept | {"HOME": str(folder), "FEAST_USAGE": "False", "PYTHONWARNINGS": "ignore"}


def _end(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        try:
            process.stdin.close()
        except OSError:
            process.kill()
    try:
        process.wait(END_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
