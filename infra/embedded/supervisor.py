"""Keeps programs running: starts them, notices when one dies, starts it again, stops all, leaves nothing behind."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import psutil

from infra.embedded.errors import StackError
from infra.embedded.program import Child, Program, trim_log
from infra.embedded.runfiles import is_same_process, read_json, write_json

MAX_BACKOFF_S = 30.0
STEADY_AFTER_S = 60.0
"""A child that ran this long is healthy: its next death starts with the shortest backoff again."""

Report = Callable[[str, str], None]
"""Called with (name, what happened to it), from any thread."""


@dataclass(frozen=True)
class ChildState:
    """What is known of one child. `state`: starting, running, backoff, failed, stopped."""

    name: str
    state: str
    pid: int = 0
    restarts: int = 0
    reason: str = ""


def _silent(name: str, what: str) -> None:
    del name, what


class Supervisor:
    """Owns the folder `home`: one supervisor per home, held by a file lock that ends with the process."""

    def __init__(self, home: Path, *, restart: bool = False, report: Report = _silent) -> None:
        self.home = home.resolve()
        self._restart, self._report = restart, report
        self._children: dict[str, Child] = {}
        self._states: dict[str, ChildState] = {}
        self._mutex = threading.RLock()
        self._closing = threading.Event()
        self._lock_file: IO[str] | None = None
        self._warden: subprocess.Popen[str] | None = None
        self._watcher: threading.Thread | None = None
        self._due: dict[str, tuple[float, Program]] = {}
        self._started_at: dict[str, float] = {}

    # -- opening and closing

    def open(self) -> None:
        """Takes the home, ends what a killed predecessor left, starts watching. StackError when the home is in use."""
        run = self.home / "run"
        try:
            run.mkdir(parents=True, exist_ok=True)
            self._lock_file = (run / "lock").open("a+")
        except OSError as error:
            raise StackError(f"cannot use {self.home}", str(error), "choose another --home or free the disk") from error
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock_file.seek(0)
            holder = self._lock_file.read().strip() or "unknown"
            self._lock_file.close()
            raise StackError(
                f"a stack already runs in {self.home}", f"process {holder} holds it", "`millrace down` stops it"
            ) from error
        self._lock_file.truncate(0)
        self._lock_file.write(f"{os.getpid()}\n")
        self._lock_file.flush()
        end_leftovers(run)
        self._closing.clear()
        self._warden = start_warden()
        self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._watcher.start()

    def cancel(self) -> None:
        """Makes starts that are under way fail soon, and later ones at once; `close` is still to be called."""
        self._closing.set()

    def close(self, order: Sequence[str] = ()) -> None:
        """Stops every child (those named in `order` one after the other, then the rest side by side)."""
        self._closing.set()
        if self._watcher is not None:
            self._watcher.join()
        for name in order:
            self.stop(name)
        self._stop_side_by_side()
        if self._warden is not None and self._warden.stdin is not None:
            self._warden.stdin.close()
            self._warden.wait()
        self._warden = None
        (self.home / "run" / "children.json").unlink(missing_ok=True)
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    def stop_group(self, names: Sequence[str]) -> None:
        """Stops the named children side by side and does not start them again."""
        with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
            list(pool.map(self.stop, names))

    def _stop_side_by_side(self) -> None:
        with self._mutex:
            names = list(self._children)
        self.stop_group(names)

    # -- one child

    def start(self, program: Program) -> None:
        """Starts one program and returns when it is ready; StackError otherwise, and then it does not run."""
        self._set(ChildState(program.name, "starting"))
        child = self._launch(program)
        try:
            child.wait_ready(self._closing, lambda reason: self._set_reason(program.name, reason))
        except BaseException as error:
            self.stop(program.name)
            self._set(ChildState(program.name, "failed", reason=str(error)))
            raise
        self._set(ChildState(program.name, "running", pid=child.pid))
        self._report(program.name, "ready")

    def start_group(self, programs: Sequence[Program]) -> None:
        """Starts programs side by side. The first failure cancels the other starts and is raised."""
        self.side_by_side([lambda program=program: self.start(program) for program in programs])  # type: ignore[misc]

    def side_by_side(self, calls: Sequence[Callable[[], None]]) -> None:
        """Runs `calls` in threads; when one fails `cancel` is called and that failure is raised once all ended."""
        with ThreadPoolExecutor(max_workers=max(1, len(calls))) as pool:
            attempts = [pool.submit(call) for call in calls]
            done, _ = wait(attempts, return_when=FIRST_EXCEPTION)
            failures = [attempt for attempt in done if attempt.exception() is not None]
            if failures:
                self.cancel()
        if failures:
            failures[0].result()

    def stop(self, name: str) -> None:
        """Stops one child in its own time and forgets it; nothing when it does not run."""
        with self._mutex:
            self._due.pop(name, None)
            child = self._children.pop(name, None)
        if child is None:
            return
        child.stop()
        self._unguard(child)
        self._set(ChildState(name, "stopped"))

    def kill(self, name: str) -> None:
        """Kills one child as a crash would; with `restart` it comes back."""
        child = self._children.get(name)
        if child is not None:
            child.kill()

    def states(self) -> Mapping[str, ChildState]:
        """What is known of each child, by name, in the order of their first start."""
        with self._mutex:
            return dict(self._states)

    def pid(self, name: str) -> int:
        """The child's process id; 0 when it does not run."""
        child = self._children.get(name)
        return child.pid if child is not None and child.returncode is None else 0

    # -- inside

    def _launch(self, program: Program) -> Child:
        if self._closing.is_set():
            raise StackError(f"{program.name} was not started", "the stack is being stopped")
        child = Child(program, self.home / "logs" / f"{program.name}.log")
        with self._mutex:
            self._children[program.name] = child
            self._started_at[program.name] = time.monotonic()
            state = self._states.get(program.name, ChildState(program.name, "starting"))
            self._states[program.name] = replace(state, pid=child.pid)
        self._guard(child)
        return child

    def _guard(self, child: Child) -> None:
        with self._mutex:
            self._tell_warden(f"+{child.pid}\n")
            self._save_children()

    def _unguard(self, child: Child) -> None:
        with self._mutex:
            self._tell_warden(f"-{child.pid}\n")
            self._save_children()

    def _tell_warden(self, line: str) -> None:
        if self._warden is not None and self._warden.stdin is not None:
            self._warden.stdin.write(line)
            self._warden.stdin.flush()

    def _save_children(self) -> None:
        rows = {name: {"pid": child.pid, "process_us": child.process_us} for name, child in self._children.items()}
        write_json(self.home / "run" / "children.json", rows)

    def _set(self, state: ChildState) -> None:
        with self._mutex:
            self._states[state.name] = state

    def _set_reason(self, name: str, reason: str) -> None:
        with self._mutex:
            self._states[name] = replace(self._states[name], reason=reason)

    def _watch(self) -> None:
        while not self._closing.wait(0.2):
            for name, child in list(self._children.items()):
                if child.returncode is not None and self._states[name].state != "starting":
                    self._mourn(name, child)
                trim_log(child.log)
            for name, (at, program) in list(self._due.items()):
                if time.monotonic() >= at:
                    self._revive(name, program)

    def _mourn(self, name: str, child: Child) -> None:
        with self._mutex:
            if self._children.get(name) is not child:
                return
            del self._children[name]
        self._unguard(child)
        reason = f"ended with {child.returncode}: {child.last_words()}"
        self._report(name, reason)
        before = self._states[name]
        if not self._restart:
            self._set(replace(before, state="failed", pid=0, reason=reason))
            return
        steady = time.monotonic() - self._started_at[name] > STEADY_AFTER_S
        restarts = 1 if steady else before.restarts + 1
        backoff_s = min(MAX_BACKOFF_S, 0.5 * 2 ** (restarts - 1))
        self._set(replace(before, state="backoff", pid=0, restarts=restarts, reason=reason))
        self._due[name] = (time.monotonic() + backoff_s, child.program)

    def _revive(self, name: str, program: Program) -> None:
        self._due.pop(name, None)
        try:
            child = self._launch(program)
        except StackError as error:
            self._set(replace(self._states[name], state="failed", reason=str(error)))
            self._report(name, str(error))
            return
        self._set(replace(self._states[name], state="running", pid=child.pid, reason=""))
        self._report(name, f"started again (restart {self._states[name].restarts})")


def start_warden() -> "subprocess.Popen[str]":
    """Starts the process that ends the children when this one is killed."""
    script = Path(__file__).with_name("warden.py")
    return subprocess.Popen(
        [sys.executable, "-S", "-E", str(script)], stdin=subprocess.PIPE, text=True, start_new_session=True
    )


def end_leftovers(run: Path) -> None:
    """Kills children that outlived a killed supervisor of this home and removes the files that speak of dead ones."""
    for row in (read_json(run / "children.json") or {}).values():
        if not isinstance(row, dict) or not is_same_process(int(row["pid"]), int(row["process_us"])):
            continue
        try:
            os.killpg(int(row["pid"]), signal.SIGKILL)
            psutil.Process(int(row["pid"])).wait(10)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
        except psutil.TimeoutExpired as error:
            raise StackError(f"process {row['pid']} of an earlier stack does not end", str(error)) from error
    for stale in run.glob("*.json"):
        stale.unlink(missing_ok=True)
