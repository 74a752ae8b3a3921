"""What README.md tells a stranger to type: the walk's commands and the snippets, run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HOME = ".millrace"  # where the reader's platform lives; the tests' lives elsewhere


def walk() -> tuple[str, str]:
    """The walk's commands but for the last, and the last, which stops the platform."""
    (block,) = re.findall(r"```sh\n(.*?)```", README, re.S)
    *commands, last = block.strip().splitlines()
    return "\n".join(commands), last


def snippets() -> list[str]:
    """The Python blocks, in order."""
    return re.findall(r"```python\n(.*?)```", README, re.S)


def environment(home: Path) -> dict[str, str]:
    """What a shell has in which the walk was begun: `millrace` on the path, and this platform."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "MILLRACE_HOME": str(home), "PYTHONUNBUFFERED": "1"}


def at_home(text: str, home: Path) -> str:
    """The text about this platform."""
    return text.replace(HOME, str(home))


def shell(commands: str, home: Path) -> str:
    """Runs commands as the reader would; what they print. AssertionError at the first that fails."""
    script = f"set -euo pipefail\n{at_home(commands, home)}"
    ran = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environment(home), capture_output=True, text=True, timeout=700
    )
    assert ran.returncode == 0, f"{commands}\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def console(snippet: str, home: Path, log: Path) -> subprocess.Popen[bytes]:
    """The snippet in `python -m asyncio`, as the README says; what it prints goes to `log`."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "asyncio"], cwd=ROOT, env=environment(home),
            stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    assert child.stdin is not None
    with child.stdin as typed:
        typed.write(at_home(snippet, home).encode() + b"\n")  # a blank line ends the last block
    return child
