"""Where the declared net does not beat the linear baseline, a linear net may stand in for it."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from millrace.definitions.gate import Gate

from services.trainer.adapters.jobs_process import read_progress
from services.trainer.domain.examples import ColumnSpec
from services.trainer.domain.job import GATE, TRAIN, ChampionSpec, JobSpec, NetSettings
from services.trainer.entrypoints.job_gate import digest_of
from services.trainer.entrypoints.job_steps import run
from tests.unit.trainer.world import write_rows

ROWS = 2_400
SPEC = JobSpec(
    mode=TRAIN,
    run_id="run",
    project="pumps",
    model="pump-fails",
    task="binary",
    inputs=(ColumnSpec("kind", "BYTES"), ColumnSpec("x", "FP32"), ColumnSpec("z", "FP32")),
    net=NetSettings("wide-and-deep", (16,), epochs=8, learning_rate=0.02, batch_size=256, seed=7),
    gate=Gate("auc", confidence=0.9),
    baselines=("constant", "linear"),
    definition_version=3,
    snapshot_digest="sha256:snapshot",
    champion=ChampionSpec(),
    code_version="1",
)


def done(folder, spec=SPEC, **rows):
    """The job's result and its report."""
    folder.mkdir(exist_ok=True)
    if rows:
        write_rows(folder / "rows.arrow", ROWS, task=spec.task, **rows)
    (folder / "spec.json").write_text(spec.to_json())
    result = run(folder)
    report = (folder / "report.json").read_bytes()
    assert digest_of(report) == result.report_digest
    assert digest_of((folder / "model.onnx").read_bytes()) == result.model_digest
    assert digest_of((folder / "bundle.json").read_bytes()) == result.bundle_digest
    return result, json.loads(report)


def checks(report):
    return {check["name"]: check for check in report["checks"]}


def template_of(folder):
    return json.loads((folder / "bundle.json").read_text())["template"]


@pytest.fixture(scope="module")
def linear_job(tmp_path_factory):
    """A job over rows whose signal is linear: its folder, result and report."""
    folder = tmp_path_factory.mktemp("linear")
    return folder, *done(folder, interaction=0.0)


def test_on_linear_data_a_linear_net_stands_in_and_the_report_keeps_what_was_tried(linear_job):
    folder, result, report = linear_job
    assert result.verdict == "PASSED", result.reason
    assert result.template == report["template"] == template_of(folder) == "linear"
    assert result.reason.startswith("a linear net instead of wide-and-deep")
    assert report["tried"]["template"] == "wide-and-deep" and report["stand_in"] is None
    assert "the simpler linear baseline is not worse" in report["tried"]["reason"]
    assert report["metrics"]["tried"] == report["tried"]["metrics"]["candidate"]
    for name in ("simpler:linear", "tried"):
        assert checks(report)[name]["passed"] and checks(report)[name]["threshold"] == -0.005
    assert "is not worse than the linear baseline" in result.reason


def test_the_stand_in_is_gated_again_as_the_linear_net_that_it_is(linear_job):
    folder, first, _ = linear_job
    (folder / "champion.onnx").write_bytes((folder / "model.onnx").read_bytes())
    again, report = done(folder, replace(SPEC, mode=GATE, champion=ChampionSpec(2, first.model_digest)))
    assert again.template == report["template"] == template_of(folder) == "linear"
    assert again.model_digest == first.model_digest and again.bundle_digest == first.bundle_digest
    assert checks(report)["simpler:linear"]["passed"] and checks(report)["simpler:linear"]["threshold"] == -0.005
    assert "tried" not in checks(report) and report["tried"] is None
    assert again.verdict == "REFUSED" and "does not beat champion version 2" in again.reason


def test_on_data_that_are_not_linear_the_net_stands(tmp_path):
    result, report = done(tmp_path, interaction=1.5)
    assert result.verdict == "PASSED", result.reason
    assert result.template == template_of(tmp_path) == "wide-and-deep"
    assert report["tried"] is None and report["stand_in"] is None
    assert not (tmp_path / "checkpoints" / "linear").exists()


def test_a_linear_net_that_is_worse_than_the_net_does_not_take_its_place(tmp_path):
    """After one epoch at a rate far too large both nets are short of the baseline, the linear one by more."""
    hasty = replace(
        SPEC,
        task="regression",
        gate=Gate("mae", confidence=0.9),
        net=replace(SPEC.net, epochs=1, learning_rate=0.1),
    )
    result, report = done(tmp_path, hasty, interaction=0.0)
    assert result.verdict == "REFUSED" and result.template == template_of(tmp_path) == "wide-and-deep"
    assert "no linear net instead: may be worse than the net that was tried" in result.reason
    assert not checks(report)["simpler:linear"]["passed"] and "tried" not in checks(report)
    assert report["tried"] is None and report["stand_in"]["template"] == "linear"
    assert report["stand_in"]["metrics"]["candidate"]["mae"] > 1.01 * report["metrics"]["candidate"]["mae"]
    epochs = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    told = [line for line in epochs if line["step"] == "epoch"]
    assert [line["template"] for line in told] == ["wide-and-deep", "linear", "wide-and-deep"]
    assert read_progress(tmp_path / "progress.jsonl").curve[0][2] == told[0]["validation_loss"]


def test_a_comparison_without_a_value_puts_nothing_in_the_place(tmp_path):
    write_rows(tmp_path / "rows.arrow", ROWS, interaction=0.0)
    one_class_at_the_end(tmp_path / "rows.arrow")
    result, report = done(tmp_path)
    assert result.verdict == "REFUSED" and result.template == template_of(tmp_path) == "wide-and-deep"
    assert checks(report)["simpler:linear"]["value"] is None
    assert report["tried"] is None and report["stand_in"] is None
    assert not (tmp_path / "checkpoints" / "linear").exists()


def test_a_declared_linear_net_is_held_to_the_baseline_and_never_replaced(tmp_path):
    hasty = replace(SPEC, task="regression", gate=Gate("mae"), net=replace(SPEC.net, kind="linear", epochs=1))
    result, report = done(tmp_path, replace(hasty, net=replace(hasty.net, learning_rate=0.001)), interaction=0.0)
    assert result.verdict == "REFUSED" and "may be worse than the linear baseline" in result.reason
    assert result.template == "linear" and report["tried"] is None and report["stand_in"] is None


def one_class_at_the_end(path):
    """Gives the newest fifth of the rows the label 0, so that the holdout has one class."""
    with pa.ipc.open_stream(path.read_bytes()) as stream:  # a copy: the file is written over below
        table = stream.read_all()
    moments = table["moment_us"].to_numpy()
    known = table["label"].is_valid().to_numpy()
    label = np.where(moments > np.quantile(moments, 0.8), 0.0, table["label"].fill_null(0.0).to_numpy())
    table = table.set_column(table.column_names.index("label"), "label", pa.array(label, mask=~known))
    with pa.ipc.new_stream(str(path), table.schema) as stream:
        stream.write_table(table)
