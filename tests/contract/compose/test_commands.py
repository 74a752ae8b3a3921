"""Every command and health check of our own image, run bare: the rooms on Kafka, Valkey, ClickHouse's engine, an S3
server and a real PostgreSQL whose roles come from the same script."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest

from infra.embedded.ports import free_ports
from tests.contract.compose.compose import ROOMS, ROOT, document, services
from tests.support.poll import until_sync
from tests.support.s3 import s3
from tests.support.stack import RunningStack

__all__ = ["s3"]

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]
START_DEADLINE_S = 240.0
"""Seven interpreters at once on two cores that other tests use too; alone it takes some 15 s."""


def bare(command: list[str]) -> list[str]:
    """`python` of the image is this interpreter here."""
    return [sys.executable if part == "python" else part for part in command]


@dataclass
class BareRoom:
    """A room's process, started as the compose file says."""

    process: subprocess.Popen[bytes]
    http: int
    log: Path

    def health(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Runs its health check, with the published port in place of the container's own."""
        here = [part.replace(":8000", f":{self.http}") for part in bare(command)]
        return subprocess.run(here, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """Address of a PostgreSQL with one role per room, made by the script that the compose file mounts."""
    pgserver = pytest.importorskip("pgserver")
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # a socket's path must be short
    server = pgserver.get_server(folder)
    socket = parse_qs(urlparse(server.get_uri()).query)["host"][0]
    binaries = Path(pgserver.__file__).parent / "pginstall" / "bin"
    settings = {"POSTGRES_USER": "postgres", "POSTGRES_DB": "postgres", "PGHOST": socket}
    secret = services()["postgres"]["environment"]["ROOM_PASSWORD"]
    path = {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", "ROOM_PASSWORD": secret}
    for _ in range(2):  # it may run again
        subprocess.run(
            ["sh", "infra/docker/postgres-roles.sh"], env={**os.environ, **settings, **path}, cwd=ROOT, check=True
        )
    yield socket
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def rooms(
    stack: RunningStack, postgres: str, s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, BareRoom]]:
    """All seven, with the environment of the compose file; only addresses and folders are of this machine."""
    job = subprocess.run(
        bare(services()["topics"]["command"]),
        env={**os.environ, "MILLRACE_KAFKA_BOOTSTRAP": stack.kafka},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert job.returncode == 0, job.stderr
    home = tmp_path_factory.mktemp("bare")
    ports = dict(zip(ROOMS, zip(free_ports(7), free_ports(7), strict=True), strict=True))
    bucket = {"FSSPEC_S3_ENDPOINT_URL": s3["FSSPEC_S3_ENDPOINT_URL"]}
    started = {room: start(room, stack, postgres, bucket, home / room, ports) for room in ROOMS}
    yield started
    for room in started.values():
        if room.process.poll() is None:
            room.process.kill()
            room.process.wait()


def start(
    room: str, stack: RunningStack, postgres: str, bucket: dict[str, str], home: Path, ports: dict[str, tuple[int, int]]
) -> BareRoom:
    """One room's process."""
    home.mkdir()
    environment = {name: str(value) for name, value in services()[room]["environment"].items()}
    tokens = home / "tokens"
    tokens.write_text(document()["configs"]["tokens"]["content"])
    environment |= stack.env(home) | bucket
    environment |= {
        "MILLRACE_TOPICS": str(ROOT / "infra" / "kafka" / "topics.yaml"),
        "MILLRACE_TOKEN_FILE": str(tokens),
        # Not the loopback: that a room agrees to this shows that the tokens are in force.
        "MILLRACE_GRPC_BIND": f"0.0.0.0:{ports[room][0]}",
        "MILLRACE_HTTP_BIND": f"0.0.0.0:{ports[room][1]}",
        **{f"MILLRACE_{other.upper()}_ADDRESS": f"127.0.0.1:{grpc}" for other, (grpc, _) in ports.items()},
    }
    if "MILLRACE_SQL_URL" in environment:
        environment["MILLRACE_SQL_URL"] = environment["MILLRACE_SQL_URL"].replace(
            "@postgres:5432/millrace", f"@/postgres?host={postgres}"
        )
    if "MILLRACE_OBJECTS_URL" in services()[room]["environment"]:
        assert environment["MILLRACE_OBJECTS_URL"].startswith("s3://")
    log = home / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            bare(services()[room]["command"]),
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'libs'}", **environment},
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return BareRoom(process, ports[room][1], log)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_starts_by_its_command_and_its_health_check_sees_it(room: str, rooms: dict[str, BareRoom]) -> None:
    running = rooms[room]
    kind, *command = services()[room]["healthcheck"]["test"]
    assert kind == "CMD"

    def healthy() -> bool:
        assert running.process.poll() is None, running.log.read_text()[-2000:]
        said = running.health(command)
        assert said.returncode == 0, f"{said.stdout}\n{running.log.read_text()[-1500:]}"
        return True

    until_sync(healthy, START_DEADLINE_S, what=f"{room} becoming healthy")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_ends_cleanly_when_the_engine_stops_it(room: str, rooms: dict[str, BareRoom]) -> None:
    running = rooms[room]
    _, *command = services()[room]["healthcheck"]["test"]
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(40) == 0, running.log.read_text()[-2000:]
    assert running.health(command).returncode == 1


def test_the_job_that_makes_topics_says_when_kafka_is_away() -> None:
    job = subprocess.run(
        bare(services()["topics"]["command"]),
        env={**os.environ, "MILLRACE_KAFKA_BOOTSTRAP": "127.0.0.1:1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert job.returncode == 1
    assert job.stderr.splitlines()[-1].startswith("topics could not be made on 127.0.0.1:1")
