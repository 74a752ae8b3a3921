"""The platform as an outsider uses it: the `millrace` command, gRPC doors, and ClickHouse's HTTP interface."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from millrace.client.addresses import Addresses
from millrace.runtime.channels import open_channel
from millrace.wire.monitor.v1 import service_pb2 as monitor
from millrace.wire.monitor.v1 import service_pb2_grpc as monitor_grpc
from millrace.wire.registry.v1 import service_pb2 as registry
from millrace.wire.registry.v1 import service_pb2_grpc as registry_grpc


class CommandFailed(Exception):
    """A `millrace` command ended with a failure; the text is what it said."""


class Platform:
    """One running platform, found through its home folder."""

    def __init__(self, home: Path) -> None:
        self.home = home

    async def command(self, *words: str) -> str:
        """Runs `millrace WORDS --home HOME` and returns its standard output. Raises CommandFailed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "millrace.cli", *words, "--home", str(self.home),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        if process.returncode:
            raise CommandFailed(f"millrace {' '.join(words)}: {err.decode().strip() or out.decode().strip()}")
        return out.decode()

    @property
    def addresses(self) -> Addresses:
        """The doors of the rooms that serve now."""
        return Addresses.discover(self.home)

    def part(self, name: str) -> str:
        """The address of an embedded part: kafka, valkey, clickhouse."""
        return str(json.loads((self.home / "run" / f"{name}.json").read_text())["address"])

    async def version(self, project: str, model: str, number: int) -> registry.ModelVersion:
        """What the registry knows of a version."""
        async with open_channel(self.addresses.grpc("registry")) as channel:
            stub: Any = registry_grpc.RegistryStub(channel)
            found: registry.ModelVersion = await stub.GetVersion(
                registry.GetVersionRequest(project=project, model=model, version=number)
            )
        return found

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
