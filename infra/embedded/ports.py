"""Loopback ports: choosing free ones and saying who is in the way of a wished one."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from infra.embedded.errors import StackError

LOOPBACK = "127.0.0.1"


@contextmanager
def _bound(port: int) -> Iterator[int]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        # Servers bind with SO_REUSEADDR too; without it a port in TIME_WAIT would look taken.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        yield listener.getsockname()[1]


def free_ports(count: int) -> list[int]:
    """`count` different free loopback ports. They are free now: whoever binds one must cope with losing a race."""
    with ExitStack() as held:
        return [held.enter_context(_bound(0)) for _ in range(count)]


def is_free(port: int) -> bool:
    """Whether `port` can be bound on the loopback address now."""
    try:
        with _bound(port):
            return True
    except OSError:
        return False


def require_free(port: int, wanted_by: str, setting: str) -> int:
    """`port` itself when it can be bound; else StackError that names the setting to change."""
    if not is_free(port):
        raise StackError(f"port {port} is taken", f"{wanted_by} is to use it", f"stop its user or change {setting}")
    return port
