"""Looks at every process of a home: the rooms' own words and the parts' answers."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from millrace.cli import places
from millrace.cli.output import mark, table, when

if TYPE_CHECKING:
    from rich.table import Table

PROBE_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Service:
    """One row of `millrace status`. Lag in records, rate in records/s, watermarks in microseconds of project time.

    A room has `grpc` and `http` (host:port); a part has `address`, as its clients want it: bootstrap servers or a URL.
    """

    name: str
    healthy: bool
    reason: str = ""
    pid: int = 0
    grpc: str = ""
    http: str = ""
    address: str = ""
    lag: int = 0
    unpublished: int = 0
    busy: int = 0
    handled: int = 0
    dead_letters: int = 0
    oldest_s: float = 0.0
    retries: int = 0
    delayed: int = 0
    rate: float = 0.0
    watermarks_us: dict[str, int] = field(default_factory=dict)
    definitions: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Health:
    """All rows: parts first, then rooms in the order of the flow."""

    services: tuple[Service, ...]

    @property
    def healthy(self) -> bool:
        """Whether every service is."""
        return all(service.healthy for service in self.services)


def look(home: Path, sample_s: float = 0.0) -> Health:
    """Asks all at once; twice, `sample_s` apart, when a rate is wanted."""
    names = (*places.PARTS, *places.processes(home))
    with ThreadPoolExecutor(max_workers=len(names)) as pool:
        first = list(pool.map(lambda name: _look_at(home, name), names))
        if sample_s <= 0:
            return Health(tuple(first))
        threading.Event().wait(sample_s)
        second = list(pool.map(lambda name: _look_at(home, name), names))
    return Health(tuple(_with_rate(before, after, sample_s) for before, after in zip(first, second, strict=True)))


def as_table(seen: Health) -> Table:
    """The table of `millrace status` and of the live view."""
    rows = [
        (
            service.name,
            mark(service.healthy),
            service.lag if service.grpc else "",
            f"{service.rate:,.0f}/s" if service.grpc else "",
            _watermark(service),
            service.address or service.http or service.grpc,
            service.reason,
        )
        for service in seen.services
    ]
    return table(("service", "health", "lag", "rate", "watermark", "address", "why"), rows)


def _watermark(service: Service) -> str:
    return ", ".join(
        f"{project} {when(time_us)}" for project, time_us in sorted(service.watermarks_us.items()) if time_us
    )


def _look_at(home: Path, name: str) -> Service:
    return _look_at_part(home, name) if name in places.PARTS else _look_at_room(home, name)


def _look_at_room(home: Path, name: str) -> Service:
    import grpc

    from millrace.cli.remote import explain, room_stub
    from millrace.wire.common.v1 import common_pb2

    place = places.room(home, name)
    if not place.grpc:
        return Service(name, False, "not running")
    try:
        with room_stub(place.grpc) as stub:
            said = stub.Describe(common_pb2.DescribeRequest(), timeout=PROBE_TIMEOUT_S)
    except grpc.RpcError as error:
        reason = str(explain(error, name, place.grpc)).partition(" (")[0]
        return Service(name, False, reason, pid=place.pid, grpc=place.grpc, http=place.http)
    return Service(
        name,
        said.ready,
        "; ".join(said.reasons),
        pid=said.pid,
        grpc=place.grpc,
        http=said.http_address or place.http,
        lag=said.lag_records + said.deferred_records,
        unpublished=said.unpublished_records,
        busy=said.busy_jobs,
        handled=said.handled_records,
        dead_letters=said.dead_letters,
        oldest_s=said.oldest_s,
        retries=said.retries,
        delayed=said.delayed_records,
        watermarks_us=dict(said.watermarks_us),
        definitions=dict(said.definitions),
    )


def _look_at_part(home: Path, name: str) -> Service:
    address, pid = places.part(home, name)
    if not address:
        return Service(name, False, "not running")
    reason = _ping_clickhouse(address) if name == "clickhouse" else _connect(address)
    return Service(name, not reason, reason, pid=pid, address=address)


def _ping_clickhouse(url: str) -> str:
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/ping", timeout=PROBE_TIMEOUT_S):
            return ""
    except (urllib.error.URLError, OSError) as error:
        return f"no answer: {getattr(error, 'reason', error)}"


def _connect(address: str) -> str:
    """Whether the first of a list of brokers, or the host of a URL, takes a connection."""
    first = urlparse(address if "://" in address else f"kafka://{address.split(',')[0]}")
    try:
        with socket.create_connection((first.hostname or "", first.port or 0), timeout=PROBE_TIMEOUT_S):
            return ""
    except OSError as error:
        return f"no connection: {error.strerror or error}"


def _with_rate(before: Service, after: Service, sample_s: float) -> Service:
    from dataclasses import replace

    return replace(after, rate=max(0, after.handled - before.handled) / sample_s)
