"""How often the gate errs: equal, better and worse models whose truth is known, judged over and over.

Rows come four to a moment, and a moment has weather of its own that no model knows: rows are not independent, as in
life. A model's score is the truth plus noise of its own, part of it shared by the rows of a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from millrace.definitions.gate import FairnessRule, SliceRule

from bench.benchmark import Bench, Benchmark, Column, Row, Section, Target
from services.trainer.domain.metrics import MEASURES, Bootstrap, Floats, gain_bound
from services.trainer.domain.parts import Answers, judge_fairness, judge_slices

ROWS_PER_MOMENT = 4
WEATHER, NOISE = 0.7, 0.8  # standard deviations of a moment's own effect, and of the champion's noise
BETTER, MUCH_BETTER, WORSE = 0.62, 0.40, 0.95  # noise of other models
LARGE = 400_000  # rows on which the true AUC of a model is told
RESAMPLES = 300
SLICES, FLOOR_OF_EQUALS = 10, 1.0
CONFIDENCES = (0.8, 0.95)
POINT, SINGLE = "by the point alone", "rows drawn singly, 0.8"
AUC = MEASURES["auc"]
MOST_BY_CHANCE = 25.0  # per cent: 20 by the confidence of 0.8, and what this many gates leave open


@dataclass(frozen=True)
class World:
    """One holdout with the answers of two models."""

    labels: Floats
    candidate: Floats
    champion: Floats
    blocks: np.ndarray


def jobs() -> list[Benchmark]:
    """`gate`."""
    options = {"rows": 3_000, "gates": 60, "repetitions": 5}
    return [Benchmark("gate", "how often the gate passes what is not better, and refuses what is", run, options)]


def run(bench: Bench) -> list[Section]:
    """Two tables: against the champion, and parts of the rows."""
    return [_champions(bench), _parts(bench)]


def world(rows: int, noise: float, seed: int) -> World:
    """A candidate whose noise is `noise` beside a champion whose noise is NOISE."""
    random = np.random.default_rng(seed)
    blocks = np.arange(rows) // ROWS_PER_MOMENT
    moments = int(blocks[-1]) + 1
    truth = random.normal(size=rows) * 1.2
    weather = random.normal(size=moments)[blocks] * WEATHER
    labels = (random.random(rows) < _logistic(truth + weather)).astype(float)

    def answers(spread: float) -> Floats:
        own, shared = random.normal(size=rows), random.normal(size=moments)[blocks]
        return _logistic(truth + spread * (0.8 * own + 0.6 * shared))

    return World(labels, answers(noise), answers(NOISE), blocks)


def _champions(bench: Bench) -> Section:
    ways: Mapping[str, Callable[[World, int], bool]] = {
        **{f"the gate, confidence {c:g}": _by_bound(c) for c in CONFIDENCES},
        POINT: lambda w, seed: AUC.value(w.labels, w.candidate) > AUC.value(w.labels, w.champion),
        SINGLE: _by_bound(CONFIDENCES[0], singly=True),
    }
    rows, shares = [], {}
    for name, noise in (
        ("equal", NOISE), ("better", BETTER), ("much better", MUCH_BETTER), ("worse", WORSE),
    ):  # fmt: skip
        large = world(LARGE, noise, 1)
        gain = AUC.value(large.labels, large.candidate) - AUC.value(large.labels, large.champion)
        bench.say(f"a candidate that is {name}: AUC {gain:+.4f}")
        passed: dict[str, list[float]] = {way: [] for way in ways}
        for repetition in range(bench.option("repetitions")):
            worlds = [world(bench.option("rows"), noise, seed) for seed in _seeds(bench, repetition)]
            for way, passes in ways.items():
                passed[way].append(100 * float(np.mean([passes(w, seed) for seed, w in enumerate(worlds)])))
        shares[name] = {way: tuple(values) for way, values in passed.items()}
        rows.append(Row(f"{name} (AUC {gain:+.4f})", shares[name]))
    equal = shares["equal"]["the gate, confidence 0.8"]
    return Section(
        "A candidate against the champion: per cent of gates that pass it",
        tuple(Column(way, ",.1f") for way in ways),
        tuple(rows),
        targets=(Target("equal models that pass, per cent", equal, at_most=MOST_BY_CHANCE),),
        notes=(_sizes(bench),),
    )


def _parts(bench: Bench) -> Section:
    cases: Mapping[str, Callable[[int, int], bool]] = {
        f"{SLICES} slices, each exactly at the floor": lambda rows, seed: _slices_refuse(rows, seed, 1.0),
        f"{SLICES} slices, one of them 1.25 times as wrong": lambda rows, seed: _slices_refuse(rows, seed, 1.25),
        "5 groups, equal, 0 allowed": lambda rows, seed: _groups_refuse(rows, seed, 0.0, 0.0),
        "5 groups, one 0.15 below, 0.05 allowed": lambda rows, seed: _groups_refuse(rows, seed, 0.15, 0.05),
        "5 groups, one 0.1 below, 0.1 allowed": lambda rows, seed: _groups_refuse(rows, seed, 0.1, 0.1),
    }
    rows, runs = [], {}
    for name, refuses in cases.items():
        bench.say(name)
        runs[name] = tuple(
            100 * float(np.mean([refuses(bench.option("rows"), seed) for seed in _seeds(bench, repetition)]))
            for repetition in range(bench.option("repetitions"))
        )
        rows.append(Row(name, {"refused": runs[name]}))
    targets = tuple(
        Target(f"{name}: refused, per cent", runs[name], at_most=MOST_BY_CHANCE) for name in list(runs)[::2]
    )
    return Section(
        "Parts of the holdout: per cent of gates that refuse, confidence 0.8",
        (Column("refused", ",.1f"),),
        tuple(rows),
        targets,
        notes=(_sizes(bench),),
    )


def _by_bound(confidence: float, *, singly: bool = False) -> Callable[[World, int], bool]:
    def passes(w: World, seed: int) -> bool:
        blocks = np.arange(len(w.labels)) if singly else w.blocks
        bound = gain_bound(AUC, w.labels, w.candidate, w.champion, blocks, Bootstrap(confidence, RESAMPLES, seed))[1]
        return bound > 0

    return passes


def _slices_refuse(rows: int, seed: int, worst: float) -> bool:
    """Errors whose mean is the floor, of one slice `worst` times that; a moment's rows err together."""
    random = np.random.default_rng(seed)
    blocks = np.arange(rows) // ROWS_PER_MOMENT
    kinds = random.choice(np.array([f"s{i}" for i in range(SLICES)], dtype=object), rows)
    together = random.normal(size=int(blocks[-1]) + 1)[blocks]
    error = np.abs(0.8 * random.normal(size=rows) + 0.6 * together) * np.sqrt(np.pi / 2)
    error[kinds == "s0"] *= worst
    rule = SliceRule("kind", floor=FLOOR_OF_EQUALS)
    case = Answers(error, np.zeros(rows), None, blocks)
    ((_, _, found),) = judge_slices(rule, "mae", case, kinds, Bootstrap(0.8, RESAMPLES, seed))
    return not found.passed


def _groups_refuse(rows: int, seed: int, gap: float, allowed: float) -> bool:
    random = np.random.default_rng(seed)
    kinds = random.choice(np.array(list("abcde"), dtype=object), rows)
    labels = (random.random(rows) < 0.4).astype(float)
    caught = random.random(rows) < np.where(kinds == "a", 0.7 - gap, 0.7)
    case = Answers(labels, np.where((labels > 0.5) & caught, 0.9, 0.1), None, np.arange(rows) // ROWS_PER_MOMENT)
    rule = FairnessRule("kind", max_opportunity_gap=allowed)
    ((_, _, found),) = judge_fairness(rule, case, kinds, Bootstrap(0.8, RESAMPLES, seed))
    return not found.passed


def _seeds(bench: Bench, repetition: int) -> range:
    first = 10_000 * (repetition + 1)
    return range(first, first + bench.option("gates"))


def _sizes(bench: Bench) -> str:
    gates, repetitions = bench.option("gates"), bench.option("repetitions")
    sizes = f"holdouts of {bench.option('rows'):,} rows, {ROWS_PER_MOMENT} a moment"
    return f"{repetitions} runs of {gates} gates each, {sizes}"


def _logistic(score: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-score)), dtype=np.float64)
