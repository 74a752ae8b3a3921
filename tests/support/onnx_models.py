"""Small ONNX models that keep the contract: one graph input per column, [N], FP32 or STRING; one output, [N]."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
from millrace.stores.objects import digest_of
from onnx import TensorProto, helper
from onnx import numpy_helper as arrays

OPSET = 17


def classifier(
    weights: Mapping[str, float],
    texts: Mapping[str, Mapping[str, float]] | None = None,
    *,
    bias: float = 0.0,
    output: str = "probability",
) -> bytes:
    """sigmoid(bias + Σ weight · number (a missing one counts 0) + Σ table[text]), one input per name."""
    nodes, terms, constants = [], [], [_constant("bias", [bias])]
    for name, weight in weights.items():
        constants += [_constant(f"{name}/zero", [0.0]), _constant(f"{name}/weight", [weight])]
        nodes += [
            helper.make_node("IsNaN", [name], [f"{name}/missing"]),
            helper.make_node("Where", [f"{name}/missing", f"{name}/zero", name], [f"{name}/filled"]),
            helper.make_node("Mul", [f"{name}/filled", f"{name}/weight"], [f"{name}/term"]),
        ]
        terms.append(f"{name}/term")
    for name, table in (texts or {}).items():
        nodes.append(
            helper.make_node(
                "LabelEncoder",
                [name],
                [f"{name}/term"],
                domain="ai.onnx.ml",
                keys_strings=list(table),
                values_floats=list(table.values()),
                default_float=0.0,
            )
        )
        terms.append(f"{name}/term")
    nodes += [
        helper.make_node("Sum", terms, ["sum"]),
        helper.make_node("Add", ["sum", "bias"], ["score"]),
        helper.make_node("Sigmoid" if output == "probability" else "Identity", ["score"], [output]),
    ]
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N"]) for n in weights]
    inputs += [helper.make_tensor_value_info(n, TensorProto.STRING, ["N"]) for n in texts or {}]
    return _model(nodes, inputs, [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N"])], constants)


def identity(element: int, shape: Sequence[int | str] = ("N", 2)) -> bytes:
    """`y` = `x`, of any element type and shape: what a model brought from outside may look like."""
    node = helper.make_node("Identity", ["x"], ["y"])
    inputs = [helper.make_tensor_value_info("x", element, list(shape))]
    return _model([node], inputs, [helper.make_tensor_value_info("y", element, list(shape))], [])


def fragile(name: str, limit: int) -> bytes:
    """A model that fails when it runs on more than `limit` rows, and at no other time."""
    nodes = [
        helper.make_node("Gather", ["table", "last"], ["picked"]),
        helper.make_node("Shape", [name], ["shape"]),
        helper.make_node("Sub", ["shape", "one"], ["last"]),
        helper.make_node("Mul", [name, "picked"], ["probability"]),
    ]
    nodes = [nodes[1], nodes[2], nodes[0], nodes[3]]
    constants = [_constant("table", [0.5] * limit), arrays.from_array(np.array([1], dtype=np.int64), "one")]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"])]
    return _model(nodes, inputs, [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N"])], constants)


def bundle(model: bytes, *, project: str = "shop", name: str = "returns", spoil: float = 0.0) -> bytes:
    """The model's bundle, with golden rows of its own making; `spoil` shifts what they expect."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    columns = [(i.name, "BYTES" if i.type == "tensor(string)" else "FP32") for i in session.get_inputs()]
    output = session.get_outputs()[0].name
    values = {n: [None, "a", "b", ""] if kind == "BYTES" else [None, 0.0, 1.0, -2.5] for n, kind in columns}
    feeds = {
        n: np.array([v or "" for v in values[n]], dtype=object)
        if kind == "BYTES"
        else np.array([np.nan if v is None else v for v in values[n]], dtype=np.float32)
        for n, kind in columns
    }
    rows = [{n: a[i : i + 1] for n, a in feeds.items()} for i in range(4)]
    outputs = [float(session.run([output], row)[0][0]) for row in rows]
    document = {
        "format": "millrace.bundle/1",
        "project": project,
        "model": name,
        "task": "binary",
        "inputs": [{"name": n, "datatype": kind} for n, kind in columns],
        "output": output,
        "definition_version": 1,
        "golden": {"inputs": values, "outputs": [o + spoil for o in outputs], "tolerance": 1e-4},
    }
    return json.dumps(document).encode()


def digests(*parts: bytes) -> tuple[str, ...]:
    """`sha256:<hex>` of each."""
    return tuple(digest_of(p) for p in parts)


def _constant(name: str, values: list[float]) -> onnx.TensorProto:
    return arrays.from_array(np.array(values, dtype=np.float32), name)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: list[onnx.TensorProto],
) -> bytes:
    graph = helper.make_graph(nodes, "model", inputs, outputs, initializer=constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
