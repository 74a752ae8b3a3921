"""A whole job in a process of its own, from rows to verdict."""

import asyncio
import hashlib
import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import onnx
import psutil
import pytest
import torch
from millrace.definitions.gate import Behaviour, Disturbance, FairnessRule, Gate, Robustness, SliceRule
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from services.trainer.adapters.adam_torch import Adam
from services.trainer.adapters.dataset_arrow import read_examples
from services.trainer.adapters.environment import environment
from services.trainer.adapters.jobs_process import ProcessJobs, read_progress
from services.trainer.adapters.scorer_onnxruntime import Scorer
from services.trainer.domain.examples import ColumnSpec, split_by_time
from services.trainer.domain.job import GATE, TRAIN, ChampionSpec, JobSpec, NetSettings
from services.trainer.entrypoints.job_steps import VALIDATION_SHARE
from services.trainer.errors import JobFailed
from tests.support.poll import until
from tests.unit.trainer.world import write_rows

INPUTS = (ColumnSpec("kind", "BYTES"), ColumnSpec("x", "FP32"), ColumnSpec("z", "FP32"))
JOBS = ProcessJobs(threads=1, nice=0, deadline_s=280.0)
ROWS = 6_000


def spec_of(mode: str = TRAIN, task: str = "binary", epochs: int = 12, champion: int = 0) -> JobSpec:
    metric = "auc" if task == "binary" else "mae"
    return JobSpec(
        mode=mode,
        run_id="run",
        project="pumps",
        model="pump-fails",
        task=task,
        inputs=INPUTS,
        net=NetSettings("wide-and-deep", (32, 16), epochs, 0.005, 1024, 7),
        gate=Gate(metric, max_ece=0.2, max_p99_ms=50.0, max_size_mb=5.0, slices=("kind",)),
        baselines=("constant", "linear"),
        definition_version=3,
        snapshot_digest="sha256:snapshot",
        champion=ChampionSpec(champion, "sha256:champion"),
        code_version="1",
    )


def folder_of(tmp_path, spec: JobSpec):
    tmp_path.mkdir(exist_ok=True)
    write_rows(tmp_path / "rows.arrow", ROWS, task=spec.task)
    (tmp_path / "spec.json").write_text(spec.to_json())
    return tmp_path


async def silent(progress) -> None:
    return None


async def do(tmp_path, spec: JobSpec):
    return await JOBS.run(folder_of(tmp_path, spec), silent)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One job that was done from end to end: its folder, its result, what it told on the way."""
    told = []

    async def listen(progress):
        told.append(progress)

    folder = folder_of(tmp_path_factory.mktemp("trained"), spec_of())
    return folder, asyncio.run(JOBS.run(folder, listen)), told


def test_a_binary_job_learns_what_a_linear_model_cannot_and_leaves_its_evidence(trained):
    folder, result, told = trained
    assert result.verdict == "PASSED", result.reason
    report = json.loads((folder / "report.json").read_text())
    for name, digest in (("report.json", result.report_digest), ("model.onnx", result.model_digest)):
        assert f"sha256:{hashlib.sha256((folder / name).read_bytes()).hexdigest()}" == digest
    assert report["metrics"]["candidate"]["auc"] > report["metrics"]["linear"]["auc"] + 0.01
    assert {c["name"] for c in report["checks"]} == {
        "simpler:constant", "simpler:linear", "calibration", "graph_equality", "latency", "size",
    }  # fmt: skip
    assert sum(line["rows"] for line in report["slices"]["kind"]) == report["holdout_rows"]
    assert report["environment"] == environment(spec_of().threads)
    assert torch.__version__.startswith(report["environment"]["packages"]["torch"].partition("+")[0])
    assert told[-1].share > 0.9 and len(told[-1].curve) >= 3


def test_the_bundle_describes_the_graph_and_what_it_was_trained_on(trained):
    folder, _, _ = trained
    bundle = json.loads((folder / "bundle.json").read_text())
    golden = bundle["golden"]
    columns = {
        "kind": np.array([v or "" for v in golden["inputs"]["kind"]], dtype=object),
        **{n: np.array([np.nan if v is None else v for v in golden["inputs"][n]], np.float32) for n in ("x", "z")},
    }
    answers = Scorer((folder / "model.onnx").read_bytes()).score(columns)
    assert np.abs(answers - golden["outputs"]).max() < golden["tolerance"]
    assert bundle["output"] == "probability" and bundle["definition_version"] == 3
    assert bundle["reference"]["x"]["nulls"] > 0 and bundle["reference_label"]["rows"] == ROWS - ROWS // 50
    assert {i.name for i in onnx.load(folder / "model.onnx").graph.input} == {"kind", "x", "z"}


def test_the_net_is_nearly_as_good_as_boosted_trees(trained):
    folder, result, _ = trained
    split = split_by_time(read_examples(folder / "rows.arrow", INPUTS), holdout=0.15, validation=VALIDATION_SHARE)

    def table(part):
        codes = np.unique(part.columns["kind"].astype(str), return_inverse=True)[1]
        return np.column_stack([codes, part.columns["x"], part.columns["z"]])

    trees = HistGradientBoostingClassifier(random_state=0).fit(table(split.fit), split.fit.labels)
    theirs = roc_auc_score(split.holdout.labels, trees.predict_proba(table(split.holdout))[:, 1])
    assert dict(result.metrics)["auc"] > theirs - 0.02


async def test_a_regression_job_answers_in_units_of_the_label(tmp_path):
    result = await do(tmp_path, spec_of(task="regression"))
    assert result.verdict == "PASSED", result.reason
    metrics = json.loads((tmp_path / "report.json").read_text())["metrics"]
    assert metrics["candidate"]["mae"] < 0.8 * metrics["linear"]["mae"]
    assert abs(metrics["candidate"]["mean_prediction"] - metrics["candidate"]["mean_label"]) < 1.0
    assert json.loads((tmp_path / "bundle.json").read_text())["output"] == "value"


async def test_a_killed_job_goes_on_from_its_checkpoint_and_ends_with_the_same_model(tmp_path, trained):
    folder = folder_of(tmp_path / "cut", spec_of())
    cut = asyncio.create_task(JOBS.run(folder, silent))
    await until(lambda: list(folder.glob("checkpoints/*/epoch-*.safetensors")), 200.0)
    cut.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cut
    assert not (folder / "result.json").exists()
    assert (await JOBS.run(folder, silent)).model_digest == trained[1].model_digest


async def test_the_same_model_against_itself_is_refused_at_a_second_gate(tmp_path, trained):
    folder, first, _ = trained
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    shutil.copy(folder / "model.onnx", again / "champion.onnx")
    (again / "spec.json").write_text(spec_of(GATE, champion=2).to_json())
    second = await JOBS.run(again, silent)
    assert second.verdict == "REFUSED" and "champion version 2" in second.reason
    assert second.model_digest == first.model_digest and second.bundle_digest == first.bundle_digest
    assert second.report_digest != first.report_digest
    report = json.loads((again / "report.json").read_text())
    assert report["metrics"]["champion"] == report["metrics"]["candidate"]


async def test_a_model_is_asked_about_parts_worse_inputs_and_single_answers(tmp_path, trained):
    """The truth rises with x, and z tells which way: a model that was told that z is no matter is refused by that."""
    again = tmp_path / "again"
    shutil.copytree(trained[0], again)
    asked = replace(
        spec_of(GATE).gate,
        slice_rules=(SliceRule("kind", values=("a", "b", "c"), floor=0.7), SliceRule("x", floor=0.5)),
        fairness=(FairnessRule("kind", max_opportunity_gap=0.5, max_parity_gap=0.5),),
        robustness=Robustness(Disturbance(0.1, 0.02), Disturbance(0.05, 0.05), Disturbance(0.05, 0.05)),
        behaviour=(
            Behaviour("z is no matter", vary="z", max_change=0.05),
            Behaviour("x raises it", raised="x", by=0.5, rises=True, max_change=0.02),
            Behaviour("a hopeless one", given=(("x", "-6"),), at_most=0.2),
        ),
    )
    (again / "spec.json").write_text(replace(spec_of(GATE), gate=asked).to_json())
    result = await JOBS.run(again, silent)
    report = json.loads((again / "report.json").read_text())
    checks = {check["name"]: check for check in report["checks"]}
    assert [name for name, check in checks.items() if not check["passed"]] == ["behaviour:z is no matter"]
    assert checks["behaviour:z is no matter"]["value"] > 0.5 and "z is no matter" in result.reason
    assert "none of 4 slices" in checks["slice_floor:kind"]["reason"], "the missing one is a slice, too"
    assert checks["slice_floor:x"]["reason"].count("rows") == 1 and checks["slice_floor:kind"]["value"] > 0.7
    assert 0 < checks["robustness:missing"]["value"] < 0.05
    assert {"fairness_opportunity:kind", "fairness_parity:kind", "behaviour:x raises it"} < set(checks)


async def test_a_champion_with_other_inputs_is_not_compared_and_the_report_says_so(tmp_path, trained):
    again = tmp_path / "again"
    shutil.copytree(trained[0], again)
    (again / "spec.json").write_text(spec_of(GATE, champion=4).to_json())
    other = onnx.load(again / "model.onnx")
    for node in other.graph.node:
        node.input[:] = ["humidity" if name == "x" else name for name in node.input]
    next(i for i in other.graph.input if i.name == "x").name = "humidity"
    (again / "champion.onnx").write_bytes(other.SerializeToString())
    await JOBS.run(again, silent)
    champion = json.loads((again / "report.json").read_text())["champion"]
    assert champion["version"] == 4 and "humidity" in champion["note"]


async def test_a_job_that_cannot_go_on_leaves_its_last_words(tmp_path):
    folder = folder_of(tmp_path, spec_of())
    (folder / "rows.arrow").write_bytes(b"not arrow")
    with pytest.raises(JobFailed, match="ArrowInvalid"):
        await JOBS.run(folder, silent)
    assert "Traceback" in (folder / "log.txt").read_text()


async def test_too_few_rows_are_declined_by_the_job(tmp_path):
    folder = folder_of(tmp_path, spec_of())
    write_rows(folder / "rows.arrow", 4)
    assert "too few" in (await JOBS.run(folder, silent)).declined


async def test_no_job_outlives_the_process_that_started_it(tmp_path):
    folder = folder_of(tmp_path, spec_of(epochs=500))
    script = (
        "import asyncio, pathlib, sys; from tests.integration.trainer.test_job import JOBS, silent; "
        "asyncio.run(JOBS.run(pathlib.Path(sys.argv[1]), silent))"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(folder))
    await until(lambda: read_progress(folder / "progress.jsonl").share > 0, 200.0)
    below = psutil.Process(parent.pid).children(recursive=True)  # the job, and who forked it
    parent.kill()
    await parent.wait()
    await until(lambda: not [p for p in below if p.is_running() and p.status() != psutil.STATUS_ZOMBIE], 10.0)


def test_our_adam_takes_the_steps_of_torchs():
    torch.manual_seed(0)
    data, target = torch.randn(64, 3), torch.randn(64, 1)
    ours, theirs = torch.nn.Linear(3, 1), torch.nn.Linear(3, 1)
    theirs.load_state_dict(ours.state_dict())
    adam = Adam(ours.named_parameters(), weight_decay=0.01)
    reference = torch.optim.Adam(theirs.parameters(), lr=0.05, weight_decay=0.01)
    for _ in range(20):
        torch.nn.functional.mse_loss(ours(data), target).backward()
        adam.step(0.05)
        reference.zero_grad()
        torch.nn.functional.mse_loss(theirs(data), target).backward()
        reference.step()
    assert torch.allclose(ours.weight, theirs.weight, atol=1e-6) and torch.allclose(ours.bias, theirs.bias, atol=1e-6)
