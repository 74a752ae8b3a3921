"""Checks of the sections that decide on a model: training, gate, rollout, monitors."""

from __future__ import annotations

from millrace.definitions.document import Document
from millrace.definitions.errors import did_you_mean
from millrace.definitions.model import Gate, Input, Label, Missing, Rollout, Task, Training
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


def check_gate(document: Document, gate: Gate, task: Task, inputs: tuple[Input, ...] | None) -> None:
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
    names = [item.name for item in inputs or ()]
    for index, name in enumerate(gate.slices):
        if inputs is not None and name not in names:
            document.add(("gate", "slices", index), f"there is no input {name}", did_you_mean(name, names))


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
