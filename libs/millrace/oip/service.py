"""The gRPC service of the Open Inference Protocol: generic handlers for a server, callables for a client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from . import messages

SERVICE = "inference.GRPCInferenceService"


class GRPCInferenceServicer:
    """Base of a server: one coroutine per call; a call that is not overridden answers UNIMPLEMENTED."""

    ServerLive: Callable[..., Any]
    ServerReady: Callable[..., Any]
    ModelReady: Callable[..., Any]
    ServerMetadata: Callable[..., Any]
    ModelMetadata: Callable[..., Any]
    ModelInfer: Callable[..., Any]
    ModelStreamInfer: Callable[..., Any]
    ModelConfig: Callable[..., Any]
    RepositoryIndex: Callable[..., Any]


def add_servicer(servicer: GRPCInferenceServicer, server: grpc.aio.Server | grpc.Server) -> None:
    """Register the calls that `servicer` has on a grpc or grpc.aio server."""
    handlers = {}
    for method in messages.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
        behaviour = getattr(servicer, method.name, None)
        if behaviour is not None:
            make = _HANDLERS[method.client_streaming, method.server_streaming]
            handlers[method.name] = make(
                behaviour,
                request_deserializer=_message_class(method.input_type.name).FromString,
                response_serializer=_message_class(method.output_type.name).SerializeToString,
            )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


class GRPCInferenceServiceStub:
    """Client side: one callable per call, on a grpc or grpc.aio channel."""

    def __init__(self, channel: grpc.aio.Channel | grpc.Channel) -> None:
        for method in messages.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
            open_call = getattr(channel, _CALLS[method.client_streaming, method.server_streaming])
            call = open_call(
                f"/{SERVICE}/{method.name}",
                request_serializer=_message_class(method.input_type.name).SerializeToString,
                response_deserializer=_message_class(method.output_type.name).FromString,
            )
            setattr(self, method.name, call)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(f"the Open Inference Protocol has no call {name}")


def _message_class(name: str) -> type[Message]:
    return getattr(messages, name)


# (the client streams, the server streams)
_HANDLERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
_CALLS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}
