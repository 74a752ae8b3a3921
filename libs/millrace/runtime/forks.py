"""Heavy work in processes of its own, forked from one that has imported the libraries: importing torch takes seconds of
a core, forking takes milliseconds.

The fork server is Python's own (multiprocessing). Nothing but imports and forks happens in it; threads that libraries
start when imported (allocators, onnxruntime) do not come along into a fork, and what runs there starts its own.
"""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from typing import Any

from millrace.runtime.errors import RoomError

NICE = "MILLRACE_FORK_NICE"
END_GRACE_S = 5.0
ORPHANED = 70
_CONTEXT = multiprocessing.get_context("forkserver")


class ForkFailed(RoomError):
    """No process could be forked: the fork server is gone, or died of what it had to import."""


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

        The process is killed when the caller is cancelled, when the caller's process dies, or after `deadline_s` of
        wall time, the imports of the first one included. Raises TimeoutError then, and ForkFailed.
        """
        process = _CONTEXT.Process(target=_call, args=(function, words), daemon=True)
        unwanted = threading.Event()
        try:
            async with asyncio.timeout(deadline_s):
                await self._started(process, unwanted)
                await _ended(process)
            return process.exitcode or 0
        finally:
            unwanted.set()
            await _end(process)

    async def _started(self, process: BaseProcess, unwanted: threading.Event) -> None:
        """Waits until all is imported: in a thread that nobody waits for, should it never come to its end."""
        loop = asyncio.get_running_loop()
        started: asyncio.Future[None] = loop.create_future()

        def tell(error: Exception | None) -> None:
            if started.done():
                return
            if error is None:
                started.set_result(None)
            else:
                started.set_exception(ForkFailed(f"no process could be forked: {type(error).__name__}: {error}"))

        def start() -> None:
            failure: Exception | None = None
            try:
                process.start()
                if unwanted.is_set():
                    process.kill()
            except (EOFError, OSError) as error:
                failure = error
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(tell, failure)

        try:
            self.start()
        except OSError as error:
            raise ForkFailed(f"the fork server cannot be started: {error}") from error
        threading.Thread(target=start, name="fork", daemon=True).start()
        await started


def end_with_parent() -> None:
    """From now on this process, which multiprocessing made, ends when the one that asked for it is gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _call(function: str, words: Sequence[str]) -> None:
    """In the new process."""
    end_with_parent()
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
    """Kills what runs still, and forgets it. Work leaves its results whole or not at all: there is nothing to ask."""
    if process.pid is None:  # not started (yet): whoever starts it knows that it is unwanted
        return
    if process.exitcode is None:
        process.kill()
        await asyncio.to_thread(process.join, END_GRACE_S)
    with suppress(ValueError):  # its end is not known: the fork server does not say
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
