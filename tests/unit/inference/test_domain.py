"""The pure rules: cells to columns, tensors against a graph, bundles and golden rows, deadlines."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.domain.bundle import BundleError, check_golden, parse_bundle
from services.inference.domain.deadline import deadline_of
from services.inference.domain.tensors import (
    CellMismatch,
    Column,
    TensorMismatch,
    TensorSpec,
    cells_of,
    check_feeds,
    feeds_of,
)

COLUMNS = (Column("n", False), Column("t", True))
NUMBERS = st.one_of(st.none(), st.floats(allow_infinity=False, width=32), st.integers(-1000, 1000), st.booleans())


@given(st.lists(st.tuples(NUMBERS, st.one_of(st.none(), st.text(max_size=5))), min_size=1, max_size=20))
def test_missing_is_nan_or_empty_and_all_else_is_itself(rows):
    feeds = feeds_of(COLUMNS, [cells_of(COLUMNS, {"n": n, "t": t}) for n, t in rows])
    assert feeds["n"].dtype == np.float32 and feeds["t"].dtype == object
    expected = np.array([np.nan if n is None else float(n) for n, _ in rows], dtype=np.float32)
    np.testing.assert_array_equal(feeds["n"], expected)
    assert feeds["t"].tolist() == [t or "" for _, t in rows]


def test_a_column_the_row_lacks_is_missing():
    assert cells_of(COLUMNS, {"t": "x"})[1] == "x" and np.isnan(cells_of(COLUMNS, {})[0])


@pytest.mark.parametrize(
    ("row", "words"), [({"n": "1"}, "n is str '1'"), ({"t": 1.0}, "t is float 1.0; expected text")]
)
def test_a_cell_of_the_wrong_kind_is_named(row, words):
    with pytest.raises(CellMismatch, match=words):
        cells_of(COLUMNS, row)


def test_fixed_dimensions_must_match():
    specs = (TensorSpec("x", "FP32", (-1, 3)),)
    check_feeds(specs, {"x": ("FP32", (7, 3))})
    with pytest.raises(TensorMismatch, match=r"shape \[7, 4\]; expected \[-1, 3\]"):
        check_feeds(specs, {"x": ("FP32", (7, 4))})
    check_feeds((TensorSpec("x", "FP32", ()),), {"x": ("FP32", ())})


def document(**changes):
    base = {
        "format": "millrace.bundle/1",
        "inputs": [{"name": "n", "datatype": "FP32"}, {"name": "t", "datatype": "BYTES"}],
        "output": "probability",
        "golden": {"inputs": {"n": [None, 1], "t": [None, "x"]}, "outputs": [0.1, 0.2], "tolerance": 1e-4},
    }
    return json.dumps({**base, **changes}).encode()


def test_a_bundle_is_read():
    bundle = parse_bundle(document())
    assert bundle.columns == COLUMNS and bundle.output == "probability"
    assert bundle.golden.outputs == (0.1, 0.2) and bundle.golden.rows[1] == (1, "x")
    assert parse_bundle(document(golden=None)).golden is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"\xff",
        document(format="other"),
        document(inputs=[{"name": "n", "datatype": "INT8"}]),
        document(inputs=3),
        document(golden={"inputs": {"n": [1], "t": [None, None]}, "outputs": [1, 2]}),
        document(golden={"inputs": {"n": [1]}, "outputs": [1]}),
        document(golden={"inputs": {"n": ["x"], "t": [None]}, "outputs": [1]}),
    ],
)
def test_a_bundle_that_cannot_be_read_says_so(data):
    with pytest.raises(BundleError):
        parse_bundle(data)


@pytest.mark.parametrize(
    ("outputs", "good"),
    [
        ([0.1, 0.2], True),
        ([0.10009, 0.2], True),
        ([0.1, 0.2002], False),
        ([0.1, np.nan], False),
        ([0.1], False),
    ],
)
def test_golden_rows_are_met_within_the_tolerance(outputs, good):
    golden = parse_bundle(document()).golden
    if good:
        check_golden(golden, np.array(outputs))
    else:
        with pytest.raises(BundleError, match="golden row"):
            check_golden(golden, np.array(outputs))


@given(st.one_of(st.none(), st.floats(-5, 1e9)))
def test_a_deadline_is_the_callers_within_the_bound(asked):
    deadline = deadline_of(asked, 100.0, default_s=5.0, max_s=60.0)
    assert deadline.remaining_s(100.0) == pytest.approx(min(5.0 if asked is None else asked, 60.0))
