"""The Open Inference Protocol over HTTP, with JSON tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from fastapi import APIRouter
from fastapi.responses import JSONResponse
from millrace.oip.tensors import TensorError, datatype, element_count
from pydantic import BaseModel, Field

from services.inference.domain.tensors import Array, TensorSpec
from services.inference.errors import BadRequest
from services.inference.handlers.infer import Inference, Inferred, Inferrer
from services.inference.handlers.serving import Serving

from .oip import PLATFORM, described, is_model_ready
from .rpc import DeadlineFor


class Tensor(BaseModel):
    """One input: data flat or nested, row-major; null is a missing number."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any]
    parameters: dict[str, Any] = Field(default_factory=dict)


class RequestedOutput(BaseModel):
    """One output by name."""

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)


class InferBody(BaseModel):
    """An inference request."""

    id: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    inputs: list[Tensor]
    outputs: list[RequestedOutput] = Field(default_factory=list)


def router(serving: Serving, inferrer: Inferrer, deadline_for: DeadlineFor, is_ready: Callable[[], bool]) -> APIRouter:
    """The routes below /v2."""
    routes = APIRouter(prefix="/v2")

    @routes.get("/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @routes.get("/health/ready")
    async def ready() -> JSONResponse:
        return _readiness(is_ready())

    @routes.get("/models/{model}/ready")
    @routes.get("/models/{model}/versions/{version}/ready")
    async def model_ready(model: str, version: str = "") -> JSONResponse:
        return _readiness(is_model_ready(serving, model, version))

    @routes.get("/models/{model}")
    @routes.get("/models/{model}/versions/{version}")
    async def metadata(model: str, version: str = "") -> dict[str, Any]:
        loaded, versions = described(serving, model, version)
        return {
            "name": model,
            "versions": [str(v) for v in versions],
            "platform": PLATFORM,
            "inputs": [_metadata(s) for s in loaded.session.inputs],
            "outputs": [_metadata(s) for s in loaded.session.outputs],
        }

    @routes.post("/models/{model}/infer")
    @routes.post("/models/{model}/versions/{version}/infer")
    async def infer(model: str, body: InferBody, version: str = "") -> JSONResponse:
        return JSONResponse(encode(await inferrer.infer(decode(body, model, version), deadline_for(None))))

    return routes


def decode(body: InferBody, model: str, version: str) -> Inference:
    """The question in a body. Raises BadRequest."""
    routing_key = body.parameters.get("routing_key", "")
    if isinstance(routing_key, bool) or not isinstance(routing_key, (str, int)):
        raise BadRequest(f"parameter routing_key is {routing_key!r}; expected a string or an integer")
    names = [t.name for t in body.inputs]
    if len(set(names)) != len(names):
        raise BadRequest("an input is given twice; expected each input once")
    return Inference(
        model=model,
        version=version,
        request_id=body.id,
        routing_key=str(routing_key),
        tensors={t.name: _array(t) for t in body.inputs},
        datatypes={t.name: t.datatype for t in body.inputs},
        outputs=[o.name for o in body.outputs],
    )


def encode(inferred: Inferred) -> dict[str, Any]:
    """The response's JSON; a number that JSON cannot say is null."""
    parameters: dict[str, Any] = {"sticky": inferred.is_sticky}
    if inferred.prediction_id:
        parameters["prediction_id"] = inferred.prediction_id
    outputs = [
        {"name": spec.name, "datatype": spec.datatype, "shape": list(array.shape), "data": _values(array)}
        for spec, array in inferred.outputs
    ]
    return {
        "model_name": inferred.model,
        "model_version": str(inferred.version),
        "id": inferred.request_id,
        "parameters": parameters,
        "outputs": outputs,
    }


def _array(tensor: Tensor) -> Array:
    try:
        known = datatype(tensor.datatype)
        count = element_count(tensor.shape)
        flat = _flat(tensor.data)
        if len(flat) != count:
            raise TensorError(f"data has {len(flat)} values; expected {count} for shape {tensor.shape}")
        if tensor.datatype == "BYTES":
            return _texts(flat).reshape(tensor.shape)
        if known.dtype.kind == "f":
            flat = [np.nan if v is None else v for v in flat]
        if any(isinstance(v, str) or v is None or (isinstance(v, float) and known.dtype.kind in "iu") for v in flat):
            raise TensorError(f"data has a value that is not {tensor.datatype}")
        return np.array(flat, dtype=known.dtype).reshape(tensor.shape)
    except (TensorError, OverflowError, ValueError, TypeError) as error:
        raise BadRequest(f"input {tensor.name!r}: {error}") from None


def _texts(flat: list[Any]) -> Array:
    if not all(isinstance(v, str) for v in flat):
        raise TensorError("data has a value that is not text")
    array = np.empty(len(flat), dtype=object)
    array[:] = [v.encode() for v in flat]
    return array


def _flat(data: list[Any]) -> list[Any]:
    """Nested lists as one; the depth is bounded because JSON's parser bounds it."""
    return [leaf for item in data for leaf in (_flat(item) if isinstance(item, list) else [item])]


def _values(array: Array) -> list[Any]:
    values = array.ravel().tolist()
    if array.dtype.kind == "f":
        return [v if np.isfinite(v) else None for v in values]
    return [v.decode(errors="replace") if isinstance(v, bytes) else v for v in values]


def _metadata(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _readiness(ready: bool) -> JSONResponse:
    return JSONResponse({"ready": ready}, status_code=200 if ready else 503)
