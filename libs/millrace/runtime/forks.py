"""Heavy work in processes of its own, forked from one that has imported the libraries: importing torch takes seconds of
a core, forking takes milliseconds.

The fork server is Python's own (multiprocessing). It has one thread and does nothing but import and fork, so what it
forks inherits no lock that somebody holds.
"""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from typing import Any

from millrace.runtime._fork_server import NICE

END_GRACE_S = 5.0
ORPHANED = 70
_CONTEXT = multiprocessing.get_context("forkserver")


class ForkServer:
    """Runs functions in processes of their own that have `modules` imported already, under `environment`, with the
    priority `nice`. A process has one fork server: the first of several says how it is."""

    def __init__(self, modules: Sequence[str], *, nice: int = 0, environment: Mapping[str, str] | None = None) -> None:
        self._modules = ["millrace.runtime._fork_server", *modules]
        self._environment = {**(environment or {}), NICE: str(nice)}

    def start(self) -> None:
        """Begins to import and returns at once; nothing happens when it runs. It ends with this process."""
        forkserver.set_forkserver_preload(self._modules)
        with _environment(self._environment):
            forkserver.ensure_running()

    async def run(self, function: str, *words: str, deadline_s: float) -> int:
        """Calls `function` ("module:name") with `words`; its process's exit status, negative for a signal.

        The process is ended when the caller is cancelled, when it is killed, or after `deadline_s` of wall time. Raises
        TimeoutError then.
        """
        self.start()
        process = _CONTEXT.Process(target=_call, args=(function, words), daemon=True)
        starting = asyncio.ensure_future(asyncio.to_thread(process.start))  # waits until everything is imported
        try:
            async with asyncio.timeout(deadline_s):
                await asyncio.shield(starting)
                await _ended(process)
            return process.exitcode or 0
        finally:
            await asyncio.wait([starting])
            await _end(process)


def _call(function: str, words: Sequence[str]) -> None:
    """In the new process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    module, name = function.split(":")
    getattr(importlib.import_module(module), name)(*words)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(ORPHANED)


async def _ended(process: BaseProcess) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(process.sentinel, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(process.sentinel)


async def _end(process: BaseProcess) -> None:
    """Ends what runs still, and forgets it."""
    if process.pid is None:  # it could not be started
        return
    if process.exitcode is None:
        process.terminate()
        await asyncio.to_thread(process.join, END_GRACE_S)
    if process.exitcode is None:
        process.kill()
        await asyncio.to_thread(process.join)
    process.close()


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """The fork server takes its environment from this process, at the moment when it starts."""
    before: dict[str, Any] = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
