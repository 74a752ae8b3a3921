"""Slices, groups, worse inputs, expected behaviour: what the gate asks beyond the score of the whole."""

from dataclasses import replace

import numpy as np
import pytest
from millrace.definitions.gate import Behaviour, Disturbance, FairnessRule, Gate, Robustness, SliceRule

from services.trainer.domain.gate import Evidence, judge
from services.trainer.domain.metrics import Bootstrap
from services.trainer.domain.parts import Answers, judge_fairness, judge_slices, slice_rows
from services.trainer.domain.probes import Probed, as_expected, probes

HOW = Bootstrap(confidence=0.8, resamples=200, seed=3)


def logistic(score):
    return 1 / (1 + np.exp(-score))


def answers(rows: int, seed: int, broken: str = "", champion: bool = False) -> tuple[Answers, np.ndarray]:
    """A model that ranks well in every slice of `kind` but knows nothing in the one that is broken."""
    random = np.random.default_rng(seed)
    score = random.normal(size=rows) * 1.5
    labels = (random.random(rows) < logistic(score)).astype(float)
    kinds = random.choice(np.array(["a", "b", "c", "d"], dtype=object), rows)
    good = logistic(score + random.normal(size=rows) * 0.5)
    candidate = np.where(kinds == broken, random.random(rows), good)
    return Answers(labels, candidate, good if champion else None, np.arange(rows)), kinds


def test_a_slice_below_its_floor_is_named_though_the_whole_is_above_it():
    case, kinds = answers(4_000, 1, broken="c")
    ((asked, limit, found),) = judge_slices(SliceRule("kind", floor=0.65), "auc", case, kinds, HOW)
    assert (asked, limit, found.passed) == ("floor", 0.65, False)
    assert found.bound == pytest.approx(0.55, abs=0.05)  # the better bound of the worst
    assert "auc of 1 of 4 slices is shown to be worse than the floor 0.65: c 0." in found.words


def test_of_an_error_the_greatest_is_the_worst():
    case, kinds = answers(4_000, 1, broken="c")
    ((_, _, found),) = judge_slices(SliceRule("kind", floor=0.2), "mae", case, kinds, HOW)
    assert found.passed is False and "worse than the floor 0.2: c 0.4995" in found.words
    ((_, _, found),) = judge_slices(SliceRule("kind", floor=0.9), "mae", case, kinds, HOW)
    assert found.passed and "worst: c 0.4995" in found.words


def test_a_slice_that_lost_against_the_champion_is_named():
    case, kinds = answers(4_000, 2, broken="b", champion=True)
    ((asked, _, found),) = judge_slices(SliceRule("kind", max_loss=0.05), "auc", case, kinds, HOW)
    assert asked == "loss" and not found.passed and "beyond 0.05: b 0.3175 (at least 0.2" in found.words
    equal = replace(case, candidate=case.champion)
    ((_, _, found),) = judge_slices(SliceRule("kind", max_loss=0.0), "auc", equal, kinds, HOW)
    assert found.passed and found.bound == 0
    alone = replace(case, champion=None)
    assert judge_slices(SliceRule("kind", max_loss=0.05), "auc", alone, kinds, HOW) == []


@pytest.mark.parametrize("value", ["z", "d"])
def test_a_named_slice_without_enough_rows_is_refused_by_its_name(value):
    case, kinds = answers(600, 3)
    kinds[np.flatnonzero(kinds == "d")[20:]] = "a"
    rule = SliceRule("kind", min_rows=50, values=("a", value), floor=0.1)
    ((_, _, found),) = judge_slices(rule, "auc", case, kinds, HOW)
    assert not found.passed and np.isnan(found.bound)
    rows = 0 if value == "z" else 20
    assert found.words == f"nothing can be said: {value}: {rows} rows of 50 that are needed"


def test_where_no_slice_has_enough_rows_nothing_is_shown_and_that_never_passes():
    case, kinds = answers(300, 4)
    ((_, _, found),) = judge_slices(SliceRule("kind", min_rows=200, floor=0.1), "auc", case, kinds, HOW)
    assert not found.passed and "rows of 200 that are needed" in found.words


def test_good_slices_are_seldom_refused_by_chance_however_many_there_are():
    """Slices at their floor: each would be refused at 20 %, but they share it."""
    refused = 0
    for seed in range(60):
        random = np.random.default_rng(100 + seed)
        error = np.abs(random.normal(size=2_000)) * np.sqrt(np.pi / 2)  # its mean is 1
        kinds = random.choice(np.array(list("abcdefghij"), dtype=object), 2_000)
        case = Answers(error, np.zeros(2_000), None, np.arange(2_000))
        ((_, _, found),) = judge_slices(SliceRule("kind", floor=1.0), "mae", case, kinds, HOW)
        refused += not found.passed
    assert refused <= 60 * 0.2 + 3 * np.sqrt(60 * 0.2 * 0.8)


def groups(rows: int, seed: int, gap: float) -> tuple[Answers, np.ndarray]:
    """Decisions that are right with a probability that differs by `gap` between two groups."""
    random = np.random.default_rng(seed)
    kinds = random.choice(np.array(["one", "two"], dtype=object), rows)
    labels = (random.random(rows) < 0.5).astype(float)
    caught = random.random(rows) < np.where(kinds == "one", 0.8, 0.8 - gap)
    candidate = np.where(labels > 0.5, np.where(caught, 0.9, 0.1), 0.2)
    return Answers(labels, candidate, None, np.arange(rows)), kinds


def test_a_gap_between_groups_is_refused_where_it_is_shown():
    rule = FairnessRule("kind", max_opportunity_gap=0.1, max_parity_gap=0.5)
    case, kinds = groups(3_000, 1, gap=0.3)
    (opportunity, parity) = judge_fairness(rule, case, kinds, HOW)
    assert opportunity[0] == "opportunity" and not opportunity[2].passed
    assert opportunity[2].bound == pytest.approx(0.27, abs=0.06)
    assert "true positive rates of 2 groups by kind differ by 0.3" in opportunity[2].words
    assert parity[0] == "parity" and parity[2].passed and parity[2].bound == pytest.approx(0.13, abs=0.05)


def test_a_gap_that_is_chance_alone_passes():
    rule = FairnessRule("kind", max_opportunity_gap=0.02)
    refused = sum(not judge_fairness(rule, *groups(600, seed, gap=0.0), HOW)[0][2].passed for seed in range(40))
    assert refused <= 40 * 0.2 + 3 * np.sqrt(40 * 0.2 * 0.8)


def test_one_group_alone_shows_no_fairness():
    case, kinds = groups(400, 1, gap=0.0)
    kinds[:] = "one"
    ((_, _, found),) = judge_fairness(FairnessRule("kind", max_parity_gap=0.5), case, kinds, HOW)
    assert not found.passed and "fewer than two groups by kind" in found.words


COLUMNS = {
    "x": np.array([1, 2, 3, np.nan] * 250, dtype=np.float32),
    "kind": np.array(["a", "b", "", "c"] * 250, dtype=object),
}
GATE = Gate(
    "auc",
    robustness=Robustness(noise=Disturbance(0.5, 0.1), missing=Disturbance(0.2, 0.1), swaps=Disturbance(0.4, 0.1)),
    behaviour=(
        Behaviour("kind is no matter", vary="kind", max_change=0.05),
        Behaviour("more is more", raised="x", by=2.0),
        Behaviour("a known case", given=(("x", "7"), ("kind", "b")), at_least=0.5),
    ),
)


def test_probes_change_what_they_say_and_nothing_else():
    found = {probe.name: probe for probe in probes(GATE, COLUMNS, 1)}
    made = {name: probe.columns for name, probe in found.items()}
    assert [name.partition(":")[0] for name in made] == ["robustness"] * 3 + ["behaviour"] * 3
    noisy = made["robustness:noise"]["x"] - COLUMNS["x"]
    assert float(np.nanstd(noisy)) == pytest.approx(0.5 * np.nanstd(COLUMNS["x"]), rel=0.1)
    assert made["robustness:noise"]["kind"] is COLUMNS["kind"]
    missing = made["robustness:missing"]
    assert np.isnan(missing["x"]).mean() == pytest.approx(0.25 + 0.75 * 0.2, abs=0.05)
    assert (missing["kind"] == "").mean() == pytest.approx(0.25 + 0.75 * 0.2, abs=0.05)
    swapped = made["robustness:swaps"]
    assert (swapped["kind"] != COLUMNS["kind"]).mean() == pytest.approx(0.4 * 0.75, abs=0.05)
    assert swapped["x"] is COLUMNS["x"]
    varied = made["behaviour:kind is no matter"]["kind"]
    assert sorted(varied) == sorted(COLUMNS["kind"]) and (varied != COLUMNS["kind"]).mean() > 0.5
    np.testing.assert_array_equal(made["behaviour:more is more"]["x"], COLUMNS["x"] + 2)
    known = made["behaviour:a known case"]
    assert set(known["x"]) == {7.0} and set(known["kind"]) == {"b"}
    assert found["behaviour:more is more"].changed.mean() == 0.75, "where x is missing nothing was raised"
    np.testing.assert_array_equal(found["behaviour:kind is no matter"].changed, varied != COLUMNS["kind"])
    assert found["behaviour:a known case"].changed.all()
    for columns in made.values():
        assert all(columns[name].dtype == COLUMNS[name].dtype for name in COLUMNS)


def test_probes_are_the_same_again_and_do_not_depend_on_each_other():
    def made(gate, seed):
        return {probe.name: probe.columns for probe in probes(gate, COLUMNS, seed)}

    once, again = made(GATE, 1), made(replace(GATE, behaviour=()), 1)
    for name, columns in again.items():
        np.testing.assert_array_equal(columns["x"], once[name]["x"])
        np.testing.assert_array_equal(columns["kind"], once[name]["kind"])
    other = made(GATE, 2)
    assert (other["robustness:swaps"]["kind"] != once["robustness:swaps"]["kind"]).any()


@pytest.mark.parametrize(
    ("behaviour", "after", "expected"),
    [
        (Behaviour("b", vary="x", max_change=0.1), [0.45, 0.55, 0.65, np.nan], [True, True, False, False]),
        (Behaviour("b", raised="x", by=1.0), [0.5, 0.6, 0.4, np.nan], [True, True, False, False]),
        (Behaviour("b", raised="x", by=1.0, rises=False), [0.5, 0.6, 0.4, np.nan], [True, False, True, False]),
        (Behaviour("b", raised="x", by=1.0, max_change=0.2), [0.5, 0.6, 0.35, 0.2], [True, True, True, False]),
        (
            Behaviour("b", given=(("x", "1"),), at_least=0.5, at_most=0.6),
            [0.5, 0.6, 0.7, 0.4],
            [True, True, False, False],
        ),
    ],
)
def test_what_an_answer_is_expected_to_do(behaviour, after, expected):
    assert as_expected(behaviour, np.full(4, 0.5), np.array(after)).tolist() == expected


def test_the_verdict_has_a_line_for_each_question():
    case, kinds = answers(2_000, 5, broken="d", champion=True)
    columns = {"kind": kinds, "x": np.random.default_rng(1).normal(size=2_000).astype(np.float32)}
    gate = replace(
        GATE,
        slices=("kind",),
        slice_rules=(SliceRule("kind", floor=0.7, max_loss=0.05),),
        fairness=(FairnessRule("kind", max_parity_gap=0.4),),
    )
    # Noise costs nothing, missing values cost all, and a fifth of the rows answers otherwise when x is raised.
    answered = {
        "robustness:missing": np.full(2_000, 0.5),
        "behaviour:more is more": np.where(np.arange(2_000) % 5 == 0, 0.0, 1.0),
        "behaviour:a known case": np.full(2_000, 0.6),
    }
    probed = {
        probe.name: Probed(answered.get(probe.name, case.candidate), probe.changed)
        for probe in probes(gate, columns, 1)
    }
    evidence = Evidence(
        labels=case.labels, candidate=case.candidate, blocks=case.blocks, parts=columns, probed=probed,
        champion=np.full(2_000, 0.5), champion_version=2,
    )  # fmt: skip
    verdict = judge(gate, binary=True, evidence=evidence, seed=1)
    assert {check.name: check.passed for check in verdict.checks} == {
        "champion": True,
        "slice_floor:kind": False,
        "slice_loss:kind": True,
        "fairness_parity:kind": True,
        "robustness:noise": True,
        "robustness:missing": False,
        "robustness:swaps": True,
        "behaviour:kind is no matter": True,
        "behaviour:more is more": False,
        "behaviour:a known case": True,
    }
    assert (
        "more is more: of 2,000 rows that it changes, the share that answers otherwise is 0.2000 above 0.05"
        in verdict.reason
    )
    assert "missing of 0.2: auc 0.7" in verdict.reason and "becomes 0.5000" in verdict.reason
    assert sorted(line["value"] for line in verdict.slices["kind"]) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("share", [0.05, 0.6])
def test_a_direction_is_judged_by_the_rows_that_were_changed(share):
    """Where x is missing raising it changes nothing, which is no evidence for the model."""
    x = np.full(1_000, np.nan, dtype=np.float32)
    x[: int(1_000 * share)] = 1.0
    gate = Gate("auc", behaviour=(Behaviour("more is more", raised="x", by=1.0, max_failing=0.1),))
    (probe,) = probes(gate, {"x": x}, 1)
    before = np.full(1_000, 0.5)
    wrong = {probe.name: Probed(np.where(probe.changed, 0.1, 0.5), probe.changed)}
    case = Evidence(labels=np.arange(1_000) % 2 * 1.0, candidate=before, blocks=np.arange(1_000), probed=wrong)
    (check,) = judge(gate, binary=True, evidence=case, seed=1).checks
    assert not check.passed and check.value == 1.0
    few = replace(case, probed={probe.name: Probed(before, np.arange(1_000) < 29)})
    (check,) = judge(gate, binary=True, evidence=few, seed=1).checks
    assert not check.passed and check.value is None and "it changes 29 rows, 30 are needed" in check.reason


def test_parts_of_numbers_are_values_where_there_are_few_and_quarters_where_there_are_many():
    def parts(values):
        return {name: int(rows.sum()) for name, rows in slice_rows(np.array(values, dtype=np.float32))}

    assert parts([0, 1, 1, np.nan]) == {"missing": 1, "0": 1, "1": 2}
    assert parts([7, 7]) == {"7": 2}
    large = np.repeat(np.arange(2_000_000, 2_000_040), 5)
    assert len(parts(large)) == 4 and sum(parts(large).values()) == 200
    ends = parts([*range(40), np.inf, -np.inf, np.nan])
    assert ends == {"missing": 1, "0 to 9.75": 11, "9.75 to 19.5": 10, "19.5 to 29.25": 10, "29.25 to 39": 11}
    zeros = parts([0] * 160 + list(range(1, 41)))
    assert zeros == {"0": 160, "1 to 10.75": 10, "10.75 to 20.5": 10, "20.5 to 30.25": 10, "30.25 to 40": 10}


def test_a_slice_of_few_moments_or_of_few_positives_shows_nothing():
    case, kinds = answers(3_000, 6)
    blocks = np.arange(3_000) // 3
    blocks[kinds == "a"] = blocks[kinds == "a"] % 8
    few = replace(case, blocks=np.unique(blocks, return_inverse=True)[1])
    ((asked, _, found),) = judge_slices(SliceRule("kind", values=("a",), floor=0.1), "auc", few, kinds, HOW)
    assert asked == "rows" and "a: its rows lie in 8 moments, 30 are needed" in found.words
    labels = np.where((kinds == "b") & (np.cumsum(kinds == "b") > 40), 0.0, case.labels)
    rare = replace(case, labels=labels)
    rule = SliceRule("kind", values=("b",), floor=0.1)
    ((asked, _, found),) = judge_slices(rule, "auc", rare, kinds, HOW)
    assert asked == "rows" and "30 of either class are needed" in found.words
    ((_, _, found),) = judge_slices(replace(rule, floor=0.9), "mae", rare, kinds, HOW)
    assert found.passed, "an error needs no classes"


def test_a_named_slice_without_rows_is_refused_also_before_there_is_a_champion():
    case, kinds = answers(600, 3)
    ((asked, limit, found),) = judge_slices(SliceRule("kind", values=("z",), max_loss=0.1), "auc", case, kinds, HOW)
    assert (asked, limit, found.passed) == ("rows", 100.0, False)


def test_answers_that_are_no_numbers_never_pass():
    case, kinds = answers(2_000, 3, champion=True)
    broken = replace(case, candidate=np.where(kinds == "a", np.nan, case.candidate))
    rule = SliceRule("kind", floor=0.0, max_loss=1.0)
    assert [found.passed for *_, found in judge_slices(rule, "auc", broken, kinds, HOW)] == [False, False]
    ((_, _, found),) = judge_fairness(FairnessRule("kind", max_parity_gap=1.0), broken, kinds, HOW)
    assert not found.passed and "no numbers" in found.words


def test_noise_on_a_column_with_an_infinite_value_stays_noise():
    x = np.array([*range(99), np.inf], dtype=np.float32)
    (probe,) = probes(Gate("auc", robustness=Robustness(noise=Disturbance(0.1, 0.1))), {"x": x}, 1)
    assert np.isfinite(probe.columns["x"][:99]).all() and probe.columns["x"][99] == np.inf
