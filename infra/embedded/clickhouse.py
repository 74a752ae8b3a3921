"""ClickHouse's engine (chDB) behind ClickHouse's own HTTP interface, as a child process."""

import sys
import urllib.error
import urllib.request
from pathlib import Path

from infra.embedded.ports import LOOPBACK
from infra.embedded.program import Program

REPOSITORY = Path(__file__).parents[2]


def prepare(home: Path, port: int) -> Program:
    """`home` is the engine's own folder."""
    home.mkdir(parents=True, exist_ok=True)
    return Program(
        name="clickhouse",
        command=(sys.executable, "-m", "infra.embedded.chdb", "--path", str(home / "data"), "--port", str(port)),
        probe=lambda: probe(f"http://{LOOPBACK}:{port}"),
        environment={"PYTHONPATH": str(REPOSITORY)},
        directory=REPOSITORY,
        start_deadline_s=60.0,
        stop_grace_s=30.0,
    )


def probe(url: str) -> str:
    """ "" when `url`/ping answers as ClickHouse does."""
    try:
        with urllib.request.urlopen(f"{url}/ping", timeout=2) as answer:
            return "" if answer.read() == b"Ok.\n" else f"{url}/ping is not ClickHouse"
    except (urllib.error.URLError, OSError) as error:
        return f"no answer from {url} yet ({getattr(error, 'reason', error)})"
