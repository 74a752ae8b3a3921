"""Running the platform in the foreground or behind a detached process, and stopping it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from millrace.cli.errors import CliError

if TYPE_CHECKING:
    from rich.table import Table

START_DEADLINE_S = 600.0
"""A first start may fetch Kafka's jars over a slow line; the parts have closer deadlines of their own."""
STOP_GRACE_S = 90.0
"""A room drains in 30 s and Kafka stops in 20 s; the rest is for a busy machine."""
REFRESH_S = 1.0


def foreground(home: Path, rooms: Sequence[str], processes: Mapping[str, int]) -> None:
    """Starts all, shows all, and stops all at Ctrl-C or SIGTERM (a second one kills)."""
    platform_type = _platform_type()
    asked = _Asked()
    platform = platform_type(home, rooms=rooms, processes=processes, report=_report)
    asked.second = platform.abandon
    starter = _Starter(platform, asked.event)
    starter.start()
    try:
        _show_start(platform, starter, asked.event)
        if starter.error is None and not asked.event.is_set():
            _show_live(home, asked.event)
    finally:
        starter.join()
        if starter.error is None:
            typer.echo("stopping: rooms drain first", err=True)
            platform.stop()
            typer.echo("stopped; nothing is left running", err=True)
    if starter.error is not None and not asked.event.is_set():
        raise starter.error


def detached(home: Path, rooms: Sequence[str], processes: Mapping[str, int]) -> int:
    """Starts a process of its own that runs `up`, and returns its pid when it says that all is ready."""
    _platform_type()
    home = home.resolve()
    before = _run_file(home)
    if before and _alive(before):
        raise CliError(f"a platform already runs in {home} (process {before['pid']}; `millrace down` stops it)")
    log = home / "logs" / "up.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "millrace.cli", "up", "--home", str(home)]
    command += [part for room in rooms for part in ("--room", room)]
    command += [part for room, count in processes.items() for part in ("--processes", f"{room}={count}")]
    process = None
    try:
        with log.open("wb") as output, _ctrl_c_afterwards():
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        _await_ready(home, process, log)
    except BaseException:
        # Whatever ends the wait (Ctrl-C too): nobody knows of a process that was not handed over.
        if process is not None:
            _end(process)
        raise
    return process.pid


def facts(home: Path, pid: int) -> dict[str, Any]:
    """What runs in `home` below process `pid`: the console's address ("" without a monitor) and each service."""
    from millrace.cli import health
    from millrace.cli.places import room

    page = room(home, "monitor").http
    services = [service.as_dict() for service in health.look(home).services]
    return {
        "home": str(home.resolve()),
        "pid": pid,
        "console": f"http://{page}" if page else "",
        "services": services,
    }


@dataclass(frozen=True)
class Stopped:
    """The process that ended; pid 0: none ran. `killed`: it had to be."""

    pid: int = 0
    killed: bool = False


def stop_running(home: Path, timeout_s: float, *, force: bool) -> Stopped:
    """Asks the running platform to stop and waits. Returns what happened; CliError when it does not stop."""
    row = _run_file(home)
    if not row or not _alive(row):
        return Stopped()
    pid = int(row["pid"])
    os.kill(pid, signal.SIGTERM)
    if _wait(lambda: not _alive(row), timeout_s):
        return Stopped(pid)
    if not force:
        raise CliError(f"process {pid} still runs after {timeout_s:.0f} s (--force kills it)")
    # The warden beside it sees the pipe close and kills the children.
    os.kill(pid, signal.SIGKILL)
    _wait(lambda: not _alive(row), 10.0)
    return Stopped(pid, killed=True)


class _Asked:
    """Ctrl-C and SIGTERM: the first asks for a drained stop, a second one ends without grace."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.second: Any = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signalled)

    def _signalled(self, *_: object) -> None:
        if self.event.is_set() and self.second is not None:
            self.second()
        self.event.set()


class _Starter(threading.Thread):
    """Starts the platform beside the thread that draws and takes signals."""

    def __init__(self, platform: Any, asked: threading.Event) -> None:
        super().__init__(name="starter")
        self._platform, self._asked = platform, asked
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._platform.start()
        except Exception as error:
            self.error = error


def _show_start(platform: Any, starter: _Starter, asked: threading.Event) -> None:
    """Names who is awaited, until all are ready, one failed, or the user asks to stop."""
    from rich.live import Live

    from millrace.cli.output import console

    screen = console(err=True)
    with Live(console=screen, refresh_per_second=4, transient=True) as live:
        while starter.is_alive():
            if screen.is_terminal:
                live.update(_start_table(platform))
            starter.join(0.2)
            if asked.is_set():
                platform.supervisor.cancel()


def _start_table(platform: Any) -> Table:
    from millrace.cli.output import mark, table

    rows = [
        (name, mark(state.state == "running", "ready", state.state), state.reason)
        for name, state in platform.supervisor.states().items()
    ]
    return table(("service", "state", "waiting for"), rows, title="starting")


def _show_live(home: Path, asked: threading.Event) -> None:
    from rich.live import Live

    from millrace.cli import health
    from millrace.cli.output import console
    from millrace.cli.places import room

    screen = console()
    page = room(home, "monitor").http
    typer.echo(f"ready; console: http://{page}" if page else "ready", err=True)
    if not screen.is_terminal:
        while not asked.wait(REFRESH_S):
            continue
        return
    with Live(console=screen, refresh_per_second=4) as live:
        while not asked.is_set():
            live.update(health.as_table(health.look(home, REFRESH_S)))


def _report(name: str, what: str) -> None:
    typer.echo(f"{name}: {what}", err=True)


def _platform_type() -> Any:
    from millrace.cli import repository

    if not repository.on_path():
        raise CliError(
            "the services are not installed here: this is the bare library "
            "(run in the repository, or install the distribution millrace-platform)"
        )
    from infra.embedded.platform import Platform

    return Platform


def _run_file(home: Path) -> dict[str, Any]:
    try:
        row = json.loads((home / "run" / "up.json").read_text())
    except (OSError, ValueError):
        return {}
    return row if isinstance(row, dict) else {}


def _alive(row: dict[str, Any]) -> bool:
    """Whether the process that wrote the run file still is: same pid, started at the same time."""
    import psutil

    try:
        process = psutil.Process(int(row.get("pid", 0)))
        started_us = int(process.create_time() * 1_000_000)
        is_over = process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
    # The time is derived from ticks and the boot time, which may be adjusted by a second.
    return not is_over and abs(started_us - int(row.get("process_us", 0))) < 2_000_000


@contextmanager
def _ctrl_c_afterwards() -> Iterator[None]:
    """A Ctrl-C inside the block is raised at its end: in the midst of a start it would leave a process unknown."""
    noted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if noted and before is not signal.SIG_IGN:
        raise KeyboardInterrupt


def _await_ready(home: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    from millrace.cli.output import console

    with console(err=True).status("starting") as shown:

        def settled() -> bool:
            lines = log.read_text(errors="replace").splitlines()
            if lines:
                shown.update(f"starting: {lines[-1][-120:]}")
            return process.poll() is not None or _run_file(home).get("state") == "ready"

        _wait(settled, START_DEADLINE_S)
    if process.poll() is not None:
        said = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("error:")]
        ended = (
            "it was stopped while it was starting" if process.returncode == 0 else f"it ended with {process.returncode}"
        )
        raise CliError(said[-1].removeprefix("error: ") if said else f"{ended}; see {log}")
    if _run_file(home).get("state") != "ready":
        raise CliError(f"not ready after {START_DEADLINE_S:.0f} s; see {log}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stops a platform that is starting: in its own time, or at once past the grace and at a second Ctrl-C."""
    if process.poll() is not None:
        return
    # The group, for Maven's sake: it is a plain child and would hold the start up until it ends.
    os.killpg(process.pid, signal.SIGTERM)
    typer.echo("stopping what was started", err=True)
    try:
        process.wait(STOP_GRACE_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        if process.poll() is None:
            # The warden beside it sees the pipe close and kills the children.
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        typer.echo("killed what did not stop", err=True)
    else:
        typer.echo("stopped; nothing is left running", err=True)


def _wait(condition: Any, timeout_s: float) -> bool:
    """Polls until the condition holds; False past the deadline."""
    deadline, pause = time.monotonic() + timeout_s, threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause.wait(0.1)
    return True
