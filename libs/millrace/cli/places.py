"""Where the rooms and parts of a home are: its run files, which the environment may replace."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace.cli.errors import CliError

ROOMS = ("ingestion", "labeling", "feature_store", "trainer", "registry", "inference", "monitor")
PARTS = ("kafka", "valkey", "clickhouse")
PART_SETTINGS = {
    "kafka": "MILLRACE_KAFKA_BOOTSTRAP",
    "valkey": "MILLRACE_REDIS_URL",
    "clickhouse": "MILLRACE_CLICKHOUSE_URL",
}


@dataclass(frozen=True)
class Place:
    """One process: pid 0 means that it is not ours or not known."""

    name: str
    pid: int = 0
    grpc: str = ""
    http: str = ""


def room(home: Path, name: str) -> Place:
    """A room; its addresses are empty when it does not run and no MILLRACE_<ROOM>_ADDRESS is set."""
    from millrace.client.addresses import Addresses

    known = Addresses.discover(home).rooms.get(name)
    return Place(
        name,
        pid=known.pid if known else 0,
        grpc=os.environ.get(f"MILLRACE_{name.upper()}_ADDRESS") or (known.grpc if known else ""),
        http=os.environ.get(f"MILLRACE_{name.upper()}_HTTP") or (known.http if known else ""),
    )


def processes(home: Path) -> list[str]:
    """The rooms, and after each the further processes of it that serve here: `<room>-2` and so on."""
    from millrace.client.addresses import Addresses

    more = [name for name in Addresses.discover(home).rooms if name.rpartition("-")[0] in ROOMS]
    return [name for room in ROOMS for name in (room, *(one for one in more if one.rpartition("-")[0] == room))]


def part(home: Path, name: str) -> tuple[str, int]:
    """(address, pid) of Kafka, Valkey or ClickHouse; ("", 0) when it is nowhere."""
    row = _read(home / "run" / f"{name}.json")
    replaced = os.environ.get(PART_SETTINGS[name], "")
    return (replaced, 0) if replaced else (str(row.get("address", "")), int(row.get("pid", 0)))


def require_room(home: Path, name: str) -> Place:
    """As `room`, but CliError when its address is not known."""
    place = room(home, name)
    if not place.grpc:
        raise CliError(f"{name} does not run in {home} (start it with `millrace up --home {home}`, or give --home)")
    return place


def require_kafka(home: Path) -> str:
    """Bootstrap servers; CliError when there are none."""
    address, _ = part(home, "kafka")
    if not address:
        raise CliError(f"no Kafka runs in {home} (start it with `millrace up`, or set MILLRACE_KAFKA_BOOTSTRAP)")
    return address


def kafka_client(home: Path) -> dict[str, Any]:
    """What every Kafka client of a command is opened with. CliError: no Kafka, or security settings that are wrong."""
    from millrace.bus.security import client_security

    return {"bootstrap_servers": require_kafka(home), **client_security(kafka_security())}


def kafka_security() -> dict[str, str]:
    """SASL and TLS settings of the environment; CliError when they are wrong."""
    from millrace.bus.security import client_security, security_of_environment
    from millrace.runtime.errors import ConfigurationError

    try:
        settings = security_of_environment()
        client_security(settings)
    except ConfigurationError as error:
        raise CliError(str(error)) from error
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        row = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return row if isinstance(row, dict) else {}
