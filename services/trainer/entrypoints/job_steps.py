"""The steps of one training job, over the files in its folder. Runs in the job's own process.

The folder holds `spec.json`, `rows.arrow` and, where there are such, `champion.onnx` and `reference.json` (what the
report of an earlier run says of its rows); for mode `gate` also `model.onnx` and `bundle.json`. The job leaves
`model.onnx`, `bundle.json`, `report.json`, progress lines in `progress.jsonl`, and a checkpoint per epoch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from millrace.stores.files import write_whole

from services.trainer.adapters.checkpoints_safetensors import Checkpoints
from services.trainer.adapters.dataset_arrow import read_examples
from services.trainer.adapters.scorer_onnxruntime import Scorer
from services.trainer.domain.calibration import Calibration, fit_temperature
from services.trainer.domain.encoding import EncodedRows, Encoding, encode_rows, learn_encoding
from services.trainer.domain.examples import Split, split_by_time
from services.trainer.domain.gate import LINEAR, canonical_json
from services.trainer.domain.job import GATE, JobResult, JobSpec
from services.trainer.domain.metrics import Floats
from services.trainer.domain.profiles import Profile, profile
from services.trainer.domain.validation import Known, Validation, read_findings, validate
from services.trainer.entrypoints.job_gate import Judged, Yardstick, leave, put_before_gate, told, yardstick

if TYPE_CHECKING:
    from services.trainer.adapters.network_torch import Epoch, Fitted

log = logging.getLogger("millrace.trainer.job")

VALIDATION_SHARE = 0.12
EQUALITY_ROWS = 2_048
SHARE_READ, SHARE_FITTED, SHARE_EXPORTED, SHARE_GATED = 0.05, 0.8, 0.85, 0.98


class Progress:
    """Appends what is known to `progress.jsonl`; the service reads along."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", buffering=1)
        self._started = time.monotonic()

    def step(self, step: str, share: float, **facts: Any) -> None:
        """One line: the step that was finished, the share of the whole that is done, and facts."""
        seconds = round(time.monotonic() - self._started, 3)
        self._file.write(json.dumps({"step": step, "share": share, "seconds": seconds, **facts}) + "\n")
        log.info("%s done after %.2f s %s", step, seconds, facts or "")

    def close(self) -> None:
        """Nothing more will be told."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class Encoded:
    """The three parts of the rows as a net takes them; a number is predicted as (label - mean) / scale."""

    encoding: Encoding
    fit: EncodedRows
    validation: EncodedRows
    holdout: EncodedRows
    mean: float
    scale: float


def run(folder: Path) -> JobResult:
    """Does the job in `folder`; everything that it learns lies there afterwards."""
    spec = JobSpec.from_json((folder / "spec.json").read_text())
    with contextlib.closing(Progress(folder / "progress.jsonl")) as progress:
        return _run(folder, spec, progress)


def _run(folder: Path, spec: JobSpec, progress: Progress) -> JobResult:
    examples = read_examples(folder / "rows.arrow", spec.inputs)
    data = validate(examples, _known(folder, spec), accepted=spec.accept_data)
    progress.step("validate", SHARE_READ, rows=len(examples), left_out=data.left_out + data.stay_out)
    if problem := _unfit(spec, data):
        write_whole(folder / "report.json", canonical_json({"data": told(spec, data)}).encode())
        return JobResult(declined=f"{problem}; `millrace train {spec.project} --accept-data` takes them as they are")
    examples = examples.where(data.kept)
    split = split_by_time(examples, holdout=spec.gate.holdout, validation=VALIDATION_SHARE)
    if min(len(split.fit), len(split.validation), len(split.holdout)) < 2:
        return JobResult(declined=f"{len(examples)} labelled rows are too few to part by time")
    by = yardstick(folder, spec, split)
    if spec.mode == GATE:
        stands, other = put_before_gate(_as_trained(folder, spec), by, (folder / "model.onnx").read_bytes()), None
    else:
        stands, other = _net_or_stand_in(folder, spec, by, progress)
    result = leave(folder, stands, other, split, told(spec, data) | {"profile": profile(examples).as_dict()})
    result = replace(result, reason=data.words + result.reason)
    progress.step("gate", SHARE_GATED, verdict=result.verdict, template=result.template)
    return result


def _unfit(spec: JobSpec, data: Validation) -> str:
    """Why nothing is learned from these rows; empty when something is."""
    left = int(data.kept.sum())
    if data.problem or not data.words or left >= spec.min_rows:
        return data.problem
    return f"{data.words}{left:,} labelled rows are left, {spec.min_rows:,} are needed"


def _known(folder: Path, spec: JobSpec) -> Known | None:
    """What the run that `spec` names found good."""
    if not spec.reference:
        return None
    data = json.loads((folder / "reference.json").read_text())
    left_out = read_findings([*data["carried"], *data["findings"]])
    return Known(spec.reference, Profile.from_dict(data["profile"]), left_out)


def _as_trained(folder: Path, spec: JobSpec) -> JobSpec:
    """`spec` with the kind of net that the model in the folder really is."""
    kind = json.loads((folder / "bundle.json").read_text()).get("template", spec.net.kind)
    return replace(spec, net=replace(spec.net, kind=kind))


def _net_or_stand_in(folder: Path, spec: JobSpec, by: Yardstick, progress: Progress) -> tuple[Judged, Judged | None]:
    """The model that stands, and the other one where two were fitted.

    A simpler model that is not worse wins: where the linear baseline was not beaten, a linear net is fitted and takes
    the place, unless it is itself worse than the net that was tried.
    """
    graph, difference, fitted = _train(folder, spec, by.split, progress)
    net = put_before_gate(spec, by, graph, difference=difference)
    if spec.net.kind == LINEAR or not net.verdict.yields_to(LINEAR):
        return net, None
    simpler = replace(spec, net=replace(spec.net, kind=LINEAR))
    graph, difference, _ = _train(folder, simpler, by.split, progress)
    stand_in = put_before_gate(simpler, by, graph, difference=difference, tried=net.evidence.candidate)
    if stand_in.verdict.may_stand_in:
        return stand_in, net
    for point in fitted.curve:  # the last curve that is told is that of the model that stands
        _tell(progress, spec, point)
    return net, stand_in


def _train(folder: Path, spec: JobSpec, split: Split, progress: Progress) -> tuple[bytes, float, Fitted]:
    """Fits, calibrates, exports; returns the graph, how far it is from the net at most, and the fit."""
    from services.trainer.adapters.network_torch import scores

    progress.step("import", SHARE_READ)
    rows = _encode(spec, split)
    progress.step("encode", SHARE_READ, fit=len(split.fit), validation=len(split.validation))
    fitted = _fit(folder, spec, rows, progress)
    calibration = Calibration()
    if spec.is_binary:
        raw = scores(spec.net, fitted.weights, rows.validation).astype(np.float64)
        calibration = fit_temperature(raw, split.validation.labels)
    graph = _export(spec, rows, fitted.weights, calibration)
    net = scores(spec.net, fitted.weights, _head(rows.holdout)).astype(np.float64)
    progress.step("export", SHARE_EXPORTED, best_epoch=fitted.best_epoch, bytes=len(graph))
    answers = calibration.apply(net) if spec.is_binary else net
    scored = Scorer(graph).score(split.holdout.take(slice(0, EQUALITY_ROWS)).columns)
    return graph, float(np.abs(answers - (scored - rows.mean) / rows.scale).max()), fitted


def _encode(spec: JobSpec, split: Split) -> Encoded:
    encoding = learn_encoding(split.fit.columns, spec.inputs)
    mean, scale = (0.0, 1.0) if spec.is_binary else _spread(split.fit.labels)
    fit, validation, holdout = (
        encode_rows(encoding, part.columns, (part.labels - mean) / scale)
        for part in (split.fit, split.validation, split.holdout)
    )
    return Encoded(encoding, fit, validation, holdout, mean, scale)


def _fit(folder: Path, spec: JobSpec, rows: Encoded, progress: Progress) -> Fitted:
    """The weights, from the last whole checkpoint of this kind of net on; told epoch by epoch."""
    from services.trainer.adapters.network_torch import Trainer

    fingerprint = hashlib.sha256(spec.fingerprint.encode()).hexdigest()
    checkpoints = Checkpoints(folder / "checkpoints" / spec.net.kind, fingerprint)
    trainer = Trainer(spec.net, binary=spec.is_binary, checkpoints=checkpoints, threads=spec.threads)
    code_sizes = [string.size for string in rows.encoding.strings]
    return trainer.fit(rows.fit, rows.validation, code_sizes, lambda point: _tell(progress, spec, point))


def _tell(progress: Progress, spec: JobSpec, point: Epoch) -> None:
    share = SHARE_READ + (SHARE_FITTED - SHARE_READ) * point.epoch / spec.net.epochs
    losses = {"train_loss": point.train_loss, "validation_loss": point.validation_loss}
    progress.step("epoch", share, template=spec.net.kind, epoch=point.epoch, **losses)


def _export(spec: JobSpec, rows: Encoded, weights: dict[str, Any], calibration: Calibration) -> bytes:
    from services.trainer.adapters.graph_onnx import Head, build_graph

    head = Head(spec.is_binary, calibration, mean=rows.mean, scale=rows.scale)
    return build_graph(rows.encoding, spec.net, weights, head)


def _spread(labels: Floats) -> tuple[float, float]:
    spread = float(np.float32(labels.std()))
    return float(np.float32(labels.mean())), spread if spread > 0 else 1.0


def _head(rows: EncodedRows) -> EncodedRows:
    return EncodedRows(rows.dense[:EQUALITY_ROWS], rows.codes[:EQUALITY_ROWS], rows.target[:EQUALITY_ROWS])
