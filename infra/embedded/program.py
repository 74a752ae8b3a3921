"""One child process: its command, its log, its process group, how one sees that it is ready."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.embedded.errors import StackError
from infra.embedded.runfiles import process_started_us

MAX_LOG_BYTES = 64 * 1024 * 1024
"""A log beyond this is cut: a month of warnings fits, a looping child does not fill the disk."""


@dataclass(frozen=True)
class Program:
    """What to run. `probe` returns "" when the child serves, else what it still waits for (it must not block > 2 s)."""

    name: str
    command: tuple[str, ...]
    probe: Callable[[], str]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None
    start_deadline_s: float = 60.0
    stop_grace_s: float = 15.0


class Child:
    """A running Program."""

    def __init__(self, program: Program, log: Path) -> None:
        self.program = program
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        trim_log(log)
        self._log_start = log.stat().st_size if log.exists() else 0
        self._process = self._spawn()
        self.pid = self._process.pid
        self.process_us = process_started_us(self.pid)

    def _spawn(self) -> subprocess.Popen[bytes]:
        try:
            with self.log.open("ab") as output:
                return subprocess.Popen(
                    self.program.command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **self.program.environment},
                    cwd=self.program.directory,
                    # Its own group: Ctrl-C reaches the supervisor only, which stops the children in order.
                    start_new_session=True,
                )
        except OSError as error:
            raise StackError(f"cannot start {self.program.name}", str(error), "see `millrace doctor`") from error

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def wait_ready(self, cancelled: threading.Event, waiting: Callable[[str], None]) -> None:
        """Polls the probe until it is content. StackError when the child ends, or past its deadline."""
        deadline = time.monotonic() + self.program.start_deadline_s
        pause_s = 0.05
        while reason := self.program.probe():
            if self.returncode is not None:
                raise StackError(f"{self.program.name} ended with {self.returncode} while starting", self.last_words())
            if time.monotonic() > deadline:
                raise StackError(
                    f"{self.program.name} is not ready after {self.program.start_deadline_s:.0f} s",
                    reason,
                    f"see {self.log}",
                )
            waiting(reason)
            if cancelled.wait(pause_s):
                raise StackError(f"{self.program.name} was not started", "stopped while it was starting")
            pause_s = min(pause_s * 1.3, 0.5)

    def last_words(self) -> str:
        """The last lines that this child wrote, joined into one; where they are when there are none."""
        with self.log.open("rb") as log:
            log.seek(max(self._log_start, self.log.stat().st_size - 4096))
            lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        return " | ".join(lines[-3:])[-600:] or f"see {self.log}"

    def signal(self, number: int) -> None:
        """Sends a signal to the whole group; nothing when it is gone."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return

    def stop(self) -> int:
        """Asks it to end, waits its grace, then kills what is left of the group. Returns the exit status."""
        if self.returncode is None:
            self.signal(signal.SIGTERM)
            try:
                self._process.wait(self.program.stop_grace_s)
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGKILL)
        # Grandchildren (a trainer's run) share the group and must not outlive it.
        self.signal(signal.SIGKILL)
        return self._process.wait()

    def kill(self) -> int:
        """Kills the group at once: a crash, for tests and last resorts."""
        self.signal(signal.SIGKILL)
        return self._process.wait()


def trim_log(log: Path) -> None:
    """Keeps the newest half of a log that outgrew MAX_LOG_BYTES. Writers append, so they go on at the new end."""
    if not log.exists() or log.stat().st_size <= MAX_LOG_BYTES:
        return
    with log.open("rb+") as file:
        file.seek(-MAX_LOG_BYTES // 2, os.SEEK_END)
        tail = file.read()
        file.seek(0)
        file.write(tail)
        file.truncate()
