"""A real broker that asks for passwords and certificates: every client of ours gets through, by the same settings."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from millrace.bus.effects import Effects
from millrace.bus.errors import BusUnavailable
from millrace.bus.events import Batch, Event, Message, Record
from millrace.bus.kafka import KafkaBus
from millrace.bus.ports import TopicSpec
from millrace.bus.security import VARIABLE, client_security, security_of_environment
from millrace.bus.worker import Worker
from millrace.cli.main import app
from millrace.runtime.errors import ConfigurationError
from millrace.wire.common.v1 import common_pb2
from typer.testing import CliRunner

from infra.embedded import kafka
from infra.embedded.ports import LOOPBACK, free_ports
from infra.embedded.supervisor import Supervisor
from tests.contract.bus.support import everything, running
from tests.support.poll import until

pytestmark = pytest.mark.stack
USER, PASSWORD = "millrace", "s3cret"
PROTOCOLS = ("SASL_PLAINTEXT", "SSL", "SASL_SSL")


@dataclass(frozen=True)
class Secured:
    """Addresses by protocol, and the settings that get in."""

    ports: dict[str, int]
    certificate: Path
    key: Path

    def address(self, protocol: str) -> str:
        return f"{LOOPBACK}:{self.ports[protocol]}"

    def settings(self, protocol: str, **other: str) -> dict[str, str]:
        made = {"security_protocol": protocol}
        if protocol.startswith("SASL"):
            made |= {"sasl_mechanism": "PLAIN", "sasl_plain_username": USER, "sasl_plain_password": PASSWORD}
        if protocol.endswith("SSL"):
            made |= {"ssl_cafile": str(self.certificate)}
        if protocol == "SSL":  # there the broker wants our certificate, too
            made |= {"ssl_certfile": str(self.certificate), "ssl_keyfile": str(self.key)}
        return made | other

    def bus(self, protocol: str, **other: str) -> KafkaBus:
        return KafkaBus(self.address(protocol), "secured", self.settings(protocol, **other))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """The embedded broker with three more listeners."""
    home = tmp_path_factory.mktemp("secured")
    certificate, key = home / "cert.pem", home / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", f"subjectAltName=IP:{LOOPBACK},DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    (home / "both.pem").write_text(key.read_text() + certificate.read_text())
    plain, controller, *others = free_ports(2 + len(PROTOCOLS))
    ports = dict(zip(PROTOCOLS, others, strict=True))
    program = kafka.prepare(home / "kafka", plain, controller, {})
    login = (
        "org.apache.kafka.common.security.plain.PlainLoginModule required"
        f' username="{USER}" password="{PASSWORD}" user_{USER}="{PASSWORD}";'
    )
    listeners = {"PLAINTEXT": plain, **ports}
    spelled = ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in listeners.items())
    more = {
        "listeners": f"{spelled},CONTROLLER://{LOOPBACK}:{controller}",
        "advertised.listeners": spelled,
        "listener.security.protocol.map": ",".join(f"{p}:{p}" for p in listeners) + ",CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": login,
        "listener.name.sasl_ssl.plain.sasl.jaas.config": login,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(home / "both.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificate),
        "listener.name.ssl.ssl.client.auth": "required",
    }
    properties = home / "kafka" / "server.properties"
    kept = [line for line in properties.read_text().splitlines() if line.partition("=")[0] not in more]
    properties.write_text("\n".join([*kept, *(f"{name}={value}" for name, value in more.items())]) + "\n")
    supervisor = Supervisor(home)
    supervisor.open()
    try:
        supervisor.start(program)
        yield Secured(ports, certificate, key)
    finally:
        supervisor.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_admin_producer_group_member_and_reader_get_in(secured: Secured, protocol: str) -> None:
    bus = secured.bus(protocol)
    topic = f"things-{protocol}"
    await bus.ensure_topics([TopicSpec(topic, 2)])
    await bus.publish([Message(topic, Event(f"e{n}", "t", "s", b"%d" % n), key=b"%d" % n) for n in range(20)])
    seen: list[Record] = []

    async def handle(batch: Batch, effects: Effects) -> None:
        seen.extend(batch.records)
        effects.reject(batch.records[0], "Odd", "the first of each batch")

    worker = Worker(bus, room=f"room-{protocol.lower()}", group=f"group-{protocol}", handle=handle, topics=[topic])
    try:
        async with running(worker.run):
            await until(lambda: len(seen) == 20 and worker.lag_records == 0, 30)
            await worker.learn_lag()
        assert len(await everything(bus, topic, 20)) == 20
        assert await everything(bus, f"deadletter.room-{protocol.lower()}", 1)
    finally:
        await bus.stop()


@pytest.mark.parametrize(
    ("protocol", "wrong"),
    [
        ("SASL_PLAINTEXT", {"sasl_plain_password": "guess"}),
        ("SSL", {"ssl_certfile": ""}),  # the broker asks for one
        ("SASL_SSL", {"ssl_cafile": ""}),  # nobody that the system knows signed the broker's
    ],
)
async def test_who_may_not_get_in_does_not(secured: Secured, protocol: str, wrong: dict[str, str]) -> None:
    bus = secured.bus(protocol, **wrong)
    try:
        with pytest.raises(BusUnavailable):
            await bus.publish([Message("things", Event("e", "t", "s", b""))])
    finally:
        await bus.stop()


@pytest.fixture
def millrace(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The command, as a user of the strictest listener has it."""
    monkeypatch.setenv("MILLRACE_KAFKA_BOOTSTRAP", secured.address("SASL_SSL"))
    monkeypatch.setenv(VARIABLE, json.dumps(secured.settings("SASL_SSL")))
    return lambda *arguments: CliRunner().invoke(app, [*arguments])


def test_every_command_that_speaks_kafka_gets_in(
    secured: Secured, millrace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = subprocess.run([sys.executable, "-m", "infra.kafka"],
                          capture_output=True, text=True)  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert millrace("topics", "list").exit_code == 0
    assert millrace("topics", "lag").exit_code == 0
    checked = millrace("topics", "check")
    assert checked.exit_code == 0, checked.output
    assert millrace("events", "tail", "clocks").exit_code == 0
    letter = common_pb2.DeadLetter(room="labeling", topic="labels", payload=b"x", payload_bytes=1)

    async def put() -> None:
        bus = secured.bus("SASL_SSL")
        await bus.publish([Message("deadletter.labeling", Event("l", "t", "s", letter.SerializeToString()))])
        await bus.stop()

    asyncio.run(put())
    assert "labels" in millrace("deadletter", "list", "labeling").stdout
    assert millrace("deadletter", "replay", "labeling", "0").stdout == "1 handed back to labeling\n"
    monkeypatch.setenv(VARIABLE, json.dumps(secured.settings("SASL_SSL", sasl_plain_password="guess")))
    refused = millrace("topics", "list")
    assert refused.exit_code == 1
    assert "spoke SASL_SSL, as MILLRACE_KAFKA_SECURITY says" in refused.stderr
    monkeypatch.setenv(VARIABLE, "{")
    assert "MILLRACE_KAFKA_SECURITY is not JSON" in millrace("topics", "list").stderr


def test_settings_that_are_wrong_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no setting is called sasl_password"):
        client_security({"sasl_password": "x"})
    with pytest.raises(ConfigurationError, match="security_protocol is 'TLS', not one of PLAINTEXT, SSL"):
        client_security({"security_protocol": "TLS"})
    with pytest.raises(ConfigurationError, match="do nothing"):
        client_security({"ssl_cafile": "x"})
    with pytest.raises(ConfigurationError, match=r"cannot read .*nowhere\.pem"):
        client_security({"security_protocol": "SSL", "ssl_cafile": str(tmp_path / "nowhere.pem")})
    with pytest.raises(ConfigurationError, match="must be a JSON object of texts"):
        security_of_environment({VARIABLE: '{"security_protocol": 1}'})
    (tmp_path / "password").write_text("from a file\n")
    made = client_security(
        {"security_protocol": "SASL_SSL", "sasl_plain_password_file": str(tmp_path / "password"),
         "ssl_check_hostname": "false"}
    )  # fmt: skip
    assert made["sasl_plain_password"] == "from a file"
    assert (made["ssl_context"].check_hostname, made["ssl_context"].verify_mode.name) == (False, "CERT_REQUIRED")
