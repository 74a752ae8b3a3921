"""`millrace up --detach` where it cannot start or is not wanted any more: one clear line, and nothing left running."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.poll import until_sync

ROOT = Path(__file__).parents[3]
MARK = "MILLRACE_TEST_MARK"
"""Inherited by what a command starts, also by what knows nothing of the home (Maven, the warden)."""

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]


class Command:
    """`millrace` in a home of its own, with settings of its own, and a way to see what it left behind."""

    def __init__(self, home: Path, bin_folder: Path) -> None:
        self.home, self.bin = home, bin_folder
        replaced = ("JAVA_HOME", "MILLRACE_HOME", "MILLRACE_KAFKA_BOOTSTRAP", "MILLRACE_REDIS_URL")
        kept = {name: value for name, value in os.environ.items() if name not in (*replaced, "MILLRACE_CLICKHOUSE_URL")}
        self.env = kept | {MARK: uuid.uuid4().hex, "MILLRACE_CACHE": str(home.parent / "cache")}

    def without_path(self) -> None:
        """Programs are found in the test's own folder only."""
        self.env["PATH"] = str(self.bin)

    def install(self, name: str, body: str) -> None:
        """A program in that folder."""
        self.bin.mkdir(exist_ok=True)
        (self.bin / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.bin / name).chmod(0o755)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "millrace.cli", "up", *arguments, "--home", str(self.home)]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=self.env
        )

    def fails(self, *arguments: str) -> str:
        """The one line that a command which cannot start says; nothing of it runs any more."""
        process = self.start(*arguments)
        told, said = process.communicate(timeout=180)
        assert (process.returncode, told) == (1, "")
        (line,) = said.splitlines()
        until_sync(lambda: self.left() == [], 20.0, what=f"the end of everything that said {line!r}")
        return line

    def left(self) -> list[str]:
        """Names of the processes that this command started, itself included."""
        return [process.name() for process in self.processes()]

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() != psutil.STATUS_ZOMBIE and self._is_ours(process):
                    found.append(process)
            except psutil.Error:
                continue  # ended while looked at, or another user's
        return found

    def _is_ours(self, process: psutil.Process) -> bool:
        # Valkey writes its title over its environment: it is known by the folder that it works in.
        return self.env[MARK] == process.environ().get(MARK) or str(process.cwd()).startswith(str(self.home))


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    """A command of which nothing survives the test, whatever it did."""
    made = Command(tmp_path / "home", tmp_path / "bin")
    yield made
    for process in made.processes():
        process.kill()


def test_a_port_in_use(command: Command) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command.env["MILLRACE_KAFKA_PORT"] = str(port)
        line = command.fails("--detach")
    assert line.startswith(f"error: port {port} is taken: kafka is to use it")
    assert "MILLRACE_KAFKA_PORT" in line


def test_no_java(command: Command) -> None:
    command.without_path()
    line = command.fails("--detach")
    assert line.startswith("error: no java found")
    assert "install Java 17+" in line


def test_no_maven_and_no_jars_yet(command: Command) -> None:
    command.without_path()
    command.install("java", "echo 'openjdk version \"21.0.1\"' >&2")
    line = command.fails("--detach")
    assert line.startswith("error: no mvn found")
    assert "install Maven" in line


def test_a_home_that_cannot_be_used_in_the_foreground(command: Command) -> None:
    command.home.touch()
    command.home /= "below-a-file"
    assert command.fails().startswith(f"error: cannot use {command.home}")


def test_ctrl_c_while_a_detached_one_starts(command: Command) -> None:
    """Maven hangs here, so that the start lasts as long as the test wants; the other parts come up beside it."""
    tail, touch = shutil.which("tail"), shutil.which("touch")
    reached = command.home.parent / "maven-runs"
    command.without_path()
    command.install("java", "echo 'openjdk version \"21.0.1\"' >&2")
    command.install("mvn", f"{touch} {reached}\nexec {tail} -f /dev/null")
    up = command.start("--detach", "--room", "registry")
    until_sync(reached.exists, 60.0, what="Maven")
    until_sync(lambda: "valkey-server" in command.left(), 60.0, what="Valkey")
    up.send_signal(signal.SIGINT)
    told, said = up.communicate(timeout=150)
    assert up.returncode != 0
    assert told == ""
    assert "stopped; nothing is left running" in said.splitlines()
    until_sync(lambda: command.left() == [], 20.0, what="the end of all that was started")
    assert not (command.home / "run" / "up.json").exists()


def test_ctrl_c_before_the_detached_one_listens_to_anybody(command: Command) -> None:
    up = command.start("--detach", "--room", "registry")
    until_sync(lambda: len(command.processes()) > 1, 60.0, what="the detached process")
    up.send_signal(signal.SIGINT)
    up.communicate(timeout=150)
    assert up.returncode != 0
    until_sync(lambda: command.left() == [], 20.0, what="the end of all that was started")
