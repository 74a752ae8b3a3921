"""gRPC as the commands use it: blocking stubs, one deadline per call, failures in the rooms' own words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from millrace.cli.errors import CliError
from millrace.cli.places import require_room

if TYPE_CHECKING:
    from millrace.definitions.model import Project

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
CALL_TIMEOUT_S = 30.0


@contextmanager
def stub(home: Path, room: str) -> Iterator[Any]:
    """The room's own service (`Registry`, `Trainer`, ...), inside a block that maps its failures to CliError."""
    place = require_room(home, room)
    with dial(place.grpc) as channel:
        try:
            yield _service(room)(channel)
        except grpc.RpcError as error:
            raise explain(error, room, place.grpc) from error


@contextmanager
def room_stub(address: str) -> Iterator[Any]:
    """The service `Room` that every room serves; grpc.RpcError passes through."""
    from millrace.wire.common.v1 import common_pb2_grpc

    with dial(address) as channel:
        yield common_pb2_grpc.RoomStub(channel)


def explain(error: grpc.RpcError, room: str, address: str = "") -> CliError:
    """One line from a failed call. INVALID_ARGUMENT may carry one finding per line: those become details."""
    code, text = error.code(), (error.details() or "").strip()
    if code is grpc.StatusCode.UNAVAILABLE and ("connect" in text.lower() or not text):
        return CliError(f"{room} at {address} cannot be reached (`millrace status` shows what runs)")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return CliError(f"{room} did not answer in time")
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return CliError(f"{room} wants a token (set MILLRACE_TOKEN): {text}")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    head = lines[0] if lines else code.name.lower().replace("_", " ")
    return CliError(f"{room}: {head}", details=lines[1:])


def dial(address: str) -> grpc.Channel:
    """A channel with the caller's token and the authority that `MILLRACE_TLS_CA` names."""
    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ]
    authority = os.environ.get("MILLRACE_TLS_CA", "")
    if authority:
        credentials = grpc.ssl_channel_credentials(Path(authority).read_bytes())
        channel = grpc.secure_channel(address, credentials, options)
    else:
        channel = grpc.insecure_channel(address, options)
    return grpc.intercept_channel(channel, *_interceptors(os.environ.get("MILLRACE_TOKEN", "")))


def _interceptors(token: str) -> list[Any]:
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    return [_Defaults(metadata)]


class _Defaults(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[type-arg]  # generic in the stubs only
    grpc.UnaryStreamClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[type-arg]
):
    """Adds the token, and a deadline where the caller gave none."""

    def __init__(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self._metadata = metadata

    def _details(self, details: Any) -> Any:
        return details._replace(
            metadata=(*(details.metadata or ()), *self._metadata), timeout=details.timeout or CALL_TIMEOUT_S
        )

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(self._details(client_call_details), request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(self._details(client_call_details), request)

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return continuation(self._details(client_call_details), request_iterator)


def _service(room: str) -> Any:
    from importlib import import_module

    module = import_module(f"millrace.wire.{room}.v1.service_pb2_grpc")
    return getattr(module, "".join(word.capitalize() for word in room.split("_")) + "Stub")


def definition(home: Path, project: str) -> Project:
    """The project's running definition."""
    from millrace.definitions import from_canonical_json
    from millrace.wire.registry.v1 import service_pb2

    with stub(home, "registry") as registry:
        published = registry.GetDefinition(service_pb2.GetDefinitionRequest(project=project))
    return from_canonical_json(published.canonical_json)


def clock_us(home: Path, project: str) -> int:
    """Where the project's clock stands; 0 when it never moved."""
    from millrace.wire.common.v1 import common_pb2

    address = require_room(home, "ingestion").grpc
    with room_stub(address) as room:
        try:
            return int(room.Describe(common_pb2.DescribeRequest()).watermarks_us[project])
        except grpc.RpcError as error:
            raise explain(error, "ingestion", address) from error
