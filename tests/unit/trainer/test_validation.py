"""New rows are held against the last good ones: what a broken upstream leaves is left out, drift is only told."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from millrace.definitions.model import DAY_US

from services.trainer.domain.examples import Examples
from services.trainer.domain.gate import canonical_json
from services.trainer.domain.profiles import SPAN_ROWS, Profile, profile, spans
from services.trainer.domain.validation import Known, Rule, read_findings, validate
from services.trainer.entrypoints.job_steps import run
from tests.unit.trainer.test_stand_in import SPEC, done

A_DAY = 300
FIRST_US = 20_000 * DAY_US


def examples(days, seed=0, first_day=0, a_day=A_DAY) -> Examples:
    """Rows of some days, of all sorts of columns that are as they should be."""
    draw = np.random.default_rng(seed)
    rows = days * a_day
    moments_us = FIRST_US + first_day * DAY_US + (np.arange(rows) * DAY_US) // a_day
    hour, day = (moments_us // 3_600_000_000) % 24, moments_us // DAY_US
    night = (hour < 5) & (draw.random(rows) < 0.8)
    columns = {
        "pressure": draw.normal(900, 40, rows),
        "swing": draw.normal(0, 5, rows),
        "delay": np.where(draw.random(rows) < 0.4, 0, draw.exponential(12, rows)),  # often nothing at all
        "an_hour": np.where(night, np.nan, draw.gamma(3, 4, rows)),  # a window that nothing fell into
        "count": draw.poisson(8, rows),
        "hour": hour,
        "month": 1 + (day // 30) % 12,  # a value that was never there, for a whole span
        "price": 50 + np.sin(day / 9.0),  # one value a day
        "rare": np.where(draw.random(rows) < 0.02, 1, 0),
        "empty": np.full(rows, np.nan),
    }
    texts = {"kind": draw.choice(["a", "b", "c"], rows, p=[0.5, 0.3, 0.2]), "day": np.array([f"d{d}" for d in day])}
    return Examples(
        {name: values.astype(np.float32) for name, values in columns.items()}
        | {name: values.astype(object) for name, values in texts.items()},
        (draw.random(rows) < 0.2).astype(np.float64),
        moments_us,
    )


def changed(rows, column, where, value):
    """The same rows but for one column: `value` where `where`, or a function of what was there."""
    columns = {**rows.columns, column: rows.columns[column].copy()}
    columns[column][where] = value(columns[column][where]) if callable(value) else value
    return Examples(columns, rows.labels, rows.moments_us)


def within(rows, first_day, days):
    """The rows of some days."""
    day = (rows.moments_us - FIRST_US) // DAY_US
    return (day >= first_day) & (day < first_day + days)


@pytest.fixture(scope="module")
def known():
    """What a run over forty days found good, as it comes back from its report."""
    told = json.loads(json.dumps(profile(examples(40)).as_dict()))
    return Known("run-1", Profile.from_dict(told))


def test_without_a_run_before_everything_is_fit():
    found = validate(examples(3), None)
    assert found.kept.all() and found.new_rows == 900 and found.words == ""


@pytest.mark.parametrize("seed", range(1, 13))
def test_rows_as_they_should_be_are_left_alone(known, seed):
    found = validate(examples(60, seed), known)
    assert found.findings == () and found.kept.all() and not found.problem
    assert found.new_rows == 21 * A_DAY, "the last day that was known counts as new: it may not have been whole"


@pytest.mark.parametrize("share", [0.02, 0.4, 1.0])
@pytest.mark.parametrize("column", ["pressure", "delay", "an_hour", "count", "hour", "month", "rare"])
def test_the_minus_one_of_a_call_that_failed_is_left_out(known, column, share):
    rows = examples(60, 3)
    hit = within(rows, 45, 3) & (np.random.default_rng(9).random(len(rows)) < share)
    found = validate(changed(rows, column, hit, -1.0), known)
    assert {(f.column, f.rule, f.value) for f in found.findings} == {(column, Rule.STUCK, -1.0)}
    assert sorted(int(f.from_us - FIRST_US) // DAY_US for f in found.findings) == [45, 46, 47]
    assert (found.kept == ~hit).all() and sum(f.rows for f in found.findings) == found.left_out == hit.sum()
    assert found.words.startswith(f"{hit.sum():,} of 6,300 new rows left out: {column} is -1 in ")
    assert found.words.endswith(" (0% before), and 2 more; ") and " on 2024-11-" in found.words


def test_a_value_within_the_range_that_takes_a_spread_column_over(known):
    rows = examples(60, 4)
    hit = within(rows, 50, 1) & (np.arange(len(rows)) % 4 == 0)
    found = validate(changed(rows, "swing", hit, -1.0), known)
    assert [(f.column, f.value, f.rows) for f in found.findings] == [("swing", -1.0, hit.sum())]


@pytest.mark.parametrize(("column", "value"), [("kind", "unknown"), ("kind", "NULL"), ("kind", "a"), ("hour", 3.0)])
def test_a_text_or_code_that_takes_over(known, column, value):
    rows = examples(60, 5)
    hit = within(rows, 50, 2)
    found = validate(changed(rows, column, hit, value), known)
    assert {(f.column, f.value) for f in found.findings} == {(column, value)}
    assert not found.kept[hit].any() and found.kept[~hit].all()


@pytest.mark.parametrize(("column", "gone"), [("pressure", np.nan), ("an_hour", np.nan), ("kind", "")])
def test_values_that_went_missing(known, column, gone):
    rows = examples(60, 6)
    hit = within(rows, 52, 2) & (np.random.default_rng(2).random(len(rows)) < 0.7)
    found = validate(changed(rows, column, hit, gone), known)
    assert {(f.column, f.rule) for f in found.findings} == {(column, Rule.MISSING)}
    assert not found.kept[hit].any()
    assert f"{column} has no value in " in found.words


@pytest.mark.parametrize("factor", [1000.0, 10.0, 1 / 0.3048, 0.01])
def test_numbers_of_another_unit(known, factor):
    rows = examples(60, 7)
    hit = within(rows, 44, 5)
    found = validate(changed(rows, "pressure", hit, lambda values: values * factor), known)
    assert {(f.column, f.rule) for f in found.findings} == {("pressure", Rule.SCALE)}
    assert all(f.now == pytest.approx(factor, rel=0.1) for f in found.findings)
    assert (found.kept == ~hit).all()


def test_one_thing_does_not_hide_another(known):
    rows, draw = examples(60, 3), np.random.default_rng(4).random(60 * A_DAY)
    day = within(rows, 50, 2)
    for parts in (
        ((draw < 0.3, -1.0), ((draw > 0.3) & (draw < 0.4), -2.0)),
        ((draw < 0.15, np.nan), ((draw > 0.15) & (draw < 0.4), -1.0)),
        ((draw > 0.02, lambda values: values * 1000), (draw < 0.02, -1.0)),
    ):
        broken, wrong = rows, np.zeros(len(rows), dtype=bool)
        for where, value in parts:
            broken, wrong = changed(broken, "pressure", day & where, value), wrong | (day & where)
        found = validate(broken, known)
        assert (found.kept == ~wrong).mean() > 0.998, [f.words for f in found.findings]
        assert not found.kept[wrong].any()


def frost(rows) -> Examples:
    """Whole degrees that were above zero so far: the first frost of a winter."""
    day = (rows.moments_us - FIRST_US) // DAY_US
    level = np.where(day < 40, 14, np.maximum(14 - (day - 40) * 1.2, -6))
    degrees = np.round(level + np.random.default_rng(1).normal(0, 3, len(rows)))
    degrees = np.where(day < 40, np.maximum(degrees, 2), degrees)
    return changed(rows, "swing", slice(None), degrees)


def filled(rows) -> Examples:
    """A column that had no values, and then mostly zeros."""
    values = np.where(within(rows, 40, 20), np.random.default_rng(2).random(len(rows)) > 0.97, np.nan)
    return changed(rows, "swing", slice(None), values)


def weekly(rows) -> Examples:
    """A quarter of it on Sundays, always."""
    sunday = ((rows.moments_us // DAY_US) % 7) == 3
    values = np.random.default_rng(3).lognormal(2, 1.8, len(rows))
    return changed(rows, "swing", slice(None), np.where(sunday, values / 4, values))


def many_kinds(rows) -> Examples:
    """Seventy kinds, one of which is called unknown."""
    kinds = np.array([f"k{n}" for n in range(69)] + ["unknown"], dtype=object)
    return changed(rows, "kind", slice(None), np.random.default_rng(5).choice(kinds, len(rows)))


def counter(rows) -> Examples:
    """Days since the beginning, past 99."""
    return changed(rows, "swing", slice(None), 55 + (rows.moments_us - FIRST_US) // DAY_US)


@pytest.mark.parametrize("make", [frost, filled, weekly, many_kinds, counter])
def test_what_is_only_new_is_no_fault(make):
    rows = make(examples(60, 3))
    seen = profile(rows.where(within(rows, 0, 40)))
    found = validate(rows, Known("r", Profile.from_dict(json.loads(json.dumps(seen.as_dict())))))
    assert not found.findings, found.words


def test_numbers_that_are_not_finite_are_no_values(known):
    rows = examples(60, 3)
    hit = within(rows, 50, 2) & (np.arange(len(rows)) % 4 == 0)
    broken = changed(rows, "pressure", hit, np.inf)
    found = validate(broken, known)
    assert {(f.rule, f.rows) for f in found.findings} == {(Rule.MISSING, 75)} and (found.kept == ~hit).all()
    told = json.loads(canonical_json(found.as_dict() | {"profile": profile(broken).as_dict()}))
    later = Known("r2", Profile.from_dict(told["profile"]), read_findings(told["findings"]))
    assert validate(broken, later).stay_out == hit.sum()
    nothing_else = changed(rows, "swing", slice(None), np.inf)
    assert profile(nothing_else).columns[1].missing == 1.0
    assert not validate(nothing_else, Known("r", profile(nothing_else))).findings


def test_what_was_left_out_of_the_last_days_stays_out_when_more_of_them_is_there(known):
    """220 rows of a day had too many gaps; of all 300 rows of it they are not too many."""
    rows = examples(44, 3)
    last = np.flatnonzero(within(rows, 43, 1))
    broken = changed(rows, "pressure", last[:28], np.nan)
    early = broken.where(np.arange(len(rows)) < last[220])
    found = validate(early, known)
    assert found.left_out == 28
    later = Known("r2", profile(early.where(found.kept)), found.findings)
    again = validate(broken, later)
    assert not again.findings and again.stay_out == 28 and not again.kept[last[:28]].any()


def test_drift_is_told_and_costs_nothing(known):
    rows = examples(60, 8)
    found = validate(changed(rows, "pressure", within(rows, 40, 20), lambda values: values + 60), known)
    assert found.kept.all() and not found.findings
    assert [name for name, _ in found.drifted][:1] != [] and "pressure" in dict(found.drifted)
    assert "an_hour" not in dict(found.drifted)


def test_growth_is_no_unit(known):
    rows = examples(60, 8)
    grown = changed(rows, "count", within(rows, 40, 20), lambda values: values * 2 + 10)
    assert not validate(grown, known).findings


def test_when_most_of_what_is_new_is_wrong_a_person_decides(known):
    rows = changed(examples(60, 3), "pressure", within(examples(60, 3), 45, 15), -1.0)
    found = validate(rows, known)
    assert found.problem.startswith("4,500 of 6,300 new rows are not fit to be learned from: pressure is -1 in 100% of")
    accepted = validate(rows, known, accepted=True)
    assert accepted.kept.all() and not accepted.problem and not accepted.findings
    again = Known("run-2", profile(rows))
    assert not validate(changed(examples(70, 3), "pressure", within(examples(70, 3), 45, 25), -1.0), again).findings


def test_what_one_run_left_out_stays_out_of_later_ones(known):
    first = changed(examples(50, 3), "pressure", within(examples(50, 3), 42, 2), -1.0)
    found = validate(first, known)
    told = json.loads(json.dumps(found.as_dict() | {"profile": profile(first.where(found.kept)).as_dict()}))
    later = Known("run-2", Profile.from_dict(told["profile"]), read_findings([*told["carried"], *told["findings"]]))
    second = changed(examples(60, 3), "pressure", within(examples(60, 3), 42, 2), -1.0)
    again = validate(second, later)
    assert not again.findings and len(again.carried) == 2 and (again.left_out, again.stay_out) == (0, 2 * A_DAY)
    assert (again.kept == ~within(second, 42, 2)).all()
    assert again.words == "600 rows stay left out; "
    window = second.where(second.moments_us >= FIRST_US + 45 * DAY_US)
    assert validate(window, later).carried == (), "it has left the window"


def test_a_few_rows_a_day_are_looked_at_some_days_together():
    few = examples(40, 1, a_day=20)
    assert [part.stop - part.start for part in spans(few.moments_us)] == [SPAN_ROWS] * 4
    assert [part.stop - part.start for part in spans(few.moments_us[:-1])] == [SPAN_ROWS, SPAN_ROWS, 399]
    assert spans(few.moments_us[: SPAN_ROWS - 1]) == []
    seen = profile(few.where(few.moments_us < FIRST_US + 25 * DAY_US))
    assert seen.until_us == FIRST_US + 10 * DAY_US
    broken = changed(few, "pressure", within(few, 27, 10), -1.0)
    soon = validate(broken.where(broken.moments_us < FIRST_US + 29 * DAY_US), Known("r", seen))
    assert (soon.new_rows, soon.left_out) == (380, 40)
    assert validate(broken, Known("r", seen)).left_out == 200


def test_another_definition_has_columns_that_nobody_knows(known):
    rows = examples(60, 3)
    columns = {"novel": rows.columns["swing"], "kind": rows.columns["pressure"]}
    assert not validate(Examples(columns, rows.labels, rows.moments_us), known).findings


def test_a_job_learns_from_the_rows_that_are_fit_and_says_which_are_not(tmp_path):
    """The job itself: once to know what is good, then over two days more, the second of them broken."""
    first, report = done(tmp_path / "first", interaction=0.0)
    assert first.reason and report["data"]["left_out"] == 0 and report["data"]["reference"] == ""
    good = read(tmp_path / "first" / "rows.arrow")
    later = [shifted(good, days) for days in (2, 4)]
    third = np.arange(len(good)) % 3 == 0
    later[1] = put(later[1], "x", np.where(third, -1.0, later[1]["x"].to_numpy()))
    second = tmp_path / "second"
    second.mkdir()
    write(second / "rows.arrow", pa.concat_tables([good, *later]))
    (second / "reference.json").write_text(json.dumps(report["data"]))
    result, said = done(second, replace(SPEC, reference="first"))
    labelled = np.isfinite(later[1]["label"].to_numpy())
    broken = int(labelled[third].sum())
    new = int((moments(good) >= report["data"]["profile"]["until_us"]).sum()) + 2 * int(labelled.sum())
    assert said["data"]["reference"] == "first" and said["data"]["left_out"] == broken
    assert sum(said["rows"].values()) == 3 * int(labelled.sum()) - broken
    assert result.reason.startswith(f"{broken:,} of {new:,} new rows left out: x is -1 in ") and result.verdict

    rest = pa.concat_tables([good, later[1], shifted(later[1], 2)])
    write(second / "rows.arrow", put(rest, "x", np.full(len(rest), -1.0)))
    (second / "spec.json").write_text(replace(SPEC, reference="first").to_json())
    declined = run(second)
    assert not declined.verdict
    assert "new rows are not fit to be learned from: x is -1 in 100% of" in declined.declined
    assert declined.declined.endswith("`millrace train pumps --accept-data` takes them as they are")
    assert json.loads((second / "report.json").read_text())["data"]["findings"]
    (second / "spec.json").write_text(replace(SPEC, reference="first", min_rows=9_000).to_json())
    write(second / "rows.arrow", pa.concat_tables([good, *later]))
    few = run(second).declined
    assert few.startswith(f"{broken:,} of {new:,} new rows left out: x is -1")
    assert "rows are left, 9,000 are needed" in few
    accepted, said = done(second, replace(SPEC, reference="first", accept_data=True))
    assert accepted.verdict and said["data"]["accepted"] and said["data"]["left_out"] == 0


def moments(table) -> np.ndarray:
    """Those of rows with a label."""
    return table["moment_us"].to_numpy()[np.isfinite(table["label"].to_numpy())]


def read(path) -> pa.Table:
    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
        return stream.read_all()


def write(path, table) -> None:
    with pa.ipc.new_stream(str(path), table.schema) as stream:
        stream.write_table(table)


def shifted(table, days) -> pa.Table:
    """The same rows some days later."""
    return put(table, "moment_us", table["moment_us"].to_numpy() + days * DAY_US)


def put(table, name, values) -> pa.Table:
    """The same rows with another column in the place of one."""
    return table.set_column(table.schema.get_field_index(name), name, pa.array(values, from_pandas=True))
