"""The whole platform on one machine: the embedded stack and the seven rooms, each in its own process."""

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.embedded.clickhouse import REPOSITORY
from infra.embedded.errors import StackError
from infra.embedded.ports import LOOPBACK, free_ports, is_free
from infra.embedded.program import Program
from infra.embedded.runfiles import process_started_us, read_json, write_json
from infra.embedded.stack import Stack
from infra.embedded.supervisor import Report, Supervisor
from infra.kafka.topics import ROOMS, TABLE, make_topics

RUN_FILE = "up.json"
ROOM_START_DEADLINE_S = 180.0
"""Seven interpreters that import torch, pandas and ONNX Runtime at once on two cores take most of a minute."""


SHARED = ("feature_store",)
"""Rooms of which several processes share the partitions and answer alike; of the others one process runs here."""


@dataclass(frozen=True)
class RoomPorts:
    """Loopback ports of one process of a room."""

    grpc: int
    http: int


class Platform:
    """Stack and rooms under one supervisor and one home. Everything that it starts ends with it, also when killed.

    `processes` says of which room (of SHARED) several run: the second is `<room>-2`, and so on. They gain where a topic
    has several partitions, or a room many topics.
    """

    def __init__(
        self,
        home: Path,
        *,
        rooms: Sequence[str] = ROOMS,
        processes: Mapping[str, int] | None = None,
        environment: Mapping[str, str] = os.environ,
        restart: bool = True,
        report: Report | None = None,
    ) -> None:
        self.home = Path(home).resolve()
        self.rooms = tuple(rooms)
        more = {room: range(2, count + 1) for room, count in (processes or {}).items() if count > 1}
        if wrong := [room for room in more if room not in SHARED or room not in self.rooms]:
            raise StackError(
                f"{wrong[0]} cannot run in several processes here", f"those that can: {', '.join(SHARED)}", ""
            )
        self.processes = tuple(
            name for room in self.rooms for name in (room, *(f"{room}-{n}" for n in more.get(room, ())))
        )
        self._environment = environment
        options = {} if report is None else {"report": report}
        self.supervisor = Supervisor(self.home, restart=restart, **options)
        self.stack = Stack(self.home, environment=environment, supervisor=self.supervisor)
        self._ports: dict[str, RoomPorts] = {}

    def start(self) -> None:
        """Starts the parts, makes the static topics, starts the rooms; returns when all are ready.

        Raises StackError, with nothing left running, when one of them does not become ready.
        """
        self.supervisor.open()
        try:
            self._write_run_file("starting")
            self.stack.start()
            self._make_topics()
            self._ports = self._choose_ports()
            self.supervisor.start_group([self._program(process) for process in self.processes])
            self._write_run_file("ready")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Drains the rooms side by side, then stops the parts; nothing of it runs afterwards."""
        self.supervisor.stop_group(self.processes)
        self.stack.stop()
        for process in self.processes:
            (self.home / "run" / f"{process}.json").unlink(missing_ok=True)
        (self.home / "run" / RUN_FILE).unlink(missing_ok=True)
        self.supervisor.close()

    def abandon(self) -> None:
        """Stops without grace: kills whatever still runs."""
        for name in self.supervisor.states():
            self.supervisor.kill(name)

    def env(self) -> dict[str, str]:
        """The settings that every room shares: parts, home, the addresses of all rooms."""
        addresses = {
            f"MILLRACE_{room.upper()}_ADDRESS": f"{LOOPBACK}:{self._ports[room].grpc}"
            for room in ROOMS
            if room in self._ports
        }
        pages = {
            f"MILLRACE_{room.upper()}_HTTP": f"{LOOPBACK}:{self._ports[room].http}"
            for room in ("labeling", "monitor")
            if room in self._ports
        }
        return {**self.stack.env(), **addresses, **pages, "MILLRACE_TOPICS": str(TABLE)}

    def _make_topics(self) -> None:
        from millrace.bus.errors import BusUnavailable
        from millrace.bus.security import security_of_environment
        from millrace.runtime.errors import ConfigurationError

        bootstrap = self.stack.addresses.kafka
        try:
            make_topics(bootstrap, security_of_environment(self._environment))
        except (BusUnavailable, ConfigurationError) as error:
            raise StackError(
                f"the topics could not be made on {bootstrap}", str(error), "see millrace doctor"
            ) from error

    def _program(self, process: str) -> Program:
        ports = self._ports[process]
        room, _, instance = process.partition("-")
        return Program(
            name=process,
            command=(sys.executable, "-m", f"services.{room}"),
            probe=lambda: probe_room(f"http://{LOOPBACK}:{ports.http}"),
            environment={
                **self.env(),
                "MILLRACE_GRPC_BIND": f"{LOOPBACK}:{ports.grpc}",
                "MILLRACE_HTTP_BIND": f"{LOOPBACK}:{ports.http}",
                "MILLRACE_INSTANCE": instance,
                "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "libs")]),
                "PYTHONUNBUFFERED": "1",
            },
            directory=REPOSITORY,
            start_deadline_s=ROOM_START_DEADLINE_S,
            stop_grace_s=30.0,
        )

    def _choose_ports(self) -> dict[str, RoomPorts]:
        """Of all rooms, also those not started here; last time's where they are free, so that bookmarks stay good."""
        file = self.home / "ports.json"
        last = read_json(file) or {}
        processes = list(dict.fromkeys((*ROOMS, *self.processes)))
        spare = iter(free_ports(2 * len(processes)))
        chosen: dict[str, int] = {}
        for name in (f"{process}.{door}" for process in processes for door in ("grpc", "http")):
            fallback, port = next(spare), int(last.get(name, 0))
            chosen[name] = port if port and is_free(port) else fallback
        write_json(file, {**last, **chosen})
        return {name: RoomPorts(chosen[f"{name}.grpc"], chosen[f"{name}.http"]) for name in processes}

    def _write_run_file(self, state: str) -> None:
        pid = os.getpid()
        row = {"pid": pid, "process_us": process_started_us(pid), "state": state, "rooms": list(self.rooms)}
        write_json(self.home / "run" / RUN_FILE, row)


def probe_room(url: str) -> str:
    """ "" when the room says that it is ready, else its own reasons."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2):
            return ""
    except urllib.error.HTTPError as error:
        return _reasons(error.read()) or f"it answers {error.code}"
    except (urllib.error.URLError, OSError):
        return "it does not listen yet"


def _reasons(body: bytes) -> str:
    try:
        answer = json.loads(body)
    except ValueError:
        return ""
    return "; ".join(str(reason) for reason in answer.get("reasons", []))
