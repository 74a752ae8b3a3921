"""Child processes: ready, dead, started again, never left behind. The programs are tiny Python processes."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.embedded.errors import StackError
from infra.embedded.ports import free_ports, is_free, require_free
from infra.embedded.program import Program, trim_log
from infra.embedded.runfiles import is_same_process, process_started_us, read_json, write_json
from infra.embedded.supervisor import Supervisor
from tests.support.poll import until_sync

REPOSITORY = Path(__file__).parents[3]
FOREVER = "import signal; signal.pause()"


def program(name: str, code: str, ready: str = "") -> Program:
    """A Python child; it is ready when `ready` (a probe's answer) is empty."""
    return Program(
        name, (sys.executable, "-S", "-c", code), probe=lambda: ready, start_deadline_s=5.0, stop_grace_s=2.0
    )


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """An open supervisor that restarts."""
    made = Supervisor(tmp_path, restart=True)
    made.open()
    yield made
    made.close()


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_child_runs_until_it_is_stopped(supervisor: Supervisor) -> None:
    supervisor.start(program("a", FOREVER))
    pid = supervisor.pid("a")
    assert supervisor.states()["a"].state == "running"
    supervisor.stop("a")
    assert gone(pid)
    assert supervisor.states()["a"].state == "stopped"


def test_a_child_that_dies_comes_back_with_its_reason_reported(tmp_path: Path) -> None:
    said: list[tuple[str, str]] = []
    supervisor = Supervisor(tmp_path, restart=True, report=lambda name, what: said.append((name, what)))
    supervisor.open()
    supervisor.start(program("a", FOREVER))
    first = supervisor.pid("a")
    supervisor.kill("a")
    until_sync(lambda: supervisor.pid("a") not in (0, first), 5.0)
    until_sync(lambda: supervisor.states()["a"].restarts == 1 and supervisor.states()["a"].state == "running", 5.0)
    supervisor.close()
    assert any(name == "a" and "ended with -9" in what for name, what in said)


def test_a_child_that_keeps_dying_backs_off(supervisor: Supervisor) -> None:
    supervisor.start(program("a", FOREVER))
    supervisor.kill("a")
    until_sync(lambda: supervisor.states()["a"].restarts == 1 and supervisor.pid("a"), 5.0)
    supervisor.kill("a")
    until_sync(lambda: supervisor.states()["a"].restarts == 2, 5.0)
    assert supervisor.states()["a"].state == "backoff"
    assert supervisor.pid("a") == 0


def test_a_failed_start_says_what_the_child_said_and_leaves_nothing(supervisor: Supervisor) -> None:
    with pytest.raises(StackError, match=r"ended with 3 while starting.*no such disk"):
        supervisor.start(program("a", "import sys; print('no such disk'); sys.exit(3)", ready="still starting"))
    assert supervisor.pid("a") == 0
    assert supervisor.states()["a"].state == "failed"


def test_a_start_past_its_deadline_names_what_was_awaited(supervisor: Supervisor) -> None:
    late = Program("a", (sys.executable, "-S", "-c", FOREVER), probe=lambda: "no metadata yet", start_deadline_s=0.2)
    with pytest.raises(StackError, match="a is not ready after 0 s: no metadata yet"):
        supervisor.start(late)


def test_one_failure_cancels_the_other_starts(supervisor: Supervisor) -> None:
    waiting = program("slow", FOREVER, ready="never")
    failing = program("bad", "import sys; sys.exit(1)", ready="never")
    with pytest.raises(StackError, match="bad ended with 1"):
        supervisor.start_group([waiting, failing])
    assert supervisor.pid("slow") == 0


def test_grandchildren_end_with_their_parent(supervisor: Supervisor, tmp_path: Path) -> None:
    note = tmp_path / "grandchild"
    code = (
        "import subprocess, sys, pathlib\n"
        f"p = subprocess.Popen([sys.executable, '-S', '-c', {FOREVER!r}])\n"
        f"pathlib.Path({str(note)!r}).write_text(str(p.pid)); p.wait()"
    )
    supervisor.start(program("a", code))
    pid = int(until_sync(lambda: note.exists() and note.read_text(), 5.0))
    supervisor.stop("a")
    until_sync(lambda: gone(pid), 5.0)


def test_two_supervisors_cannot_share_a_home(supervisor: Supervisor) -> None:
    with pytest.raises(StackError, match=f"already runs.*process {os.getpid()}"):
        Supervisor(supervisor.home).open()


SUPERVISE = """
import sys, pathlib, signal
from infra.embedded.supervisor import Supervisor
from infra.embedded.program import Program
s = Supervisor(pathlib.Path(sys.argv[1])); s.open()
s.start(Program('a', (sys.executable, '-S', '-c', 'import signal; signal.pause()'), probe=lambda: ''))
print(s.pid('a'), flush=True); signal.pause()
"""


def test_children_of_a_killed_supervisor_are_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert not gone(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until_sync(lambda: gone(child), 5.0)
    parent.stdout.close()
    again = Supervisor(tmp_path)
    again.open()  # the lock and the files of the dead one are no obstacle
    again.close()


def test_a_leftover_is_ended_only_when_it_is_the_same_process(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-S", "-c", FOREVER], start_new_session=True)
    leftover = subprocess.Popen([sys.executable, "-S", "-c", FOREVER], start_new_session=True)
    rows = {
        "old": {"pid": stranger.pid, "process_us": process_started_us(stranger.pid) - 3_600_000_000},
        "mine": {"pid": leftover.pid, "process_us": process_started_us(leftover.pid)},
    }
    write_json(tmp_path / "run" / "children.json", rows)
    supervisor = Supervisor(tmp_path)
    supervisor.open()
    supervisor.close()
    assert gone(leftover.pid)
    leftover.wait(5)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_run_files_survive_nonsense(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    assert read_json(file) is None
    file.write_text('{"half":')
    assert read_json(file) is None
    file.write_text("[]")
    assert read_json(file) is None
    write_json(file, {"pid": 1})
    assert json.loads(file.read_text()) == {"pid": 1}
    assert not is_same_process(2**22 + 1, 1)


def test_no_port_is_offered_twice_nor_one_that_an_outgoing_connection_could_take() -> None:
    ports = [*free_ports(20), *free_ports(20)]
    assert len(set(ports)) == 40
    kernel = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first_outgoing = int(kernel.read_text().split()[0]) if kernel.is_file() else 32_768
    assert first_outgoing < 20_000 or max(ports) < first_outgoing


def test_too_few_free_ports_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.embedded.ports.is_free", lambda port: port % 5_000 == 0)
    with pytest.raises(StackError, match="4 free ports were asked for, 3 of 20000-32767 are free"):
        free_ports(4)


def test_a_taken_port_is_named() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        assert not is_free(taken)
        with pytest.raises(StackError, match=f"port {taken} is taken: kafka is to use it .stop its user or change X"):
            require_free(taken, "kafka", "X")


def test_a_log_is_cut_to_its_newest_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.embedded.program.MAX_LOG_BYTES", 100)
    log = tmp_path / "a.log"
    log.write_bytes(b"o" * 80 + b"n" * 50)
    trim_log(log)
    assert log.read_bytes() == b"n" * 50
