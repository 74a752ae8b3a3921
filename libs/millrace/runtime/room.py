"""The life of one room's process: start, bind, serve until signalled, drain, stop."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from millrace.runtime.auth import load_authenticator
from millrace.runtime.clock import wall_us
from millrace.runtime.doors import install_http_errors
from millrace.runtime.errors import ConfigurationError, Policy
from millrace.runtime.metrics import install_metrics
from millrace.runtime.servers import GrpcListener, HttpListener, Register
from millrace.runtime.settings import RoomSettings
from millrace.runtime.status import StatusBoard
from millrace.runtime.supervisor import Supervisor

__all__ = ["RoomProcess", "StatusBoard"]

log = logging.getLogger(__name__)
Hook = Callable[[], Awaitable[None]]


class RoomProcess:
    """Joins doors, tasks and hooks of one room; `run` returns after a drained stop."""

    def __init__(self, name: str, settings: RoomSettings) -> None:
        self.name = name
        self.settings = settings
        self.status = StatusBoard(name)
        self._authenticator = load_authenticator(settings)
        self._registers: list[Register] = []
        self._start_hooks: list[Hook] = []
        self._stop_hooks: list[Hook] = []
        self._stopping = asyncio.Event()
        self._failure: BaseException | None = None
        self._supervisor = Supervisor(self.status, self._give_up)
        self.http = self._application()

    def add_task(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """A supervised background task: started after the start hooks, cancelled before the stop hooks."""
        self._supervisor.add(name, run)

    def add_grpc(self, register: Callable[[grpc.aio.Server], None]) -> None:
        """A function that registers one service on the server."""
        self._registers.append(register)

    def on_start(self, hook: Hook) -> None:
        """Runs before anything is bound, in order; a failure that may pass (Policy.RETRY) is repeated for a while."""
        self._start_hooks.append(hook)

    def on_stop(self, hook: Hook) -> None:
        """Runs after doors and tasks have drained, in reverse order."""
        self._stop_hooks.append(hook)

    def request_stop(self) -> None:
        """As SIGTERM would."""
        self._stopping.set()

    async def run(self) -> None:
        """Serves until SIGINT or SIGTERM, then drains. Raises what made the process give up, if anything did."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.request_stop)
        doors = (GrpcListener(self.settings, self._authenticator, self.status), HttpListener(self.settings))
        name = f"{self.name}-{self.settings.instance}" if self.settings.instance else self.name
        run_file = self.settings.home / "run" / f"{name}.json"
        try:
            if await self._start_up():
                await self._serve(*doors, run_file)
        finally:
            await self._shut_down(*doors, run_file)
        if self._failure is not None:
            raise self._failure

    async def _start_up(self) -> bool:
        """Runs the start hooks; False when a signal came first."""
        starting = asyncio.create_task(self._run_start_hooks())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait((starting,))
            return False
        starting.result()
        return True

    async def _run_start_hooks(self) -> None:
        deadline = asyncio.get_running_loop().time() + self.settings.start_deadline_s
        for hook in self._start_hooks:
            await _until_it_works(hook, deadline)

    async def _serve(self, rpc: GrpcListener, web: HttpListener, run_file: Path) -> None:
        await rpc.start(self._registers)
        await web.start(self.http)
        self.status.grpc_address, self.status.http_address = rpc.address, web.address
        self._supervisor.start()
        self.status.started = True
        _write_run_file(run_file, rpc.address, web.address)
        log.info("serving", extra={"grpc": rpc.address, "http": web.address, "pid": os.getpid()})
        await self._stopping.wait()

    async def _shut_down(self, rpc: GrpcListener, web: HttpListener, run_file: Path) -> None:
        self.status.draining = True
        log.info("draining")
        await rpc.stop()
        await web.stop()
        await self._supervisor.stop(self.settings.drain_s)
        for hook in reversed(self._stop_hooks):
            try:
                await asyncio.wait_for(hook(), self.settings.drain_s)
            except Exception:
                log.exception("a stop hook failed; the others still run")
        _remove(run_file)

    def _give_up(self, error: BaseException) -> None:
        self._failure = error
        self._stopping.set()

    def _application(self) -> FastAPI:
        app = FastAPI(title=f"millrace {self.name}", docs_url=None, redoc_url=None)
        install_http_errors(app, self._authenticator, self.status.has_been_ready)
        install_metrics(app, self.status)

        @app.get("/healthz", include_in_schema=False)
        async def alive() -> dict[str, str]:
            return {"room": self.name, "status": "alive"}

        @app.get("/readyz", include_in_schema=False)
        async def ready() -> JSONResponse:
            is_ready, reasons = self.status.reasons()
            return JSONResponse({"ready": is_ready, "reasons": reasons}, status_code=200 if is_ready else 503)

        return app


async def _until_it_works(hook: Hook, deadline: float) -> None:
    backoff_s = 0.1
    loop = asyncio.get_running_loop()
    while True:
        try:
            await hook()
            return
        except Exception as error:
            if not _may_pass(error):
                raise
            if loop.time() + backoff_s > deadline:
                raise ConfigurationError(f"gave up at start: {error}") from error
            log.warning("start is waiting: %s", error)
        await asyncio.sleep(backoff_s)
        backoff_s = min(backoff_s * 2, 2.0)


def _may_pass(error: Exception) -> bool:
    return (
        getattr(error, "policy", None) is Policy.RETRY
        or isinstance(error, ConnectionError)
        or bool(getattr(error, "retriable", False))
    )


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _write_run_file(path: Path, grpc_address: str, http_address: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    facts = {"pid": os.getpid(), "grpc": grpc_address, "http": http_address, "started_us": wall_us()}
    temporary.write_text(json.dumps(facts), encoding="utf-8")
    temporary.replace(path)  # a reader sees the whole file or none
