"""inference.GRPCInferenceService: the Open Inference Protocol, for any client that speaks it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc
import millrace
from millrace import oip
from millrace.oip import messages
from millrace.runtime.errors import RoomError

from services.inference.domain.tensors import TensorSpec
from services.inference.errors import BadRequest
from services.inference.handlers.infer import Inference, Inferred, Inferrer
from services.inference.handlers.releases import READY, Releases
from services.inference.handlers.serving import Loaded, Serving

from .rpc import DeadlineFor

SERVER_NAME = "millrace"
PLATFORM = "onnxruntime_onnx"
EXTENSIONS = ("model_repository", "model_configuration")
_CONFIG_TYPES = {"BYTES": "TYPE_STRING"}
_STATES = {READY: "READY", "loading": "LOADING"}
Context = grpc.aio.ServicerContext[Any, Any]


class OpenInference(oip.GRPCInferenceServicer):
    """Decodes, calls, encodes."""

    def __init__(
        self,
        serving: Serving,
        releases: Releases,
        inferrer: Inferrer,
        deadline_for: DeadlineFor,
        is_ready: Callable[[], bool],
    ) -> None:
        self._serving = serving
        self._releases = releases
        self._inferrer = inferrer
        self._deadline_for = deadline_for
        self._is_ready = is_ready

    async def ServerLive(self, request: messages.ServerLiveRequest, context: Context) -> messages.ServerLiveResponse:
        """It answers, so it lives."""
        return messages.ServerLiveResponse(live=True)

    async def ServerReady(self, request: messages.ServerReadyRequest, context: Context) -> messages.ServerReadyResponse:
        """Whether requests are welcome."""
        return messages.ServerReadyResponse(ready=self._is_ready())

    async def ModelReady(self, request: messages.ModelReadyRequest, context: Context) -> messages.ModelReadyResponse:
        """Whether the model, or the named version, would answer now."""
        return messages.ModelReadyResponse(ready=is_model_ready(self._serving, request.name, request.version))

    async def ServerMetadata(
        self, request: messages.ServerMetadataRequest, context: Context
    ) -> messages.ServerMetadataResponse:
        """Who answers here."""
        return messages.ServerMetadataResponse(name=SERVER_NAME, version=millrace.__version__, extensions=EXTENSIONS)

    async def ModelMetadata(
        self, request: messages.ModelMetadataRequest, context: Context
    ) -> messages.ModelMetadataResponse:
        """Inputs and outputs of the champion, or of the named version."""
        loaded, versions = described(self._serving, request.name, request.version)
        return messages.ModelMetadataResponse(
            name=request.name,
            versions=[str(v) for v in versions],
            platform=PLATFORM,
            inputs=[_tensor_metadata(s) for s in loaded.session.inputs],
            outputs=[_tensor_metadata(s) for s in loaded.session.outputs],
        )

    async def ModelConfig(self, request: messages.ModelConfigRequest, context: Context) -> messages.ModelConfigResponse:
        """What load generators want to know: names, types and whole shapes."""
        loaded, _ = described(self._serving, request.name, request.version)
        config = messages.ModelConfig(name=request.name, platform=PLATFORM, backend="onnxruntime", max_batch_size=0)
        for field, specs in ((config.input, loaded.session.inputs), (config.output, loaded.session.outputs)):
            for spec in specs:
                kind = messages.DataType.Value(_CONFIG_TYPES.get(spec.datatype, f"TYPE_{spec.datatype}"))
                field.add(name=spec.name, data_type=kind, dims=spec.shape)
        return messages.ModelConfigResponse(config=config)

    async def RepositoryIndex(
        self, request: messages.RepositoryIndexRequest, context: Context
    ) -> messages.RepositoryIndexResponse:
        """Every version that a plan names, with its state."""
        reply = messages.RepositoryIndexResponse()
        for model, state in self._releases.states.items():
            for version, variant in sorted(state.variants.items()):
                told = _STATES.get(variant.state, "UNAVAILABLE")
                if told == "READY" or not request.ready:
                    reply.models.add(name=model, version=str(version), state=told, reason=variant.reason)
        return reply

    async def ModelInfer(self, request: messages.ModelInferRequest, context: Context) -> messages.ModelInferResponse:
        """One request."""
        return await self._infer(request, context)

    async def ModelStreamInfer(
        self, request_iterator: AsyncIterator[messages.ModelInferRequest], context: Context
    ) -> AsyncIterator[messages.ModelStreamInferResponse]:
        """One response per request, in order; a failure is told in its place and the stream goes on."""
        async for request in request_iterator:
            try:
                yield messages.ModelStreamInferResponse(infer_response=await self._infer(request, context))
            except RoomError as error:
                response = messages.ModelInferResponse(id=request.id)
                yield messages.ModelStreamInferResponse(error_message=str(error), infer_response=response)

    async def _infer(self, request: messages.ModelInferRequest, context: Context) -> messages.ModelInferResponse:
        asked = decode(request)
        inferred = await self._inferrer.infer(asked, self._deadline_for(context.time_remaining()))
        return encode(inferred, raw=bool(request.raw_input_contents))


def decode(request: messages.ModelInferRequest) -> Inference:
    """The question in a request. Raises BadRequest."""
    try:
        tensors = oip.decode_request(request)
    except oip.TensorError as error:
        raise BadRequest(str(error)) from None
    return Inference(
        model=request.model_name,
        version=request.model_version,
        request_id=request.id,
        routing_key=_routing_key(request.parameters),
        tensors=tensors,
        datatypes={t.name: t.datatype for t in request.inputs},
        outputs=[o.name for o in request.outputs],
    )


def encode(inferred: Inferred, *, raw: bool) -> messages.ModelInferResponse:
    """The response, in the form (raw or typed) in which the request came; types without a typed form make it raw."""
    response = messages.ModelInferResponse(
        model_name=inferred.model, model_version=str(inferred.version), id=inferred.request_id
    )
    response.parameters["sticky"].bool_param = inferred.is_sticky
    if inferred.prediction_id:
        response.parameters["prediction_id"].string_param = inferred.prediction_id
    raw = raw or any(spec.datatype == "FP16" for spec, _ in inferred.outputs)
    for spec, array in inferred.outputs:
        oip.add_output(response, spec.name, spec.datatype, array, raw=raw)
    return response


def is_model_ready(serving: Serving, model: str, version: str) -> bool:
    """Whether it would answer now; a model that is not known is not ready."""
    try:
        serving.version_of(model, version)
    except RoomError:
        return False
    return True


def described(serving: Serving, model: str, version: str) -> tuple[Loaded, list[int]]:
    """(the version whose tensors are told, all loaded versions). Raises UnknownModel."""
    live = serving.for_model(model)
    named = serving.version_of(model, version)
    default = live.loaded[live.router.rest.version]
    return named or default, sorted(live.loaded)


def _routing_key(parameters: Mapping[str, Any]) -> str:
    given = parameters.get("routing_key")
    if given is None:
        return ""
    kind = given.WhichOneof("parameter_choice")
    if kind not in ("string_param", "int64_param"):
        raise BadRequest(f"parameter routing_key is {kind}; expected a string or an integer")
    return str(getattr(given, kind))


def _tensor_metadata(spec: TensorSpec) -> messages.ModelMetadataResponse.TensorMetadata:
    return messages.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)


def register(service: OpenInference) -> Callable[[Any], None]:
    """What RoomProcess.add_grpc takes."""
    return lambda server: oip.add_servicer(service, server)
