"""A model's bundle: the metadata that is stored beside its ONNX file, and its golden rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .tensors import Array, Column, TensorSpec, feeds_of

FORMAT = "millrace.bundle/1"
_TEXT = {"FP32": False, "BYTES": True}


class BundleError(ValueError):
    """A bundle that cannot be read, does not fit its model, or whose golden rows are not met."""


@dataclass(frozen=True, slots=True)
class Golden:
    """Rows with known answers, made where the model was made."""

    rows: tuple[tuple[float | str, ...], ...]
    outputs: tuple[float, ...]
    tolerance: float


@dataclass(frozen=True, slots=True)
class Bundle:
    """What serving needs of a bundle: the columns of a request by key, the output, the golden rows (if any)."""

    columns: tuple[Column, ...]
    output: str
    golden: Golden | None = None


def parse_bundle(data: bytes) -> Bundle:
    """The bundle in `data` (JSON); BundleError says what is wrong with it."""
    try:
        document = json.loads(data)
        if document.get("format") != FORMAT:
            raise BundleError(f"bundle format is {document.get('format')!r}; expected {FORMAT!r}")
        columns = tuple(Column(i["name"], _TEXT[i["datatype"]]) for i in document["inputs"])
        return Bundle(columns, str(document["output"]), _golden(columns, document.get("golden")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"bundle cannot be read: {type(error).__name__}: {error}") from error


def bundle_of(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Bundle:
    """The bundle of a model that came without one: all that its own graph tells."""
    return Bundle(tuple(Column(s.name, s.datatype == "BYTES") for s in inputs), outputs[0].name)


def check_fit(bundle: Bundle, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """BundleError unless bundle and graph name the same inputs, of the same kinds, and the output is there."""
    told = {c.name: "BYTES" if c.is_text else "FP32" for c in bundle.columns}
    seen = {s.name: s.datatype for s in inputs}
    if told != seen:
        names = sorted(n for n in told.keys() | seen.keys() if told.get(n) != seen.get(n))
        pairs = ", ".join(f"{n}: bundle {told.get(n, 'none')}, graph {seen.get(n, 'none')}" for n in names)
        raise BundleError(f"bundle and graph differ in their inputs: {pairs}")
    if bundle.output not in {s.name for s in outputs}:
        raise BundleError(f"the graph has no output {bundle.output!r}")


def golden_feeds(bundle: Bundle) -> dict[str, Array]:
    """The golden rows as the model's inputs; empty when there are none."""
    return feeds_of(bundle.columns, bundle.golden.rows) if bundle.golden else {}


def check_golden(golden: Golden, outputs: Array) -> None:
    """BundleError when an output is off by more than the tolerance (relative beyond 1 in size)."""
    expected = np.asarray(golden.outputs, dtype=np.float64)
    seen = np.asarray(outputs, dtype=np.float64).reshape(-1)
    if seen.shape != expected.shape:
        raise BundleError(f"golden rows gave {seen.size} outputs; expected {expected.size}")
    limit = golden.tolerance * np.maximum(1.0, np.abs(expected))
    wrong = ~(np.abs(seen - expected) <= limit)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise BundleError(f"golden row {row} gave {seen[row]:.6g}; expected {expected[row]:.6g} ± {limit[row]:.2g}")


def _golden(columns: tuple[Column, ...], golden: Mapping[str, Any] | None) -> Golden | None:
    if not golden or not golden.get("outputs"):
        return None
    count = len(golden["outputs"])
    values = [golden["inputs"][c.name] for c in columns]
    if any(len(v) != count for v in values):
        raise BundleError(f"golden inputs and outputs differ in number; expected {count} each")
    rows = tuple(tuple(c.take(v[i]) for c, v in zip(columns, values, strict=True)) for i in range(count))
    return Golden(rows, tuple(float(v) for v in golden["outputs"]), float(golden.get("tolerance", 1e-4)))
