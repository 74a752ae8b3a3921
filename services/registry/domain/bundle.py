"""The bundle: what a model's file does not say about itself, and the contract that every model's graph keeps.

One graph input per model input, shape [rows], numbers as FP32 (missing: NaN), texts as strings (missing: ""); the first
output is `probability` (binary) or `value` (regression), shape [rows]. A bundle holds its inputs, golden rows with
their outputs, and the reference distributions that drift is measured against.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from millrace.definitions.model import FieldType, Project, Task

FORMAT = "millrace.bundle/1"
GOLDEN_TOLERANCE = 1e-4
OUTPUTS = {Task.BINARY: "probability", Task.REGRESSION: "value"}
_TENSORS = {"FP32": "tensor(float)", "BYTES": "tensor(string)"}

Bundle = dict[str, Any]
Rows = Mapping[str, Sequence[Any]]


def expected_inputs(project: Project) -> dict[str, str]:
    """Input name to wire datatype, in the order of the definition."""
    return {i.name: "BYTES" if i.type is FieldType.STRING else "FP32" for i in project.model.inputs}


def graph_problems(project: Project, inputs: Mapping[str, tuple[str, int]], output: str) -> list[str]:
    """Where a graph breaks the contract; `inputs` maps name to (ONNX type, dimensions)."""
    expected = expected_inputs(project)
    problems = [f"input {name} is missing" for name in expected if name not in inputs]
    problems += [f"input {name} is not in the definition" for name in inputs if name not in expected]
    for name, datatype in expected.items():
        if name in inputs and inputs[name] != (_TENSORS[datatype], 1):
            kind, dimensions = inputs[name]
            problems.append(f"input {name} is {kind} of {dimensions} dimensions, not {_TENSORS[datatype]} of 1")
    wanted = OUTPUTS[project.model.task]
    if output != wanted:
        problems.append(f"the first output is {output}, not {wanted}")
    return problems


def output_problems(project: Project, outputs: Sequence[float], golden: Sequence[float] | None) -> list[str]:
    """Where scored rows are wrong: not finite, no probability, or not what the bundle promises."""
    if not all(math.isfinite(value) for value in outputs):
        return ["an output is not a finite number"]
    if project.model.task is Task.BINARY and not all(0.0 <= value <= 1.0 for value in outputs):
        return ["an output is not a probability"]
    if golden is None:
        return []
    if len(golden) != len(outputs):
        return [f"the bundle has {len(golden)} golden outputs for {len(outputs)} rows"]
    # Relative beyond 1 in size: an output may be a price as well as a probability.
    worst = max((abs(a - b) / max(1.0, abs(b)) for a, b in zip(outputs, golden, strict=True)), default=0.0)
    return [f"golden outputs differ by {worst:g}"] if worst > GOLDEN_TOLERANCE else []


def read_bundle(data: bytes) -> Bundle:
    """A bundle of stored bytes; ValueError when it is none."""
    bundle = json.loads(data)
    if not isinstance(bundle, dict) or bundle.get("format") != FORMAT:
        raise ValueError(f"not a bundle of the format {FORMAT}")
    golden = bundle.get("golden")
    if not isinstance(golden, dict) or not isinstance(golden.get("inputs"), dict):
        raise ValueError("the bundle has no golden rows")
    return bundle


def bundle_problems(project: Project, bundle: Bundle) -> list[str]:
    """Where a bundle does not fit the definition."""
    written = {str(i.get("name")): str(i.get("datatype")) for i in bundle.get("inputs", []) if isinstance(i, dict)}
    if written != expected_inputs(project):
        return ["the bundle's inputs are not those of the definition"]
    return [] if bundle.get("task") == project.model.task else [f"the bundle is for a {bundle.get('task')} model"]


def golden_rows(project: Project, champion: Bundle | None) -> Rows:
    """Rows to score a new model with: the champion's where its inputs are the same, else one row of nulls."""
    if champion is not None and not bundle_problems(project, champion):
        rows: Rows = champion["golden"]["inputs"]
        if set(rows) == set(expected_inputs(project)):
            return rows
    return {name: [None] for name in expected_inputs(project)}


def derive_bundle(
    project: Project, version: int, rows: Rows, outputs: Sequence[float], champion: Bundle | None
) -> Bundle:
    """The bundle of a model that came without one: references are the champion's, golden outputs its own."""
    same = champion if champion is not None and not bundle_problems(project, champion) else {}
    return {
        "format": FORMAT,
        "project": project.name,
        "model": project.model.name,
        "task": project.model.task.value,
        "inputs": [{"name": name, "datatype": datatype} for name, datatype in expected_inputs(project).items()],
        "output": OUTPUTS[project.model.task],
        "definition_version": version,
        "golden": {"inputs": dict(rows), "outputs": list(outputs), "tolerance": GOLDEN_TOLERANCE},
        "reference": same.get("reference", {}),
        "reference_output": same.get("reference_output", {"edges": [], "counts": []}),
        "reference_label": same.get("reference_label", {"mean": None, "rows": 0}),
        "threshold": same.get("threshold", 0.5),
        "metrics": {},
    }


def write_bundle(bundle: Bundle) -> bytes:
    """Canonical JSON; NaN is refused (ValueError)."""
    return json.dumps(bundle, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
