"""The Open Inference Protocol v2 over gRPC, safe to import beside any other library that carries it.

`messages` has the protocol's messages, `service` its handlers and stub, `tensors` the way to and from numpy.
"""

from . import messages
from .service import SERVICE, GRPCInferenceServicer, GRPCInferenceServiceStub, add_servicer
from .tensors import TensorError, add_output, decode_request, decode_response, fill_contents, to_raw

__all__ = [
    "SERVICE",
    "GRPCInferenceServiceStub",
    "GRPCInferenceServicer",
    "TensorError",
    "add_output",
    "add_servicer",
    "decode_request",
    "decode_response",
    "fill_contents",
    "messages",
    "to_raw",
]
