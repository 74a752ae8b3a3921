"""The embedded stack as one object: Kafka, Valkey, ClickHouse, whichever no setting replaces."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.embedded import clickhouse, kafka, valkey
from infra.embedded.errors import StackError
from infra.embedded.ports import LOOPBACK, free_ports, is_free, require_free
from infra.embedded.program import Program
from infra.embedded.runfiles import process_started_us, read_json, write_json
from infra.embedded.supervisor import Report, Supervisor

PARTS = ("kafka", "valkey", "clickhouse")
REPLACED_BY = {
    "kafka": "MILLRACE_KAFKA_BOOTSTRAP",
    "valkey": "MILLRACE_REDIS_URL",
    "clickhouse": "MILLRACE_CLICKHOUSE_URL",
}
PORT_SETTING = {
    "kafka": "MILLRACE_KAFKA_PORT",
    "valkey": "MILLRACE_VALKEY_PORT",
    "clickhouse": "MILLRACE_CLICKHOUSE_PORT",
}


@dataclass(frozen=True)
class StackAddresses:
    """Where the three parts listen."""

    kafka: str
    redis: str
    clickhouse: str

    def env(self) -> dict[str, str]:
        """The settings that point a room at these parts."""
        return {
            "MILLRACE_KAFKA_BOOTSTRAP": self.kafka,
            "MILLRACE_REDIS_URL": self.redis,
            "MILLRACE_CLICKHOUSE_URL": self.clickhouse,
        }


class Stack:
    """Starts what is missing under `home` and says where everything is.

    `environment` may replace a part (MILLRACE_KAFKA_BOOTSTRAP, MILLRACE_REDIS_URL, MILLRACE_CLICKHOUSE_URL) or fix its
    port (MILLRACE_KAFKA_PORT, ...). A given `supervisor` is used and left open; else the stack has its own.
    """

    def __init__(
        self,
        home: Path,
        *,
        environment: Mapping[str, str] = os.environ,
        supervisor: Supervisor | None = None,
        restart: bool = False,
        report: Report | None = None,
    ) -> None:
        self.home = Path(home).resolve()
        self._environment = environment
        self._shared = supervisor is not None
        self.supervisor = supervisor or Supervisor(
            self.home, restart=restart, **({} if report is None else {"report": report})
        )
        self._programs: dict[str, Program] = {}
        self._addresses: StackAddresses | None = None

    @property
    def addresses(self) -> StackAddresses:
        """Where the parts are; StackError before `start`."""
        if self._addresses is None:
            raise StackError("the stack has not been started")
        return self._addresses

    def env(self) -> dict[str, str]:
        """The settings of a child room: the parts' addresses and the home."""
        return {**self.addresses.env(), "MILLRACE_HOME": str(self.home)}

    def start(self) -> StackAddresses:
        """Starts the parts side by side and returns when each serves; StackError, with nothing left running, else."""
        if not self._shared:
            self.supervisor.open()
        try:
            ports = self._choose_ports()
            calls = [lambda part=part: self._start_part(part, ports) for part in ports]
            self.supervisor.side_by_side(calls)
        except BaseException:
            self.stop()
            raise
        self._addresses = StackAddresses(
            kafka=self._environment.get(REPLACED_BY["kafka"]) or f"{LOOPBACK}:{ports['kafka']}",
            redis=self._environment.get(REPLACED_BY["valkey"]) or f"redis://{LOOPBACK}:{ports['valkey']}/0",
            clickhouse=self._environment.get(REPLACED_BY["clickhouse"]) or f"http://{LOOPBACK}:{ports['clickhouse']}",
        )
        self._write_run_files()
        return self._addresses

    def stop(self) -> None:
        """Stops the parts, all at once; data stays under `home`."""
        self.supervisor.stop_group([part for part in PARTS if part in self._programs])
        for part in PARTS:
            (self.home / "run" / f"{part}.json").unlink(missing_ok=True)
        if not self._shared:
            self.supervisor.close()

    def kill_part(self, name: str) -> None:
        """Kills one part as a crash would."""
        self.supervisor.kill(name)

    def start_part(self, name: str) -> None:
        """Starts a stopped or killed part again, on the same port and data, and waits until it serves."""
        self.supervisor.stop(name)
        self.supervisor.start(self._programs[name])
        self._write_run_files()

    def stop_part(self, name: str) -> None:
        """Stops one part in its own time."""
        self.supervisor.stop(name)

    def _choose_ports(self) -> dict[str, int]:
        wanted = [part for part in PARTS if not self._environment.get(REPLACED_BY[part])]
        spare = iter(free_ports(len(wanted)))
        last = read_json(self.home / "ports.json") or {}
        chosen = {part: self._choose_port(part, int(last.get(part, 0)), next(spare)) for part in wanted}
        write_json(self.home / "ports.json", {**last, **chosen})
        return chosen

    def _choose_port(self, part: str, last: int, spare: int) -> int:
        """The port that is set; else the one of last time, so that open addresses stay good; else a free one."""
        fixed = self._environment.get(PORT_SETTING[part], "")
        if fixed:
            if not fixed.isdigit():
                raise StackError(f"{PORT_SETTING[part]}={fixed} is no port", fix="give a number")
            return require_free(int(fixed), part, PORT_SETTING[part])
        return last if last and is_free(last) else spare

    def _start_part(self, part: str, ports: Mapping[str, int]) -> None:
        folder = self.home / part
        if part == "kafka":
            program = kafka.prepare(folder, ports[part], free_ports(1)[0], self._environment)
        elif part == "valkey":
            program = valkey.prepare(folder, ports[part])
        else:
            program = clickhouse.prepare(folder, ports[part])
        self._programs[part] = program
        self.supervisor.start(program)

    def _write_run_files(self) -> None:
        addresses = {
            "kafka": self.addresses.kafka,
            "valkey": self.addresses.redis,
            "clickhouse": self.addresses.clickhouse,
        }
        for part, address in addresses.items():
            pid = self.supervisor.pid(part)
            row = {
                "pid": pid,
                "address": address,
                "started_us": process_started_us(pid) if pid else 0,
                "embedded": pid > 0,
            }
            write_json(self.home / "run" / f"{part}.json", row)
