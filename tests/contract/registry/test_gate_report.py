"""The report as the trainer writes it is the one that the registry shows: two rooms, one format."""

from __future__ import annotations

import json

import numpy as np
import pytest
from millrace.definitions.gate import Gate, SliceRule

from services.registry.domain.report import Asked, read_report
from services.trainer.domain.gate import Evidence, judge, report_json


def written(**changes: object) -> bytes:
    """A report of a candidate that is worse than the champion in one slice; its facts as a job states them."""
    random = np.random.default_rng(2)
    score = random.normal(size=600)
    labels = (random.random(600) < 1 / (1 + np.exp(-score))).astype(float)
    gate = Gate("auc", floors=(("auc", 0.5),), slices=("kind", "x"), slice_rules=(SliceRule("kind", floor=0.99),))
    kinds = np.array(["a"] * 400 + ["b"] * 190 + [""] * 10, dtype=object)
    evidence = Evidence(
        labels=labels, candidate=1 / (1 + np.exp(-score)), champion=np.full(600, 0.5), champion_version=3,
        blocks=np.arange(600), baselines={"constant": np.full(600, 0.5)}, parts={"kind": kinds, "x": score},
        window_uses=1.5,
    )  # fmt: skip
    finding = {"column": "x", "rule": "stuck", "from_us": 5, "to_us": 6, "rows": 40, "words": "x is -1"}
    facts = {
        "metric": "auc",
        "holdout": {"from_us": 1_000_000, "to_us": 2_000_000},
        "data": {"findings": [finding], "carried": [], "drifted": [{"column": "z", "psi": 0.31}]},
    }
    verdict = judge(gate, binary=True, evidence=evidence, seed=1)
    return report_json(verdict, evidence, facts | changes).encode()


def test_what_the_trainer_writes_the_registry_reads():
    report = read_report(written())
    assert report.metric == "auc" and report.models == ("candidate", "champion", "constant")
    assert [asked.name for asked in report.asked] == [
        "floor:auc", "simpler:constant", "champion", "slice_floor:kind",
    ]  # fmt: skip
    assert isinstance(report.asked[0], Asked) and report.asked[0].passed and not report.asked[-1].passed
    values = dict(report.measures)["auc"]
    assert values[0] > 0.7 and values[1:] == (0.5, 0.5)
    by_kind = dict(report.slices)["kind"]
    assert [(s.value, s.rows) for s in by_kind] == [("a", 400), ("b", 190), ("", 10)]
    assert by_kind[0].candidate > 0.7 and by_kind[0].champion == 0.5 and by_kind[2].candidate is None
    assert (report.from_us, report.to_us, report.rows, report.window_uses) == (1_000_000, 2_000_000, 600, 1.5)
    assert report.left_out[0]["words"] == "x is -1" and report.drifted == (("z", 0.31),)


@pytest.mark.parametrize("without", ["checks", "metrics", "holdout", "slices", "metric", "holdout_rows"])
def test_a_report_that_lacks_something_says_what(without: str):
    raw = json.loads(written())
    del raw[without]
    with pytest.raises(ValueError, match=without):
        read_report(json.dumps(raw).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b'{"format": "other"}', b"\xff"])
def test_bytes_that_are_no_report_are_refused(data: bytes):
    with pytest.raises(ValueError):
        read_report(data)
