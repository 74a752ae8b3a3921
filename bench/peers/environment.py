"""The peers' own environment: made once from requirements.txt, asked for its versions, used to start their programs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
FOLDER = REPOSITORY / ".venv-peers"
READY = ".ready"
"""Written when nothing is absent: `make bench` tries again as long as something is."""
INSTALL_DEADLINE_S = 900
"""Feast alone brings some eighty packages; a slow line gets its chance, a hung one does not hang us for ever."""
ASK_DEADLINE_S = 60
PEERS = ("feast", "quixstreams", "faust-streaming", "confluent-kafka", "aiokafka", "duckdb")
"""Those that a figure is named after."""
_VERSIONS = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


class PeerEnvironment:
    """A virtual environment in `folder`. What is not in it is absent, with the reason."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder
        # Not resolved: the link's place is what makes it this environment's Python.
        self.python = folder.absolute() / "bin" / "python"
        self._reasons = folder / "absent.json"

    def versions(self) -> dict[str, str]:
        """Of each package that requirements.txt pins and that is installed."""
        return dict(_versions(self.python, tuple(_name(line) for line in requirements())))

    def absent(self, *names: str) -> dict[str, str]:
        """Of these packages, those that are not there, each with the reason."""
        known = self.versions()
        return {name: self._reason(name) for name in names if name not in known}

    def make(self, say: Callable[[str], None]) -> dict[str, str]:
        """Installs what is pinned, all at once or, where that fails, one by one. Returns what is absent and why."""
        uv = _uv()
        if not self.python.exists():
            say(f"making {self.folder.name}")
            _run([*uv, "venv", "--quiet", "--python", sys.executable, str(self.folder)])
        install = [*uv, "pip", "install", "--quiet", "--python", str(self.python)]
        say("installing the peers' pinned packages")
        failed: dict[str, str] = {}
        if _run([*install, "-r", str(REQUIREMENTS)]):
            for line in requirements():
                say(f"installing {line}")
                if reason := _run([*install, line]):
                    failed[_name(line)] = reason
        _versions.cache_clear()
        if self.folder.is_dir():
            self._reasons.write_text(json.dumps(failed))
        absent = self.absent(*PEERS)
        if not absent:
            (self.folder / READY).touch()
        return absent

    def _reason(self, name: str) -> str:
        if not self.python.exists():
            return "the peers' environment is not made: python -m bench.peers"
        try:
            return str(json.loads(self._reasons.read_text())[name])
        except (OSError, ValueError, KeyError):
            return "not installed: python -m bench.peers"


def requirements() -> list[str]:
    """The pinned lines."""
    lines = (line.partition("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines())
    return [line for line in lines if line]


def _name(requirement: str) -> str:
    return re.split(r"[\[=<>~! ]", requirement, maxsplit=1)[0]


@cache
def _versions(python: Path, names: Sequence[str]) -> dict[str, str]:
    if not python.exists():
        return {}
    answer = subprocess.run(
        [str(python), "-c", _VERSIONS, *names], capture_output=True, text=True, timeout=ASK_DEADLINE_S, check=False
    )
    return dict(json.loads(answer.stdout)) if answer.returncode == 0 else {}


def _uv() -> list[str]:
    """uv as scripts/setup finds or installs it."""
    own = REPOSITORY / ".venv-uv" / "bin" / "uv"
    return [shutil.which("uv") or str(own)]


def _run(command: Sequence[str]) -> str:
    """ "" when it went well, else the last line that it said."""
    try:
        answer = subprocess.run(
            list(command), capture_output=True, text=True, timeout=INSTALL_DEADLINE_S, check=False, cwd=REPOSITORY
        )
    except subprocess.TimeoutExpired:
        return f"not done after {INSTALL_DEADLINE_S} s"
    except OSError as error:
        return str(error)
    if answer.returncode == 0:
        return ""
    lines = [line.strip() for line in (answer.stderr or answer.stdout).splitlines() if line.strip()]
    return lines[-1][-300:] if lines else f"{command[0]} ended with {answer.returncode}"
