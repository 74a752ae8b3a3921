"""The two listeners of a room: a gRPC server with health, reflection and Room.Describe, and an HTTP server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import uvicorn
from fastapi import FastAPI

from millrace.runtime.auth import Authenticator, split_bind
from millrace.runtime.channels import MAX_MESSAGE_BYTES
from millrace.runtime.doors import grpc_errors
from millrace.runtime.errors import ConfigurationError
from millrace.runtime.settings import RoomSettings
from millrace.runtime.status import StatusBoard
from millrace.wire.common.v1 import common_pb2, common_pb2_grpc

log = logging.getLogger(__name__)
Register = Callable[[grpc.aio.Server], None]
_OPTIONS = (
    ("grpc.so_reuseport", 0),  # a taken port must be an error, not a silent second listener
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)


class RoomService(common_pb2_grpc.RoomServicer):
    """millrace.wire.common.v1.Room over the status board."""

    def __init__(self, status: StatusBoard) -> None:
        self._status = status

    async def Describe(
        self, request: common_pb2.DescribeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> common_pb2.RoomStatus:
        """The board as it is now; with `exact` the lag is asked of the broker first."""
        if request.hurry:
            self._status.hurry()
        if request.exact:
            await self._status.learn_lag()
        return self._status.snapshot()


class GrpcListener:
    """Binds, serves and drains the gRPC server."""

    def __init__(self, settings: RoomSettings, authenticator: Authenticator, status: StatusBoard) -> None:
        self._settings = settings
        self._status = status
        self._server = grpc.aio.server(
            interceptors=(grpc_errors(authenticator, status.has_been_ready),), options=_OPTIONS
        )
        self._health: Any = None
        self.address = ""

    async def start(self, registers: list[Register]) -> None:
        """Registers every service, binds and serves; ConfigurationError when the port is taken."""
        from grpc_health.v1 import _async, health_pb2, health_pb2_grpc

        self._health = _async.HealthServicer()
        recorder = _Recorder(self._server)
        common_pb2_grpc.add_RoomServicer_to_server(RoomService(self._status), recorder)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, recorder)
        for register in registers:
            register(recorder)  # type: ignore[arg-type]  # the recorder stands in for the server
        self._reflect(recorder.services)
        host, port = split_bind(self._settings.grpc_bind)
        self.address = f"{host}:{self._bind(f'{host}:{port}')}"
        await self._server.start()
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Refuses new calls, lets those in hand end within the drain time."""
        if self._health is not None:
            await self._health.enter_graceful_shutdown()
        await self._server.stop(self._settings.drain_s)

    def _bind(self, address: str) -> int:
        try:
            if not self._settings.tls_cert:
                return int(self._server.add_insecure_port(address))
            pair = (Path(self._settings.tls_key).read_bytes(), Path(self._settings.tls_cert).read_bytes())
            return int(self._server.add_secure_port(address, grpc.ssl_server_credentials([pair])))
        except (RuntimeError, OSError) as error:
            raise ConfigurationError(
                f"cannot listen on {address} (gRPC): {_why(error)}; set MILLRACE_GRPC_BIND"
            ) from error

    def _reflect(self, services: list[str]) -> None:
        from grpc_reflection.v1alpha import reflection

        reflection.enable_server_reflection((*services, reflection.SERVICE_NAME), self._server)


class _Recorder:
    """Stands in for the server while services register, and notes their names for reflection."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server
        self.services: list[str] = []

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self.services.extend(h.service_name() for h in handlers if hasattr(h, "service_name"))
        self._server.add_generic_rpc_handlers(handlers)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)


class _QuietServer(uvicorn.Server):
    """Uvicorn without signal handlers of its own: the room decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpListener:
    """Binds, serves and drains the HTTP server."""

    def __init__(self, settings: RoomSettings) -> None:
        self._settings = settings
        self._server: _QuietServer | None = None
        self._task: asyncio.Task[None] | None = None
        self.address = ""

    async def start(self, app: FastAPI) -> None:
        """Binds and serves the app; ConfigurationError when the port is taken."""
        host, port = split_bind(self._settings.http_bind)
        listener = _listen(host, port)
        self.address = f"{host}:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            ssl_certfile=self._settings.tls_cert or None,
            ssl_keyfile=self._settings.tls_key or None,
            timeout_graceful_shutdown=int(self._settings.drain_s),
        )
        self._server = _QuietServer(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]), name="http")

    async def stop(self) -> None:
        """Refuses new requests, lets those in hand end within the drain time."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port} (HTTP): {_why(error)}; set MILLRACE_HTTP_BIND"
        ) from error
    listener.setblocking(False)
    return listener


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "address in use or not of this machine"
