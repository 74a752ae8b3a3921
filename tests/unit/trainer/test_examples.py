"""Reading, parting and describing examples."""

import hashlib
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.definitions.gate import Gate

from services.trainer.adapters.dataset_arrow import read_examples
from services.trainer.adapters.features_grpc import MANIFEST, verify_snapshot
from services.trainer.domain.bundle import OTHER, golden, golden_rows, histogram, reference
from services.trainer.domain.examples import ColumnSpec, Examples, split_by_time, window_uses
from services.trainer.domain.job import ChampionSpec, JobResult, JobSpec, NetSettings
from services.trainer.errors import SnapshotUnusable
from tests.unit.trainer.world import write_rows

INPUTS = (ColumnSpec("kind", "BYTES"), ColumnSpec("x", "FP32"))


def test_rows_come_in_time_order_with_only_observed_labels(tmp_path):
    write_rows(tmp_path / "rows.arrow", 400)
    examples = read_examples(tmp_path / "rows.arrow", INPUTS)
    assert len(examples) == 392  # every fiftieth label is unknown
    assert (np.diff(examples.moments_us) >= 0).all()
    assert examples.columns["x"].dtype == np.float32 and np.isnan(examples.columns["x"]).any()
    assert examples.columns["kind"].dtype == object and "" in examples.columns["kind"]


def test_a_lacking_column_is_named(tmp_path):
    write_rows(tmp_path / "rows.arrow", 10)
    with pytest.raises(SnapshotUnusable, match="humidity"):
        read_examples(tmp_path / "rows.arrow", (*INPUTS, ColumnSpec("humidity", "FP32")))


@given(st.lists(st.integers(0, 30), max_size=80), st.floats(0.05, 0.5), st.floats(0.05, 0.5))
def test_parts_are_in_time_order_whole_and_never_tear_a_moment(moments, holdout, validation):
    order = np.sort(np.array(moments, dtype=np.int64))
    split = split_by_time(Examples({}, np.zeros(len(order)), order), holdout=holdout, validation=validation)
    parts = [part.moments_us for part in (split.fit, split.validation, split.holdout)]
    assert np.concatenate(parts).tolist() == order.tolist()
    for earlier, later in ((0, 1), (1, 2), (0, 2)):
        if len(parts[earlier]) and len(parts[later]):
            assert parts[earlier][-1] < parts[later][0]


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=300))
def test_a_histogram_counts_every_row_in_rising_bins(values):
    drawn = histogram(np.array(values, dtype=np.float64))
    assert sum(drawn["counts"]) == len(values)
    assert len(drawn["edges"]) == len(drawn["counts"]) + 1
    assert all(a < b for a, b in zip(drawn["edges"], drawn["edges"][1:], strict=False))


def test_the_reference_counts_nulls_and_folds_rare_strings():
    many = np.array([f"v{i}" for i in range(250)] + [""] * 3, dtype=object)
    numbers = np.array([1.0, np.nan, 3.0], dtype=np.float32)
    drawn = reference({"s": many, "x": numbers})
    assert drawn["s"]["nulls"] == 3 and drawn["s"]["values"][OTHER] == 50 and len(drawn["s"]["values"]) == 201
    assert drawn["x"]["nulls"] == 1 and sum(drawn["x"]["counts"]) == 2


def test_golden_rows_spread_and_keep_missing_as_null():
    assert golden_rows(5) == [0, 1, 2, 3, 4] and len(golden_rows(1000)) == 16 and golden_rows(1000)[-1] == 999
    columns = {"kind": np.array(["a", ""], dtype=object), "x": np.array([np.nan, 2], dtype=np.float32)}
    part = golden(columns, [0, 1], np.array([0.1, 0.9]))
    assert json.loads(json.dumps(part))["inputs"] == {"kind": ["a", None], "x": [None, 2.0]}


def test_specs_and_results_survive_their_files():
    spec = JobSpec(
        "train", "r", "p", "m", "binary", INPUTS, NetSettings("mlp", (4,), 1, 0.1, 8, 1),
        Gate("auc", (("auc", 0.5),), slices=("kind",)), ("constant",), 2, "sha256:x", ChampionSpec(3, "d"), "1",
    )  # fmt: skip
    assert JobSpec.from_json(spec.to_json()) == spec
    result = JobResult("PASSED", "good", "a", "b", "c", (("auc", 0.7),))
    assert JobResult.from_json(result.to_json()) == result


def test_rows_are_held_against_the_snapshot_that_was_asked_for(tmp_path):
    manifest = json.dumps({"rows": 3}).encode()
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    table = pa.table({"a": [1, 2, 3]})
    path = tmp_path / "rows.arrow"

    def write(rows, metadata):
        with pa.ipc.new_stream(str(path), table.schema.with_metadata(metadata)) as stream:
            stream.write_batch(table.slice(0, rows).to_batches()[0])

    write(3, {MANIFEST: manifest})
    verify_snapshot(path, digest)
    with pytest.raises(SnapshotUnusable, match="another snapshot"):
        verify_snapshot(path, "sha256:other")
    write(2, {MANIFEST: manifest})
    with pytest.raises(SnapshotUnusable, match="3 rows, 2 came"):
        verify_snapshot(path, digest)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(SnapshotUnusable, match="no whole Arrow stream"):
        verify_snapshot(path, digest)


def test_a_row_in_an_earlier_holdout_was_judged_by_before():
    moments = np.arange(100, 110)
    assert window_uses(moments, []) == 1.0
    assert window_uses(moments, [(0, 99), (110, 200)]) == 1.0
    assert window_uses(moments, [(0, 104)]) == pytest.approx(1.5)
    assert window_uses(moments, [(0, 104), (100, 109), (109, 300)]) == pytest.approx(2.6)
    assert window_uses(moments[:0], [(0, 1)]) == 1.0
