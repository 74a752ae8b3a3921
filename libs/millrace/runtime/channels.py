"""Outgoing gRPC: one way to open a channel to a room, with TLS, token and trace as the settings say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from millrace.runtime import trace

if TYPE_CHECKING:
    from millrace.runtime.settings import RoomSettings

MAX_MESSAGE_BYTES = 64 * 1024 * 1024  # one bulk batch or one page of Arrow
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Reconnect quickly: rooms restart in about a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Several channels to one address must be several connections.
    ("grpc.use_local_subchannel_pool", 1),
)


def channel(address: str, settings: RoomSettings) -> grpc.aio.Channel:
    """A channel to a room at host:port. Nothing is connected before the first call."""
    root = Path(settings.tls_ca).read_bytes() if settings.tls_ca else None
    return open_channel(
        address, token=settings.token, root_certificates=root, secure=bool(settings.tls_ca or settings.tls_cert)
    )


def open_channel(
    address: str,
    *,
    token: str = "",
    root_certificates: bytes | None = None,
    secure: bool = False,
    is_bare: bool = False,
) -> grpc.aio.Channel:
    """As `channel`, for processes without room settings. `is_bare`: each call gets `outgoing_metadata` from its caller,
    and costs a fifth less."""
    kinds = () if is_bare else (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream)
    interceptors: Sequence[Any] = [kind(token) for kind in kinds]
    if secure:
        credentials = grpc.ssl_channel_credentials(root_certificates)
        return grpc.aio.secure_channel(address, credentials, options=OPTIONS, interceptors=interceptors)
    return grpc.aio.insecure_channel(address, options=OPTIONS, interceptors=interceptors)


def outgoing_metadata(token: str) -> list[tuple[str, str]]:
    """What a call carries: who asks, and the trace of the call being served."""
    extra = []
    if token:
        extra.append(("authorization", f"Bearer {token}"))
    if trace.current():
        extra.append((trace.HEADER, trace.current()))
    return extra


class _Outgoing:
    def __init__(self, token: str) -> None:
        self._token = token

    def details(self, details: Any) -> Any:
        extra = outgoing_metadata(self._token)
        return details._replace(metadata=(*(details.metadata or ()), *extra)) if extra else details


class _UnaryUnary(_Outgoing, grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self.details(client_call_details), request)


class _UnaryStream(_Outgoing, grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self.details(client_call_details), request)


class _StreamUnary(_Outgoing, grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(self.details(client_call_details), request_iterator)


class _StreamStream(_Outgoing, grpc.aio.StreamStreamClientInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(self.details(client_call_details), request_iterator)
