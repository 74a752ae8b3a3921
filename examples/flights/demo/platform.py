"""The platform as an outsider uses it: the `millrace` command, gRPC doors, and ClickHouse's HTTP interface."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from millrace.client.addresses import ROOMS, Addresses
from millrace.runtime.channels import open_channel
from millrace.wire.monitor.v1 import service_pb2 as monitor
from millrace.wire.monitor.v1 import service_pb2_grpc as monitor_grpc
from millrace.wire.registry.v1 import service_pb2 as registry
from millrace.wire.registry.v1 import service_pb2_grpc as registry_grpc

from examples.flights.demo.bars import Step
from examples.flights.demo.trouble import DemoError

PARTS = 3  # Kafka, Valkey, ClickHouse
POLL_S = 0.25


class CommandFailed(DemoError):
    """A `millrace` command ended with a failure; the text is what it said."""


class Platform:
    """One running platform, found through its home folder."""

    def __init__(self, home: Path) -> None:
        self.home = home

    async def command(self, *words: str) -> str:
        """Runs `millrace WORDS --home HOME` and returns its standard output. Raises CommandFailed.

        When cancelled, the command is interrupted as by Ctrl-C, and what it had begun has ended when this returns.
        """
        # A session of its own: Ctrl-C on the terminal is this process's to answer, in the right order.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "millrace.cli", *words, "--home", str(self.home),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            out, err = await process.communicate()
        except asyncio.CancelledError:
            if process.returncode is None:
                process.send_signal(signal.SIGINT)
            await process.communicate()
            raise
        if process.returncode:
            raise CommandFailed(f"millrace {' '.join(words)}: {err.decode().strip() or out.decode().strip()}")
        return out.decode()

    async def start(self, step: Step) -> None:
        """`millrace up`, with its lines in `step`. Raises CommandFailed; when cancelled, the start is undone first."""
        starting = asyncio.create_task(self.command("up", "--detach"))
        try:
            while not starting.done():
                await asyncio.wait({starting}, timeout=POLL_S)
                lines = self._start_lines()
                step.at(len([line for line in lines if line.endswith(": ready")]), PARTS + len(ROOMS), lines[-1])
        finally:
            starting.cancel()
            await asyncio.wait({starting})
        starting.result()

    def _start_lines(self) -> list[str]:
        log = self.home / "logs" / "up.log"
        return (log.read_text(errors="replace").splitlines() if log.exists() else []) or ["Kafka, Valkey, ClickHouse"]

    @property
    def addresses(self) -> Addresses:
        """The doors of the rooms that serve now."""
        return Addresses.discover(self.home)

    def part(self, name: str) -> str:
        """The address of an embedded part: kafka, valkey, clickhouse."""
        return str(json.loads((self.home / "run" / f"{name}.json").read_text())["address"])

    async def artifact(self, digest: str) -> bytes:
        """The bytes that `digest` names."""
        async with open_channel(self.addresses.grpc("registry")) as channel:
            stub: Any = registry_grpc.RegistryStub(channel)
            chunks = [chunk.data async for chunk in stub.GetArtifact(registry.Artifact(digest=digest))]
        return b"".join(chunks)

    async def why(self, event_id: str) -> monitor.WhyReply:
        """The causal chain of an event."""
        async with open_channel(self.addresses.grpc("monitor")) as channel:
            stub: Any = monitor_grpc.MonitorStub(channel)
            answer: monitor.WhyReply = await stub.Why(monitor.WhyRequest(event_id=event_id))
        return answer

    def count_predictions(self, project: str) -> int:
        """Rows of the monitor's prediction log, asked of ClickHouse itself."""
        query = "SELECT count() FROM predictions FINAL WHERE project = {project:String}"
        parameters = urllib.parse.urlencode({"database": "monitor", "query": query, "param_project": project})
        address = self.part("clickhouse")
        base = address if "://" in address else f"http://{address}"
        with urllib.request.urlopen(f"{base}/?{parameters}", timeout=30) as answer:
            return int(answer.read())
