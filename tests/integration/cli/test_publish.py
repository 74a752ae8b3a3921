"""`millrace publish` into a real room over a real broker: killed, grown, changed; then everything is counted."""

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pyarrow
import pyarrow.parquet
import pytest
from millrace.bus.events import Message
from millrace.bus.kafka import KafkaBus
from millrace.definitions.model import Clock
from millrace.wire.common.v1 import common_pb2, common_pb2_grpc
from millrace.wire.ingestion.v1.events_pb2 import Quarantined

from infra.embedded.platform import ROOM_START_DEADLINE_S
from infra.embedded.ports import free_ports
from infra.kafka.topics import make_topics
from tests.support.poll import until_sync
from tests.support.stack import RunningStack
from tests.unit.ingestion.test_doors import definition
from tests.unit.ingestion.world import HEARTBEAT, T0, project

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[3]
ROWS, BAD_EVERY = 30_000, 97


class Plant:
    """The ingestion room as a process on ports that stay, and the command beside it."""

    def __init__(self, stack: RunningStack, home: Path) -> None:
        self.stack, self.home = stack, home
        self.declared: list[str] = []
        grpc, http = free_ports(2)
        binds = {"MILLRACE_GRPC_BIND": f"127.0.0.1:{grpc}", "MILLRACE_HTTP_BIND": f"127.0.0.1:{http}"}
        self.env = {**os.environ, **stack.env(home), **binds}
        self.env["MILLRACE_TOPICS"] = str(ROOT / "infra" / "kafka" / "topics.yaml")
        self.room = self.start_room()

    def start_room(self) -> subprocess.Popen[bytes]:
        (self.home / "run" / "ingestion.json").unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, "-m", "services.ingestion"], cwd=ROOT, env=self.env)
        try:
            until_sync((self.home / "run" / "ingestion.json").exists, ROOM_START_DEADLINE_S)
        except BaseException:
            process.kill()
            raise
        return process

    def declare(self, name: str) -> None:
        """A project of that name on the wall clock; returns once the room takes its events."""

        async def publish() -> None:
            bus = KafkaBus(self.stack.kafka, "test-publish")
            await bus.publish([definition(project(Clock.WALL, name))])
            await bus.stop()

        def is_known() -> bool:
            with grpc.insecure_channel(self.env["MILLRACE_GRPC_BIND"]) as channel:
                status = common_pb2_grpc.RoomStub(channel).Describe(common_pb2.DescribeRequest(), wait_for_ready=True)
                return name in status.definitions

        asyncio.run(publish())
        self.declared.append(name)
        until_sync(is_known, 60)

    def forget(self) -> None:
        """The projects are gone: the rooms of later tests on this stack need not read their events."""

        async def publish() -> None:
            bus = KafkaBus(self.stack.kafka, "test-publish")
            for name in self.declared:
                known = definition(project(Clock.WALL, name)).event
                await bus.publish([Message("definitions", replace(known, data=b""), key=name.encode())])
            await bus.stop()

        asyncio.run(publish())

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command(name, *arguments), cwd=ROOT, env=self.env, stderr=subprocess.DEVNULL)

    def run(self, name: str, *arguments: str, text: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        command = self._command(name, *arguments)
        return subprocess.run(
            command, cwd=ROOT, env=self.env, input=text, capture_output=True, timeout=200, check=False
        )

    def told(self, name: str, *arguments: str) -> Any:
        """What a run that must succeed says."""
        done = self.run(name, *arguments, "--json", "--allow-quarantine")
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    def journaled(self, name: str) -> int:
        """Rows of the project's one file that were answered for."""
        places = [json.loads(path.read_bytes()) for path in (self.home / "publish").glob("*.json")]
        return sum(int(place.get("rows", 0)) for place in places if place["project"] == name)

    def data(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(r.data) for r in self._records(f"data.{name}.readings") if r.event.type != HEARTBEAT]

    def letters(self, name: str) -> list[Quarantined]:
        found = [Quarantined.FromString(record.data) for record in self._records("quarantine")]
        return [letter for letter in found if letter.project == name]

    def _command(self, name: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "millrace.cli", "publish", name, "readings", *arguments]

    def _records(self, topic: str) -> list[Any]:
        async def read() -> list[Any]:
            bus = KafkaBus(self.stack.kafka, "test-publish")
            reader = bus.reader([topic])
            await reader.start()
            found = []
            while await reader.behind():
                found += [record for batch in await reader.poll(5_000, 200) for record in batch.records]
            await reader.stop()
            await bus.stop()
            return found

        return asyncio.run(read())


@pytest.fixture(scope="module")
def plant(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    make_topics(stack.kafka)
    made = Plant(stack, tmp_path_factory.mktemp("plant"))
    yield made
    made.room.terminate()
    made.room.wait(30)
    made.forget()


def row(number: int) -> dict[str, Any]:
    """Every so often one breaks its range."""
    degrees = 500.0 if number % BAD_EVERY == 0 else number % 100 / 2
    return {
        "sensor": f"s{number % 50}",
        "at": T0 + number,
        "degrees": degrees,
        "count": number,
        "is_on": number % 2 == 0,
    }


def write(file: Path, first: int, last: int, mode: str = "w") -> None:
    with file.open(mode) as lines:
        lines.writelines(json.dumps(row(number)) + "\n" for number in range(first, last))


def good(last: int) -> list[int]:
    return [number for number in range(last) if number % BAD_EVERY]


def bad(last: int) -> list[int]:
    return [number for number in range(last) if number % BAD_EVERY == 0]


def test_a_publish_that_is_killed_again_and_again_loses_and_doubles_nothing(plant: Plant, tmp_path: Path) -> None:
    name, file, rejects = "killed", tmp_path / "rows.ndjson", tmp_path / "rejects.ndjson"
    write(file, 0, ROWS)
    plant.declare(name)
    kills = 0
    for threshold in range(0, ROWS, ROWS // 5):
        process = plant.start(name, str(file), "--rejects", str(rejects))
        until_sync(lambda at=threshold, run=process: plant.journaled(name) > at or run.poll() is not None, 120)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait(30)
    assert kills >= 3
    told = plant.told(name, str(file), "--rejects", str(rejects))
    assert told["rows"] == ROWS == told["accepted"] + told["duplicates"] + told["quarantined"]
    assert (told["quarantined"], told["accepted"] + told["duplicates"]) == (len(bad(ROWS)), len(good(ROWS)))
    assert 0 < told["published_before"] <= ROWS
    found = plant.data(name)
    assert sorted(event["count"] for event in found) == good(ROWS)
    for sensor in ("s1", "s7"):  # in the file's order, also over the kills
        counts = [event["count"] for event in found if event["sensor"] == sensor]
        assert counts == sorted(counts)
    listed = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [line["row"] for line in listed] == [number + 1 for number in bad(ROWS)]
    assert {line["field"] for line in listed} == {"degrees"} and "500" in listed[0]["reason"]
    assert json.loads(listed[1]["event"])["count"] == BAD_EVERY
    assert len({letter.event_id for letter in plant.letters(name)}) == len(bad(ROWS))


def test_the_room_killed_in_the_middle_is_waited_for(plant: Plant, tmp_path: Path) -> None:
    name, file = "outlived", tmp_path / "rows.ndjson"
    write(file, 0, ROWS)
    plant.declare(name)
    process = plant.start(name, str(file), "--allow-quarantine")
    until_sync(lambda: plant.journaled(name) > 2_000, 60)
    plant.room.kill()
    plant.room.wait(30)
    plant.room = plant.start_room()
    assert process.wait(120) == 0
    assert sorted(event["count"] for event in plant.data(name)) == good(ROWS)


def test_a_file_that_has_grown_goes_on_and_one_that_has_changed_does_not(plant: Plant, tmp_path: Path) -> None:
    name, file = "grown", tmp_path / "rows.ndjson"
    write(file, 1, 1_300)
    plant.declare(name)
    assert plant.told(name, str(file))["rows"] == 1_299
    again = plant.run(name, str(file), "--allow-quarantine")
    assert again.returncode == 0 and b"nothing new" in again.stdout
    write(file, 1_300, 2_000, "a")
    told = plant.told(name, str(file))
    assert (told["rows"], told["published_before"]) == (1_999, 1_299)
    write(file, 5, 2_005)
    refused = plant.run(name, str(file))
    assert refused.returncode == 1 and b"has changed in the 1,999 rows" in refused.stderr
    told = plant.told(name, str(file), "--restart")
    assert (told["rows"], told["accepted"]) == (2_000, 5)  # the others are known
    assert sorted(event["count"] for event in plant.data(name)) == good(2_005)


def test_parquet_and_compressed_lines_give_the_same_rows(plant: Plant, tmp_path: Path) -> None:
    rows = [row(number) for number in range(1, 700)]
    table, lines = tmp_path / "rows.parquet", tmp_path / "rows.ndjson.gz"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    lines.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    plant.declare("formats")
    first, second = plant.told("formats", str(table), str(lines))
    assert (first["rows"], first["accepted"], first["quarantined"]) == (699, 692, 7)
    assert (second["rows"], second["duplicates"], second["quarantined"]) == (699, 692, 7)
    assert sorted(event["count"] for event in plant.data("formats")) == good(700)
