"""Tensors between the wire and numpy: typed contents and raw binary, for every datatype of the protocol.

BYTES is an object array of `bytes`; raw, each element is a 4-byte little-endian length and its bytes. FP16 and BF16
have no typed form. numpy has no BF16: it is read into float32 and written by rounding to the nearest even.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .messages import InferTensorContents, ModelInferRequest, ModelInferResponse

Array = NDArray[np.generic]


class TensorError(ValueError):
    """A tensor that does not say what it claims; the text names the tensor and what was expected."""


@dataclass(frozen=True, slots=True)
class Datatype:
    """One datatype: its numpy form, its width in the raw form (0: varies), its field of typed contents ("": none)."""

    name: str
    dtype: np.dtype[np.generic]
    size_bytes: int
    field: str


DATATYPES: Mapping[str, Datatype] = {
    name: Datatype(name, np.dtype(dtype), size_bytes, field)
    for name, dtype, size_bytes, field in (
        ("BOOL", "bool", 1, "bool_contents"),
        ("UINT8", "<u1", 1, "uint_contents"),
        ("UINT16", "<u2", 2, "uint_contents"),
        ("UINT32", "<u4", 4, "uint_contents"),
        ("UINT64", "<u8", 8, "uint64_contents"),
        ("INT8", "<i1", 1, "int_contents"),
        ("INT16", "<i2", 2, "int_contents"),
        ("INT32", "<i4", 4, "int_contents"),
        ("INT64", "<i8", 8, "int64_contents"),
        ("FP16", "<f2", 2, ""),
        ("BF16", "<f4", 2, ""),
        ("FP32", "<f4", 4, "fp32_contents"),
        ("FP64", "<f8", 8, "fp64_contents"),
        ("BYTES", "object", 0, "bytes_contents"),
    )
}
_CONTENT_FIELDS = tuple(f.name for f in InferTensorContents.DESCRIPTOR.fields)


def datatype(name: str) -> Datatype:
    """The datatype called `name`; TensorError names those there are."""
    found = DATATYPES.get(name)
    if found is None:
        raise TensorError(f"datatype {name!r} is not known; expected one of {', '.join(DATATYPES)}")
    return found


def decode_request(request: ModelInferRequest) -> dict[str, Array]:
    """Input name -> array in the declared shape. TensorError when the request contradicts itself."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise TensorError(f"raw_input_contents has {len(raw)} entries; expected {len(request.inputs)}, one per input")
    arrays: dict[str, Array] = {}
    for position, tensor in enumerate(request.inputs):
        if tensor.name in arrays:
            raise TensorError(f"input {tensor.name!r} is given twice; expected each input once")
        try:
            if not raw:
                arrays[tensor.name] = from_contents(tensor.contents, tensor.datatype, tensor.shape)
            elif _filled(tensor.contents):
                raise TensorError("has typed contents beside raw_input_contents; expected one form for all inputs")
            else:
                arrays[tensor.name] = from_raw(raw[position], tensor.datatype, tensor.shape)
        except TensorError as error:
            raise TensorError(f"input {tensor.name!r}: {error}") from None
    return arrays


def decode_response(response: ModelInferResponse) -> dict[str, Array]:
    """Output name -> array, from either form. TensorError when the response contradicts itself."""
    raw = response.raw_output_contents
    return {
        tensor.name: from_raw(raw[position], tensor.datatype, tensor.shape)
        if raw
        else from_contents(tensor.contents, tensor.datatype, tensor.shape)
        for position, tensor in enumerate(response.outputs)
    }


def add_output(response: ModelInferResponse, name: str, kind: str, array: Array, *, raw: bool) -> None:
    """Append an output tensor. Kinds without a typed form travel raw only: then every output must be raw."""
    output = response.outputs.add(name=name, datatype=kind, shape=array.shape)
    if raw:
        response.raw_output_contents.append(to_raw(array, kind))
    else:
        fill_contents(output.contents, array, kind)


def from_contents(contents: InferTensorContents, kind: str, shape: Sequence[int]) -> Array:
    """Typed contents as an array of `shape`."""
    known = datatype(kind)
    count = element_count(shape)
    if not known.field:
        raise TensorError(f"{kind} has no typed contents; expected raw_input_contents")
    strangers = [f for f in _filled(contents) if f != known.field]
    if strangers:
        raise TensorError(f"{kind} values are in {strangers[0]}; expected {known.field}")
    values = getattr(contents, known.field)
    if len(values) != count:
        raise TensorError(f"{known.field} has {len(values)} values; expected {count} for shape {list(shape)}")
    if kind == "BYTES":
        return _objects(list(values)).reshape(tuple(shape))
    try:
        return np.array(list(values), dtype=known.dtype).reshape(tuple(shape))
    except OverflowError:
        raise TensorError(f"a value does not fit into {kind}; expected {_range(known)}") from None


def from_raw(data: bytes, kind: str, shape: Sequence[int]) -> Array:
    """Raw binary as an array of `shape`; numbers share `data`'s memory and are read-only."""
    known = datatype(kind)
    count = element_count(shape)
    if kind == "BYTES":
        return _objects(_split(data, count)).reshape(tuple(shape))
    if len(data) != count * known.size_bytes:
        expected = f"expected {count * known.size_bytes} for {kind} of shape {list(shape)}"
        raise TensorError(f"raw contents have {len(data)} bytes; {expected}")
    if kind == "BF16":
        widened = np.frombuffer(data, dtype="<u2").astype("<u4") << 16
        return widened.view("<f4").reshape(tuple(shape))
    return np.frombuffer(data, dtype=known.dtype).reshape(tuple(shape))


def to_raw(array: Array, kind: str) -> bytes:
    """Row-major raw binary of `array`. Text is encoded as UTF-8."""
    if kind == "BYTES":
        parts = [_as_bytes(v) for v in array.ravel().tolist()]
        return b"".join(piece for part in parts for piece in (struct.pack("<I", len(part)), part))
    if kind == "BF16":
        bits = np.ascontiguousarray(array, dtype="<f4").view("<u4").astype("<u8")
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        quiet = np.where(np.isnan(np.asarray(array, dtype="<f4")), (bits >> 16) | 0x40, rounded)
        return quiet.astype("<u2").tobytes()
    return np.ascontiguousarray(array, dtype=datatype(kind).dtype).tobytes()


def fill_contents(contents: InferTensorContents, array: Array, kind: str) -> None:
    """Write `array` into the typed field of `kind`."""
    known = datatype(kind)
    if not known.field:
        raise TensorError(f"{kind} has no typed contents; expected the raw form")
    values = array.ravel().tolist()
    getattr(contents, known.field).extend([_as_bytes(v) for v in values] if kind == "BYTES" else values)


def element_count(shape: Sequence[int]) -> int:
    """Number of elements of `shape`; TensorError when a dimension is negative."""
    if any(d < 0 for d in shape):
        raise TensorError(f"shape {list(shape)} has a negative dimension; expected sizes of 0 or more")
    return math.prod(shape)


def _split(data: bytes, count: int) -> list[bytes]:
    """`count` length-prefixed elements that fill `data` exactly."""
    if count * 4 > len(data):
        raise TensorError(f"raw BYTES have {len(data)} bytes; expected at least {count * 4} for {count} elements")
    elements: list[bytes] = []
    at = 0
    for index in range(count):
        if at + 4 > len(data):
            raise TensorError(f"raw BYTES end before element {index}; expected {count} elements")
        length = int.from_bytes(data[at : at + 4], "little")
        at += 4 + length
        if at > len(data):
            raise TensorError(f"raw BYTES element {index} is cut short; expected {length} bytes")
        elements.append(data[at - length : at])
    if at != len(data):
        raise TensorError(f"raw BYTES have {len(data) - at} bytes left over; expected exactly {count} elements")
    return elements


def _objects(values: list[bytes]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _as_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _filled(contents: InferTensorContents) -> list[str]:
    return [f for f in _CONTENT_FIELDS if len(getattr(contents, f))]


def _range(known: Datatype) -> str:
    limits = np.iinfo(known.dtype.name)
    return f"{limits.min} to {limits.max}"
