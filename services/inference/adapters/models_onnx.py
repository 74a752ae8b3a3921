"""Models in ONNX Runtime, on the processor, with threads that are stated and not guessed from the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime

from services.inference.domain.tensors import Array, TensorSpec
from services.inference.errors import ModelRejected

# Names of ONNX Runtime's element types in the Open Inference Protocol.
DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


class OnnxSessions:
    """Loads sessions."""

    def __init__(self, *, intra_threads: int, inter_threads: int) -> None:
        self._intra_threads = intra_threads
        self._inter_threads = inter_threads

    def load(self, model: bytes) -> OnnxSession:
        """A session over the serialized model; ModelRejected says why there is none."""
        try:
            return OnnxSession(onnxruntime.InferenceSession(model, self._options(), providers=["CPUExecutionProvider"]))
        except ModelRejected:
            raise
        except Exception as error:  # the engine's errors share no base class
            raise ModelRejected(f"the engine refuses the model: {_line(error)}") from error

    def _options(self) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._intra_threads
        options.inter_op_num_threads = self._inter_threads
        options.log_severity_level = 3
        # Batches vary in size: plans and arenas made for each would only grow.
        options.enable_mem_pattern = False
        options.enable_cpu_mem_arena = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options


class OnnxSession:
    """One loaded model; `run` may be called from any thread."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self.inputs = tuple(_spec(i) for i in session.get_inputs())
        self.outputs = tuple(_spec(o) for o in session.get_outputs())
        if not self.outputs:
            raise ModelRejected("the model has no output")

    def run(self, feeds: Mapping[str, Array], names: Sequence[str]) -> list[Array]:
        """The named outputs."""
        return [np.asarray(a) for a in self._session.run(list(names), dict(feeds))]


def _spec(node: onnxruntime.NodeArg) -> TensorSpec:
    if node.type not in DATATYPES:
        raise ModelRejected(f"{node.name} is {node.type}; only dense tensors of standard types are served")
    shape = tuple(d if isinstance(d, int) else -1 for d in node.shape or ())
    return TensorSpec(node.name, DATATYPES[node.type], shape)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
