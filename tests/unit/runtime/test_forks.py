"""Work in forked processes: its end, its failures, and that nothing of it stays."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from millrace.runtime.forks import ForkServer

from tests.support.poll import until

HERE = "tests.unit.runtime.test_forks"
FORKS = ForkServer(["json"], environment={"MILLRACE_TEST_FORKS": "1"})


def say(path: str) -> None:
    """Runs in the process of its own."""
    Path(path).write_text(str(os.getpid()), encoding="utf-8")


def fail(path: str) -> None:
    """Runs in the process of its own."""
    raise ValueError(path)


def die(path: str) -> None:
    """Runs in the process of its own."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang(path: str) -> None:
    """Runs in the process of its own; ends only by a signal."""
    say(path)
    threading.Event().wait()


async def test_work_runs_in_a_process_of_its_own(tmp_path):
    pids = set()
    for name in ("a", "b"):
        assert await FORKS.run(f"{HERE}:say", str(tmp_path / name), deadline_s=60) == 0
        pids.add((tmp_path / name).read_text())
    assert len(pids | {str(os.getpid())}) == 3
    assert "MILLRACE_TEST_FORKS" not in os.environ


async def test_how_it_ended_is_told(tmp_path):
    assert await FORKS.run(f"{HERE}:fail", "x", deadline_s=60) == 1
    assert await FORKS.run(f"{HERE}:die", "x", deadline_s=60) == -signal.SIGKILL
    assert await FORKS.run(f"{HERE}:unheard_of", "x", deadline_s=60) == 1


async def test_a_signal_to_the_whole_group_ends_neither_work_nor_server(tmp_path):
    work = asyncio.create_task(FORKS.run(f"{HERE}:hang", str(tmp_path / "pid"), deadline_s=60))
    await until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text(), 30)
    worker = psutil.Process(int((tmp_path / "pid").read_text()))
    for process in (worker.parent(), worker):
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
    assert await FORKS.run(f"{HERE}:say", str(tmp_path / "next"), deadline_s=60) == 0
    assert worker.is_running() and not work.done()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await until(lambda: not worker.is_running(), 10)


def test_who_asks_for_forks_keeps_its_own_signals():
    script = (
        "import signal; import millrace.runtime.forks; "
        "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler); "
        "print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.split() == ["True", "True"]


async def test_a_server_that_died_is_named_and_started_again(tmp_path):
    work = asyncio.create_task(FORKS.run(f"{HERE}:hang", str(tmp_path / "pid"), deadline_s=60))
    await until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text(), 60)
    worker = psutil.Process(int((tmp_path / "pid").read_text()))
    worker.parent().kill()
    assert await work == 255  # what Python's fork server says where nobody knows the end
    with suppress(psutil.NoSuchProcess):
        worker.kill()
    assert await FORKS.run(f"{HERE}:say", str(tmp_path / "next"), deadline_s=60) == 0


def test_libraries_that_break_when_imported_are_named(tmp_path):
    (tmp_path / "broken.py").write_text("raise ValueError('another ABI')")
    script = (
        "import asyncio; from millrace.runtime.forks import *; "
        f"asyncio.run(ForkServer(['broken']).run('{HERE}:say', '{tmp_path}/x', deadline_s=60))"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path},
        timeout=120, check=False,
    )  # fmt: skip
    assert "ForkFailed: no process could be forked" in said.stderr and "another ABI" in said.stderr


async def test_what_takes_too_long_or_is_not_wanted_any_more_is_ended(tmp_path):
    await FORKS.run(f"{HERE}:say", str(tmp_path / "warm"), deadline_s=60)  # the deadline below is for the work alone
    with pytest.raises(TimeoutError):
        await FORKS.run(f"{HERE}:hang", str(tmp_path / "late"), deadline_s=3.0)
    unwanted = asyncio.create_task(FORKS.run(f"{HERE}:hang", str(tmp_path / "unwanted"), deadline_s=60))
    await until(lambda: (tmp_path / "unwanted").is_file() and (tmp_path / "unwanted").read_text(), 30)
    unwanted.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unwanted
    pids = [int((tmp_path / name).read_text()) for name in ("late", "unwanted")]
    await until(lambda: not any(psutil.pid_exists(pid) for pid in pids), 10)
