"""Checks of the sections that decide on a model: training, gate, rollout, monitors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from millrace.definitions.document import Document
from millrace.definitions.errors import did_you_mean
from millrace.definitions.gate import Gate
from millrace.definitions.model import FieldType, Input, Label, Missing, Rollout, Task, Training
from millrace.definitions.schema import METRICS


def check_task(document: Document, task: Task, label: Label | None, label_type: str) -> None:
    """The label must be what the task predicts."""
    if label is None:
        return
    if task is Task.BINARY and label.missing is Missing.DEFAULT and label.default not in (0.0, 1.0):
        document.add(("label", "default"), "must be 0 or 1 for a binary model")
    if task is Task.REGRESSION and label_type == "boolean":
        document.add(("label", "value"), "is true or false, but the model is a regression", "use task: binary")


def check_training(document: Document, training: Training) -> None:
    """The window must hold something."""
    if training.window_us <= 0:
        document.add(("training", "window"), "must be above zero")


def check_gate(
    document: Document, raw: Mapping[str, Any], gate: Gate, task: Task, inputs: tuple[Input, ...] | None
) -> None:
    """Metrics must fit the task; slices must be inputs (None: they are not known)."""
    fitting = METRICS[task]
    if gate.metric not in fitting:
        document.add(("gate", "metric"), f"{gate.metric} does not fit a {task} model", "use " + " or ".join(fitting))
    for metric, floor in gate.floors:
        path = ("gate", "floors", metric)
        if metric not in fitting:
            document.add(path, f"{metric} does not fit a {task} model", "use " + " or ".join(fitting))
        if metric == "auc" and floor > 1:
            document.add(path, "an auc is at most 1")
    if gate.max_ece is not None and task is not Task.BINARY:
        document.add(("gate", "calibration"), "calibration is for binary models")
    _check_parts(document, gate, task)
    _check_behaviour(document, gate, task)
    if inputs is not None:
        _check_inputs(document, gate, raw.get("behaviour", ()), {item.name: item.type for item in inputs})


def _check_parts(document: Document, gate: Gate, task: Task) -> None:
    """What is asked of parts and groups must be a question that this task has an answer to."""
    for index, name in enumerate(gate.slices):
        if name in gate.slices[:index]:
            document.add(("gate", "slices", index), f"{name} is there twice")
    for rule in gate.slice_rules:
        path = ("gate", "slices", max(i for i, name in enumerate(gate.slices) if name == rule.by))
        if rule.floor is None and rule.max_loss is None:
            document.add(path, "asks nothing", f"add floor or max_loss, or write {rule.by} alone")
        if gate.metric == "auc" and max(rule.floor or 0, rule.max_loss or 0) > 1:
            document.add(path, "an auc is at most 1, and so is what it can lose")
    for index, fair in enumerate(gate.fairness):
        place = ("gate", "fairness", index)
        if task is not Task.BINARY:
            document.add(place, "fairness is for binary models")
        if fair.max_opportunity_gap is None and fair.max_parity_gap is None:
            document.add(place, "asks nothing", "add max_opportunity_gap or max_parity_gap")
        if any(fair.by == other.by for other in gate.fairness[:index]):
            document.add(place, f"{fair.by} is there twice")


def _check_behaviour(document: Document, gate: Gate, task: Task) -> None:
    """Names are names of checks, and answers must be possible."""
    names = [behaviour.name for behaviour in gate.behaviour]
    for index, behaviour in enumerate(gate.behaviour):
        path, low, high = ("gate", "behaviour", index), behaviour.at_least, behaviour.at_most
        if behaviour.name in names[:index]:
            document.add((*path, "name"), f"{behaviour.name} is there twice")
        if behaviour.given and low is None and high is None:
            document.add(path, "asks nothing", "add at_least or at_most")
        if low is not None and high is not None and low > high:
            document.add(path, f"no answer is at least {low:g} and at most {high:g}")
        if task is Task.BINARY and any(limit is not None and not 0 <= limit <= 1 for limit in (low, high)):
            document.add(path, "an answer is a probability, between 0 and 1")


def _check_inputs(
    document: Document, gate: Gate, behaviours: Sequence[Mapping[str, Any]], types: Mapping[str, FieldType]
) -> None:
    """Every input that is named must be one, and of a type that can be changed so."""
    named: list[tuple[tuple[str | int, ...], str]] = [(("slices", i), name) for i, name in enumerate(gate.slices)]
    named += [(("fairness", i, "by"), rule.by) for i, rule in enumerate(gate.fairness)]
    named += [(("behaviour", i), name) for i, behaviour in enumerate(gate.behaviour) for name in behaviour.inputs]
    for path, name in named:
        if name not in types:
            document.add(("gate", *path), f"there is no input {name}", did_you_mean(name, list(types)))
    for rule in gate.slice_rules:
        if rule.values and types.get(rule.by) is not FieldType.STRING:
            document.add(("gate", "slices"), f"{rule.by} is a number: values are for texts")
    texts = [name for name, kind in types.items() if kind is FieldType.STRING]
    if gate.robustness.swaps is not None and not texts:
        document.add(("gate", "robustness", "swaps"), "asks nothing: no input is a text")
    if gate.robustness.noise is not None and len(texts) == len(types):
        document.add(("gate", "robustness", "noise"), "asks nothing: no input is a number")
    for index, behaviour in enumerate(gate.behaviour):
        path = ("behaviour", index)
        if types.get(behaviour.raised) is FieldType.STRING:
            document.add(("gate", *path, "raise"), f"{behaviour.raised} is a text", "only numbers can be raised")
        for name, value in behaviour.given:
            written = behaviours[index]["given"][name]
            if name in texts and not isinstance(written, str):
                document.add(("gate", *path, "given", name), f"{written} is a number", "write the text in quotes")
            if name in types and name not in texts and not _is_number(value):
                document.add(("gate", *path, "given", name), f"{value!r} is no number")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def check_rollout(document: Document, rollout: Rollout) -> None:
    """Steps must fit the strategy and rise."""
    path = ("rollout", "steps")
    weights = [step.weight for step in rollout.steps]
    if rollout.strategy == "direct" and weights:
        document.add(path, "a direct rollout has no steps")
    if rollout.strategy == "canary":
        if not weights:
            document.add(("rollout",), "a canary needs steps", "for example steps: [{weight: 0.2, after: 12h}]")
        for index, weight in enumerate(weights):
            if weight <= 0:
                document.add((*path, index), "a canary's step needs a weight above 0 and below 1")
            elif index and weight <= weights[index - 1]:
                document.add((*path, index), "weights must rise from step to step")
    if rollout.strategy == "shadow" and (len(weights) != 1 or weights[0] > 0):
        document.add(
            ("rollout",), "a shadow has one step without a weight", "steps: [{after: 12h, min_predictions: 200}]"
        )
