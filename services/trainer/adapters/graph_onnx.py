"""Builds the one ONNX graph of a trained net: raw columns in, the calibrated answer out, all preprocessing inside.

Inputs are named as the project's model inputs, shape [N]: FP32 with NaN for missing, STRING with "" for missing. The
output is `probability` or `value`, FP32 [N]. The graph is written node by node from the weights, so it holds exactly
the operations that training used and no exporter is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from services.trainer.domain.calibration import Calibration
from services.trainer.domain.encoding import FIRST_CODE, MISSING_CODE, UNKNOWN_CODE, Encoding
from services.trainer.domain.job import NetSettings

OPSET, ML_OPSET, IR_VERSION = 17, 3, 9

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Head:
    """What is done with the net's number: calibrated log odds, or back to units of the label."""

    binary: bool
    calibration: Calibration = field(default_factory=Calibration)
    mean: float = 0.0
    scale: float = 1.0

    @property
    def output(self) -> str:
        """Name of the graph's output."""
        return "probability" if self.binary else "value"


class _Graph:
    """Collects nodes and constants under fresh names."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        array = np.ascontiguousarray(np.asarray(value, dtype=dtype)).reshape(np.shape(value))
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, *inputs: str, domain: str = "", output: str = "", **attributes: Any) -> str:
        name = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], domain=domain, **attributes))
        return name


def build_graph(encoding: Encoding, settings: NetSettings, weights: Weights, head: Head) -> bytes:
    """The serialised model; raises onnx.checker.ValidationError when it is not a valid graph."""
    graph = _Graph()
    dense = _dense(graph, encoding)
    codes = [_codes(graph, string.name, string.vocabulary) for string in encoding.strings]
    total = graph.constant(weights["bias"].reshape(1, 1))
    if settings.kind in ("linear", "wide-and-deep"):
        total = _wide(graph, weights, dense, codes, total)
    if settings.kind in ("mlp", "wide-and-deep"):
        total = graph.add("Add", total, _deep(graph, weights, dense, codes))
    _finish(graph, total, head)
    inputs = [helper.make_tensor_value_info(n.name, TensorProto.FLOAT, ["N"]) for n in encoding.numbers]
    inputs += [helper.make_tensor_value_info(s.name, TensorProto.STRING, ["N"]) for s in encoding.strings]
    outputs = [helper.make_tensor_value_info(head.output, TensorProto.FLOAT, ["N"])]
    body = helper.make_graph(graph.nodes, "millrace", inputs, outputs, graph.constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(body, opset_imports=opsets, ir_version=IR_VERSION, producer_name="millrace")
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _dense(graph: _Graph, encoding: Encoding) -> str:
    """Float [N, 2 * numbers]: standardised values, then missing flags. Empty name when there are no numbers."""
    if not encoding.numbers:
        return ""
    axis = graph.constant([1], np.int64)
    columns = [graph.add("Unsqueeze", number.name, axis) for number in encoding.numbers]
    raw = graph.add("Concat", *columns, axis=1)
    low, high, mean, scale = (
        graph.constant([getattr(number, part) for number in encoding.numbers])
        for part in ("low", "high", "mean", "scale")
    )
    missing = graph.add("IsNaN", raw)
    filled = graph.add("Where", missing, mean, raw)
    cut = graph.add("Min", graph.add("Max", filled, low), high)
    standard = graph.add("Mul", graph.add("Sub", cut, mean), scale)
    return graph.add("Concat", standard, graph.add("Cast", missing, to=TensorProto.FLOAT), axis=1)


def _codes(graph: _Graph, name: str, vocabulary: tuple[str, ...]) -> str:
    """Int64 [N]: the code of each string."""
    return graph.add(
        "LabelEncoder",
        name,
        domain="ai.onnx.ml",
        keys_strings=["", *vocabulary],
        values_int64s=[MISSING_CODE, *range(FIRST_CODE, FIRST_CODE + len(vocabulary))],
        default_int64=UNKNOWN_CODE,
    )


def _wide(graph: _Graph, weights: Weights, dense: str, codes: list[str], total: str) -> str:
    if dense:
        total = graph.add("Add", total, graph.add("MatMul", dense, graph.constant(weights["wide_dense"])))
    for place, code in enumerate(codes):
        table = graph.constant(weights[f"wide_tables.{place}"])
        total = graph.add("Add", total, graph.add("Gather", table, code, axis=0))
    return total


def _deep(graph: _Graph, weights: Weights, dense: str, codes: list[str]) -> str:
    tables = [graph.constant(weights[f"deep_tables.{place}"]) for place in range(len(codes))]
    parts = [graph.add("Gather", table, code, axis=0) for table, code in zip(tables, codes, strict=True)]
    hidden = graph.add("Concat", *([dense] if dense else []), *parts, axis=1)
    depth = sum(1 for name in weights if name.startswith("layers.") and name.endswith(".weight"))
    for layer in range(depth):
        weight = graph.constant(weights[f"layers.{layer}.weight"])
        hidden = graph.add("Gemm", hidden, weight, graph.constant(weights[f"layers.{layer}.bias"]), transB=1)
        if layer < depth - 1:
            hidden = graph.add("Relu", hidden)
    return hidden


def _finish(graph: _Graph, total: str, head: Head) -> None:
    slope, offset = (head.calibration.slope, 0.0) if head.binary else (head.scale, head.mean)
    total = graph.add("Add", graph.add("Mul", total, graph.constant(slope)), graph.constant(offset))
    if head.binary:
        total = graph.add("Sigmoid", total)
    graph.add("Reshape", total, graph.constant([-1], np.int64), output=head.output)
