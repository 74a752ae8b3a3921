"""Loopback ports: choosing free ones and saying who is in the way of a wished one."""

import itertools
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from infra.embedded.errors import StackError

LOOPBACK = "127.0.0.1"
OFFERED = range(20_000, 32_768)
"""Below the range from which Linux (32,768-60,999), macOS and Windows (from 49,152) take the near ends of outgoing
connections: a port out of that range can be lost to any connection between being chosen and being bound."""

_candidates = itertools.cycle(random.SystemRandom().sample(OFFERED, len(OFFERED)))
"""Each process goes through the range in an order of its own and offers no port twice until it has offered all."""


@contextmanager
def _bound(port: int) -> Iterator[int]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        # Servers bind with SO_REUSEADDR too; without it a port in TIME_WAIT would look taken.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        yield listener.getsockname()[1]


def free_ports(count: int) -> list[int]:
    """`count` different free loopback ports. They are free now: whoever binds one must cope with losing a race.

    Raises StackError when fewer are free.
    """
    free = filter(is_free, itertools.islice(_candidates, len(OFFERED)))
    ports = list(itertools.islice(free, count))
    if len(ports) < count:
        raise StackError(
            f"{count} free ports were asked for, {len(ports)} of {OFFERED.start}-{OFFERED.stop - 1} are free",
            fix="stop what holds them or set the ports",
        )
    return ports


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
