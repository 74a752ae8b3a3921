"""A real Apache Kafka: KRaft, one node, on the loopback address."""

import asyncio
import base64
import logging
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

from infra.embedded.errors import StackError
from infra.embedded.jars import ensure_jars, require_java
from infra.embedded.ports import LOOPBACK
from infra.embedded.program import Program

JVM = (
    "-Xms128m",
    "-Xmx512m",
    # One small heap on few cores: the serial collector and the first compiler tier start faster and take less memory.
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)

# Every value that differs from Kafka's default is here because there is one node, few cores and one user.
FIXED = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "2",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "num.recovery.threads.per.data.dir": "2",
    "log.cleaner.threads": "1",
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    "log.index.size.max.bytes": str(1024 * 1024),
    "message.max.bytes": str(4 * 1024 * 1024),
    "replica.fetch.max.bytes": str(4 * 1024 * 1024),
    # After a crash the broker may register again only when its last session has run out. The default of 9 s would be
    # waited for at each such start; a stall of 4 s is far beyond what one small heap collects in.
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "500",
}


def prepare(home: Path, port: int, controller_port: int, environment: Mapping[str, str]) -> Program:
    """Fetches jars, formats the storage once, writes the configuration. `home` is the broker's own folder.

    Raises StackError: no java, no mvn, no network, a storage that cannot be formatted.
    """
    java = require_java(environment)
    classpath = f"{ensure_jars(environment)}/*"
    properties = home / "server.properties"
    try:
        home.mkdir(parents=True, exist_ok=True)
        properties.write_text(_properties(home, port, controller_port))
    except OSError as error:
        raise StackError(f"cannot write {properties}", str(error), "free the disk or choose another --home") from error
    if not (home / "data" / "meta.properties").exists():
        _format(java, classpath, properties)
    return Program(
        name="kafka",
        command=(java, *JVM, "-cp", classpath, "kafka.Kafka", str(properties)),
        probe=lambda: probe(f"{LOOPBACK}:{port}"),
        environment={"KAFKA_LOG4J_OPTS": ""},
        directory=home,
        start_deadline_s=90.0,
        stop_grace_s=20.0,
    )


def _properties(home: Path, port: int, controller_port: int) -> str:
    settings = {
        **FIXED,
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "log.dirs": str(home / "data"),
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _format(java: str, classpath: str, properties: Path) -> None:
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    command = [
        java,
        *JVM,
        "-cp",
        classpath,
        "kafka.tools.StorageTool",
        "format",
        f"--cluster-id={cluster_id}",  # one word: an id may begin with a dash
        "-c",
        str(properties),
    ]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if answer.returncode != 0:
        why = " ".join((answer.stderr or answer.stdout).split())[-400:]
        raise StackError("Kafka's storage could not be formatted", why, f"remove {properties.parent} to start afresh")


def probe(bootstrap: str, timeout_ms: int = 2000) -> str:
    """Asks the broker for its metadata: "" when it names a live broker and a controller, else what is missing."""
    # A refused connection is the expected answer while it starts; aiokafka logs each as an error.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    return asyncio.run(_ask_metadata(bootstrap, timeout_ms))


async def _ask_metadata(bootstrap: str, timeout_ms: int) -> str:
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=timeout_ms)
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            await admin.start()
            cluster = await admin.describe_cluster()
    except (KafkaError, OSError, TimeoutError) as error:
        return f"no metadata from {bootstrap} yet ({type(error).__name__})"
    finally:
        await admin.close()
    if not cluster["brokers"] or cluster["controller_id"] < 0:
        return f"the broker at {bootstrap} is not registered yet"
    return ""
