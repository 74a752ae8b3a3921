"""How often the gate errs: models whose truth is known, judged over and over.

Rows come eight to a moment, and a moment has weather of its own that no model knows; most of a model's error is shared
by the rows of a moment. So rows are not independent, as in life.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from millrace.definitions.gate import FairnessRule, Gate, SliceRule
from numpy.typing import NDArray

from bench.benchmark import Bench, Benchmark, Column, Row, Runs, Section, Target
from services.trainer.domain.gate import RESAMPLES, Evidence
from services.trainer.domain.metrics import MEASURES, Bootstrap, Floats, gain_bound
from services.trainer.domain.parts import Answers, Found, judge_fairness, judge_slices

ROWS_PER_MOMENT = 8
WEATHER, NOISE = 0.7, 0.8  # standard deviations of a moment's own effect, and of the champion's noise
OWN, SHARED = 0.5, 0.866  # of a noise: its row's own part and that of its moment; squares add up to 1
BETTER, MUCH_BETTER, WORSE = 0.60, 0.35, 0.97  # noise of other models
LARGE = 400_000  # rows on which the true AUC of a model is told
SLICES, RARE = 10, 0.15  # parts of a rule, and the share of positives in its rarer case
USES = (1, 5, 20)
ALLOWED = 0.2  # by chance, with the confidence of 0.8
AUC = MEASURES["auc"]
MOST_BY_CHANCE = 25.0  # per cent: 20, and what this many gates leave open
MOST_REUSED = 38.0  # per cent: 1.65 times 20, however often rows are used, and the same leeway
LEAST_FOUND = 75.0


@dataclass(frozen=True)
class World:
    """One holdout with the answers of two models to it, and what there is to know."""

    labels: Floats
    candidate: Floats
    champion: Floats
    blocks: NDArray[np.int64]
    truth: Floats


def jobs() -> list[Benchmark]:
    """`gate`."""
    options = {"rows": 4_000, "gates": 25, "repetitions": 4}
    return [Benchmark("gate", "how often the gate passes what is not better, and refuses what is", run, options)]


def run(bench: Bench) -> list[Section]:
    """Three tables: against the champion, on rows that were used before, and parts of the rows."""
    return [_champions(bench), _reused(bench), _parts(bench)]


def world(rows: int, noise: float, seed: int) -> World:
    """A candidate whose noise is `noise` beside a champion whose noise is NOISE."""
    random = np.random.default_rng(seed)
    blocks = np.arange(rows) // ROWS_PER_MOMENT
    truth = random.normal(size=rows) * 1.2
    weather = random.normal(size=int(blocks[-1]) + 1)[blocks] * WEATHER
    labels = (random.random(rows) < _logistic(truth + weather)).astype(float)
    candidate, champion = (_logistic(truth + spread * _noise(random, rows)) for spread in (noise, NOISE))
    return World(labels, candidate, champion, blocks, truth)


def _champions(bench: Bench) -> Section:
    ours, point, singly = "the gate, confidence 0.8", "by the point alone", "rows drawn singly, 0.8"
    ways: Mapping[str, Callable[[World, int], bool]] = {
        ours: _by_bound(0.8),
        "the gate, confidence 0.95": _by_bound(0.95),
        point: lambda w, seed: AUC.value(w.labels, w.candidate) > AUC.value(w.labels, w.champion),
        singly: _by_bound(0.8, singly=True),
    }
    rows, shares = [], {}
    for name, noise in (("equal", NOISE), ("better", BETTER), ("much better", MUCH_BETTER), ("worse", WORSE)):
        large = world(LARGE, noise, 1)
        gain = AUC.value(large.labels, large.candidate) - AUC.value(large.labels, large.champion)
        bench.say(f"a candidate that is {name}: AUC {gain:+.4f}")
        passed: dict[str, list[float]] = {way: [] for way in ways}
        for seeds in _runs(bench):
            worlds = [(seed, world(bench.option("rows"), noise, seed)) for seed in seeds]
            for way, passes in ways.items():
                passed[way].append(100 * float(np.mean([passes(w, seed) for seed, w in worlds])))
        shares[name] = {way: tuple(values) for way, values in passed.items()}
        rows.append(Row(f"{name} (AUC {gain:+.4f})", shares[name]))
    return Section(
        "A candidate against the champion: per cent of gates that pass it",
        tuple(Column(way, ",.1f") for way in ways),
        tuple(rows),
        targets=(
            Target("equal models that pass, per cent", shares["equal"][ours], at_most=MOST_BY_CHANCE),
            Target("much better models that pass, per cent", shares["much better"][ours], at_least=LEAST_FOUND),
        ),
        notes=(_sizes(bench),),
    )


def _reused(bench: Bench) -> Section:
    """Equal candidates, one after the other, on the rows that judged the ones before."""
    ours, without = "the gate", "the same confidence each time"
    rows, targets = [], []
    for uses in USES:
        bench.say(f"rows that are used {uses} times")
        passed: dict[str, list[float]] = {ours: [], without: []}
        for seeds in _runs(bench):
            bounds = [_bounds_of_history(bench.option("rows"), uses, seed) for seed in seeds]
            for way, place in ((ours, 0), (without, 1)):
                passed[way].append(100 * float(np.mean([max(pair[place] for pair in one) > 0 for one in bounds])))
        rows.append(Row(f"some of {uses}", {way: tuple(values) for way, values in passed.items()}))
        what = f"some equal model of {uses} passes, per cent"
        targets.append(Target(what, tuple(passed[ours]), at_most=MOST_BY_CHANCE if uses == 1 else MOST_REUSED))
    return Section(
        "Rows that are used again: per cent of histories in which some equal model passes",
        (Column(ours, ",.1f"), Column(without, ",.1f")),
        tuple(rows),
        tuple(targets),
        notes=(_sizes(bench),),
    )


def _bounds_of_history(rows: int, uses: int, seed: int) -> list[tuple[float, float]]:
    """For each use the bound of the gain at the confidence that the gate takes then, and at the first one's."""
    first, random, found = world(rows, NOISE, seed), np.random.default_rng(seed + 1), []
    for use in range(1, uses + 1):
        pair = replace(first, candidate=_logistic(first.truth + NOISE * _noise(random, rows)))
        asked = Evidence(first.labels, pair.candidate, first.blocks, window_uses=float(use))
        corrected = asked.confidence(Gate("auc", confidence=1 - ALLOWED))
        found.append((_gain_bound(pair, corrected, use), _gain_bound(pair, 1 - ALLOWED, use)))
    return found


def _parts(bench: Bench) -> Section:
    at_floor, rare, fair, at_limit = (
        f"{SLICES} slices, each exactly at the floor (mae)",
        f"{SLICES} slices, each exactly at the floor (auc, {RARE:.0%} positives)",
        "5 groups, equal, 0 allowed",
        "5 groups, one 0.1 below, 0.1 allowed",
    )
    one_bad, one_below = f"{SLICES} slices, one of them 1.25 times as wrong", "5 groups, one 0.15 below, 0.05 allowed"
    true_auc = _true_rare_auc()
    cases: Mapping[str, Callable[[int, int], bool]] = {
        at_floor: lambda rows, seed: _slices_refuse(rows, seed, 1.0),
        rare: lambda rows, seed: _rare_slices_refuse(rows, seed, true_auc),
        one_bad: lambda rows, seed: _slices_refuse(rows, seed, 1.25),
        fair: lambda rows, seed: _groups_refuse(rows, seed, 0.0, 0.0),
        at_limit: lambda rows, seed: _groups_refuse(rows, seed, 0.1, 0.1),
        one_below: lambda rows, seed: _groups_refuse(rows, seed, 0.15, 0.05),
    }
    refused: dict[str, Runs] = {}
    for name, refuses in cases.items():
        bench.say(name)
        rows = bench.option("rows")
        refused[name] = tuple(100 * float(np.mean([refuses(rows, s) for s in seeds])) for seeds in _runs(bench))
    good = [
        Target(f"{name}: refused, per cent", refused[name], at_most=MOST_BY_CHANCE)
        for name in (at_floor, rare, fair, at_limit)
    ]
    bad = [Target(f"{name}: refused, per cent", refused[name], at_least=LEAST_FOUND) for name in (one_bad, one_below)]
    return Section(
        "Parts of the holdout: per cent of gates that refuse, confidence 0.8",
        (Column("refused", ",.1f"),),
        tuple(Row(name, {"refused": runs}) for name, runs in refused.items()),
        (*good, *bad),
        notes=(_sizes(bench),),
    )


def _by_bound(confidence: float, *, singly: bool = False) -> Callable[[World, int], bool]:
    return lambda w, seed: _gain_bound(w, confidence, seed, singly=singly) > 0


def _gain_bound(w: World, confidence: float, seed: int, *, singly: bool = False) -> float:
    blocks = np.arange(len(w.labels)) if singly else w.blocks
    how = Bootstrap(confidence, RESAMPLES, seed)
    return gain_bound(AUC, w.labels, w.candidate, w.champion, blocks, how)[1]


def _slices_refuse(rows: int, seed: int, worst: float) -> bool:
    """Errors whose mean is the floor, of one slice `worst` times that; a moment's rows err together."""
    random = np.random.default_rng(seed)
    kinds, blocks = _kinds(random, rows), np.arange(rows) // ROWS_PER_MOMENT
    error = np.abs(_noise(random, rows)) * np.sqrt(np.pi / 2)
    error[kinds == "s0"] *= worst
    case = Answers(error, np.zeros(rows), None, blocks)
    return _refused(judge_slices(SliceRule("kind", floor=1.0), "mae", case, kinds, Bootstrap(0.8, RESAMPLES, seed)))


def _rare_slices_refuse(rows: int, seed: int, floor: float) -> bool:
    random = np.random.default_rng(seed)
    kinds, blocks = _kinds(random, rows), np.arange(rows) // ROWS_PER_MOMENT
    case = Answers(*_rare(random, rows), None, blocks)
    return _refused(judge_slices(SliceRule("kind", floor=floor), "auc", case, kinds, Bootstrap(0.8, RESAMPLES, seed)))


def _rare(random: np.random.Generator, rows: int) -> tuple[Floats, Floats]:
    """Labels that are seldom positive, and a model's answers that are as good in every slice."""
    labels = (random.random(rows) < RARE).astype(float)
    return labels, _logistic(labels + _noise(random, rows))


def _true_rare_auc() -> float:
    return AUC.value(*_rare(np.random.default_rng(1), LARGE))


def _groups_refuse(rows: int, seed: int, gap: float, allowed: float) -> bool:
    random = np.random.default_rng(seed)
    kinds = random.choice(np.array(list("abcde"), dtype=object), rows)
    labels = (random.random(rows) < 0.4).astype(float)
    reach = {rate: NormalDist().inv_cdf(rate) for rate in (0.7, 0.7 - gap)}
    caught = _noise(random, rows) < np.where(kinds == "a", reach[0.7 - gap], reach[0.7])
    case = Answers(labels, np.where((labels > 0.5) & caught, 0.9, 0.1), None, np.arange(rows) // ROWS_PER_MOMENT)
    rule = FairnessRule("kind", max_opportunity_gap=allowed)
    return _refused(judge_fairness(rule, case, kinds, Bootstrap(0.8, RESAMPLES, seed)))


def _refused(asked: Sequence[tuple[str, float, Found]]) -> bool:
    return not all(found.passed for _, _, found in asked)


def _kinds(random: np.random.Generator, rows: int) -> NDArray[Any]:
    return random.choice(np.array([f"s{i}" for i in range(SLICES)], dtype=object), rows)


def _noise(random: np.random.Generator, rows: int) -> Floats:
    """Of variance 1, most of it shared by the rows of a moment."""
    blocks = np.arange(rows) // ROWS_PER_MOMENT
    return OWN * random.normal(size=rows) + SHARED * random.normal(size=int(blocks[-1]) + 1)[blocks]


def _runs(bench: Bench) -> list[range]:
    """The seeds of each run."""
    gates = bench.option("gates")
    return [range(10_000 * (run + 1), 10_000 * (run + 1) + gates) for run in range(bench.option("repetitions"))]


def _sizes(bench: Bench) -> str:
    gates, repetitions = bench.option("gates"), bench.option("repetitions")
    sizes = f"holdouts of {bench.option('rows'):,} rows, {ROWS_PER_MOMENT} a moment"
    return f"{repetitions} runs of {gates} gates each, {sizes}"


def _logistic(score: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-score)), dtype=np.float64)
