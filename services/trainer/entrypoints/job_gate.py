"""How a job puts a model before the gate, and what it leaves in its folder about the one that stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from millrace.stores.files import write_whole
from millrace.stores.objects import digest_of

from services.trainer.adapters.baselines_sklearn import constant, linear
from services.trainer.adapters.environment import environment
from services.trainer.adapters.scorer_onnxruntime import Scorer
from services.trainer.domain.bundle import bundle_json, golden, golden_rows
from services.trainer.domain.encoding import encode_rows, learn_encoding
from services.trainer.domain.examples import Examples, Split, window_uses
from services.trainer.domain.gate import LINEAR, TRIED, Evidence, Verdict, judge, report_json
from services.trainer.domain.job import GATE, JobResult, JobSpec
from services.trainer.domain.metrics import Floats
from services.trainer.domain.probes import Probed, probes
from services.trainer.domain.validation import Validation


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What every model of one job is measured by: the rows, and the answers of others to the same holdout."""

    split: Split
    baselines: dict[str, Floats]
    champion: Floats | None
    champion_note: str  # why there is no answer of a champion


@dataclass(frozen=True, slots=True)
class Judged:
    """A model that was put before the gate, with all that was measured."""

    spec: JobSpec  # its `net.kind` is what the model really is
    graph: bytes
    evidence: Evidence
    verdict: Verdict


def yardstick(folder: Path, spec: JobSpec, split: Split) -> Yardstick:
    """Asks the declared baselines and the champion, whose graph lies in `folder`, once for the whole job."""
    champion, note = _champion(folder, spec, split.holdout)
    return Yardstick(split, _baselines(spec, split), champion, note)


def put_before_gate(
    spec: JobSpec, by: Yardstick, graph: bytes, *, difference: float | None = None, tried: Floats | None = None
) -> Judged:
    """Measures `graph` and judges it. `difference`: largest between net and graph, None where there is no net;
    `tried`: answers of the net that it would stand in for."""
    holdout, scorer = by.split.holdout, Scorer(graph)
    evidence = Evidence(
        labels=holdout.labels,
        candidate=scorer.score(holdout.columns),
        kind=spec.net.kind,
        blocks=holdout.blocks,
        baselines=by.baselines,
        tried=tried,
        champion=by.champion,
        champion_version=spec.champion.version,
        champion_note=by.champion_note,
        window_uses=window_uses(holdout.moments_us, spec.judged),
        parts=holdout.columns,
        probed={
            probe.name: Probed(scorer.score(probe.columns), probe.changed)
            for probe in probes(spec.gate, holdout.columns, spec.net.seed)
        },
        p99_ms=scorer.p99_ms(holdout.columns),
        size_bytes=len(graph),
        largest_difference=difference,
    )
    return Judged(spec, graph, evidence, judge(spec.gate, binary=spec.is_binary, evidence=evidence, seed=spec.net.seed))


def leave(folder: Path, stands: Judged, other: Judged | None, split: Split, data: Mapping[str, Any]) -> JobResult:
    """Writes model, bundle and report of the model that stands; `other` is the one it was preferred to, if any; `data`
    is what is to be said of the rows.

    A model that is only gated again keeps its bundle.
    """
    metrics = stands.verdict.metrics["candidate"]
    write_whole(folder / "model.onnx", stands.graph)
    if stands.spec.mode != GATE:
        write_whole(folder / "bundle.json", _bundle(stands, split).encode())
    report = _report(stands, other, split, data).encode()
    write_whole(folder / "report.json", report)
    return JobResult(
        verdict=stands.verdict.verdict,
        reason=_preference(stands, other) + stands.verdict.reason,
        template=stands.spec.net.kind,
        model_digest=digest_of(stands.graph),
        bundle_digest=digest_of((folder / "bundle.json").read_bytes()),
        report_digest=digest_of(report),
        metrics=tuple(sorted(metrics.items())),
    )


def _preference(stands: Judged, other: Judged | None) -> str:
    if other is None:
        return ""
    if stands.evidence.tried is not None:
        return f"a {LINEAR} net instead of {other.spec.net.kind}, which did not beat the {LINEAR} baseline; "
    return f"no {LINEAR} net instead: {'; '.join(c.reason for c in other.verdict.checks if c.name == TRIED)}; "


def _champion(folder: Path, spec: JobSpec, holdout: Examples) -> tuple[Floats | None, str]:
    """The serving model's answers to the same rows, or why it cannot be asked."""
    if spec.champion.version == 0:
        return None, "no model serves yet"
    scorer = Scorer((folder / "champion.onnx").read_bytes())
    lacking = [name for name in scorer.input_names if name not in holdout.columns]
    if lacking:
        return None, f"the champion wants {', '.join(lacking)}, which this definition does not have"
    return scorer.score(holdout.columns), ""


def _baselines(spec: JobSpec, split: Split) -> dict[str, Floats]:
    """Answers of the declared simple models."""
    encoding = learn_encoding(split.fit.columns, spec.inputs)
    fit = encode_rows(encoding, split.fit.columns, split.fit.labels)
    answers: dict[str, Floats] = {}
    if "constant" in spec.baselines:
        answers["constant"] = constant(fit, len(split.holdout))
    if LINEAR in spec.baselines:
        holdout = encode_rows(encoding, split.holdout.columns, split.holdout.labels)
        sizes = [string.size for string in encoding.strings]
        answers[LINEAR] = linear(fit, holdout, sizes, binary=spec.is_binary)
    return answers


def _bundle(judged: Judged, split: Split) -> str:
    spec, outputs = judged.spec, judged.evidence.candidate
    parts = (split.fit, split.validation, split.holdout)
    columns = {i.name: np.concatenate([part.columns[i.name] for part in parts]) for i in spec.inputs}
    rows = golden_rows(len(split.holdout))
    facts = {
        "project": spec.project,
        "model": spec.model,
        "task": spec.task,
        "output": "probability" if spec.is_binary else "value",
        "definition_version": spec.definition_version,
        "snapshot_digest": spec.snapshot_digest,
        "run_id": spec.run_id,
        "template": spec.net.kind,
        "metrics": judged.verdict.metrics["candidate"],
    }
    return bundle_json(
        facts,
        spec.inputs,
        trained_on=columns,
        labels=np.concatenate([part.labels for part in parts]),
        outputs=outputs,
        golden_part=golden(split.holdout.columns, rows, outputs[rows]),
    )


def told(spec: JobSpec, data: Validation) -> dict[str, Any]:
    """What a report says of the rows."""
    return data.as_dict() | {"reference": spec.reference, "accepted": spec.accept_data}


def _report(stands: Judged, other: Judged | None, split: Split, data: Mapping[str, Any]) -> str:
    """The report of the model that stands. `tried` is the net it stands in for; `stand_in` a linear net that was
    fitted and did not take its place."""
    spec, is_stand_in = stands.spec, stands.evidence.tried is not None
    facts = {
        "project": spec.project,
        "model": spec.model,
        "run_id": spec.run_id,
        "mode": spec.mode,
        "template": spec.net.kind,
        "seed": spec.net.seed,
        "code_version": spec.code_version,
        "environment": environment(spec.threads),
        "definition_version": spec.definition_version,
        "snapshot_digest": spec.snapshot_digest,
        "model_digest": digest_of(stands.graph),
        "metric": spec.gate.metric,
        "confidence": spec.gate.confidence,
        "confidence_of_comparisons": stands.evidence.confidence(spec.gate),
        "rows": {"fit": len(split.fit), "validation": len(split.validation), "holdout": len(split.holdout)},
        "data": data,
        "holdout": {"from_us": int(split.holdout.moments_us[0]), "to_us": int(split.holdout.moments_us[-1])},
        "tried": _in_short(other if is_stand_in else None),
        "stand_in": _in_short(None if is_stand_in else other),
        "champion_digest": spec.champion.digest,
        "judged_before": spec.judged,
    }
    return report_json(stands.verdict, stands.evidence, facts)


def _in_short(judged: Judged | None) -> dict[str, Any] | None:
    if judged is None:
        return None
    return {"template": judged.spec.net.kind, "reason": judged.verdict.reason, "metrics": judged.verdict.metrics}
