"""The holdout's rows once more, with inputs that are worse or were changed on purpose: what is asked of a model beyond
its score. The same rows, rules and seed give the same probes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from millrace.definitions.gate import Behaviour, Gate, Robustness
from numpy.typing import NDArray

from services.trainer.domain.examples import Columns
from services.trainer.domain.metrics import Floats

NOISE, MISSING, SWAPS = "noise", "missing", "swaps"
Column = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Probe:
    """What is put to the model, and in which rows it is another question than before."""

    name: str
    columns: Columns
    changed: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Probed:
    """A model's answers to a probe, float64[n], and in which rows they are answers to another question."""

    answers: Floats
    changed: NDArray[np.bool_]


def probes(gate: Gate, columns: Columns, seed: int) -> Iterator[Probe]:
    """Each probe that the gate asks for."""
    for name in (NOISE, MISSING, SWAPS):
        if getattr(gate.robustness, name) is not None:
            worse = _disturbed(name, gate.robustness, columns, _random(seed, name))
            yield _probe(robustness_name(name), columns, worse)
    for behaviour in gate.behaviour:
        changed = _changed(behaviour, columns, _random(seed, behaviour.name))
        probe = _probe(behaviour_name(behaviour), columns, {**columns, **changed})
        # A known case is the question itself, also to a row that has these values already.
        yield replace(probe, changed=np.ones_like(probe.changed)) if behaviour.given else probe


def _probe(name: str, before: Columns, after: Columns) -> Probe:
    changed = np.zeros(len(next(iter(before.values()))), dtype=bool)
    for column, values in after.items():
        if values is not before[column]:
            same = values == before[column]
            if values.dtype != object:
                same |= np.isnan(values) & np.isnan(before[column])
            changed |= ~same
    return Probe(name, after, changed)


def as_expected(behaviour: Behaviour, before: Floats, after: Floats) -> NDArray[np.bool_]:
    """Which rows' answers are as expected; an answer that is no number never is."""
    if behaviour.given:
        low = -np.inf if behaviour.at_least is None else behaviour.at_least
        high = np.inf if behaviour.at_most is None else behaviour.at_most
        return np.asarray((after >= low) & (after <= high))
    change = after - before
    if behaviour.vary:
        return np.asarray(np.abs(change) <= behaviour.max_change)
    return np.asarray(change >= -behaviour.max_change if behaviour.rises else change <= behaviour.max_change)


def robustness_name(disturbance: str) -> str:
    """Of a probe and of its check."""
    return f"robustness:{disturbance}"


def behaviour_name(behaviour: Behaviour) -> str:
    """Of a probe and of its check."""
    return f"behaviour:{behaviour.name}"


def _random(seed: int, name: str) -> np.random.Generator:
    """One per probe, so that a probe more changes no other."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _disturbed(name: str, rule: Robustness, columns: Columns, random: np.random.Generator) -> Columns:
    share = getattr(rule, name).share
    changed: dict[str, Column] = {}
    for column, values in columns.items():
        is_text = values.dtype == object
        if name == NOISE and not is_text:
            known = values[np.isfinite(values)].astype(np.float64)
            spread = float(known.std()) if len(known) else 0.0
            changed[column] = (values + random.normal(size=len(values)) * share * spread).astype(values.dtype)
        elif name == MISSING:
            changed[column] = np.where(random.random(len(values)) < share, "" if is_text else np.nan, values).astype(
                values.dtype
            )
        elif name == SWAPS and is_text:
            swapped = random.random(len(values)) < share
            changed[column] = np.where(swapped, values[random.integers(0, len(values), len(values))], values)
    return {**columns, **changed}


def _changed(behaviour: Behaviour, columns: Columns, random: np.random.Generator) -> Mapping[str, Column]:
    if behaviour.vary:
        values = columns[behaviour.vary]
        return {behaviour.vary: values[random.permutation(len(values))]}
    if behaviour.raised:
        values = columns[behaviour.raised]
        return {behaviour.raised: (values + behaviour.by).astype(values.dtype)}
    return {name: _constant(columns[name], value) for name, value in behaviour.given}


def _constant(values: Column, value: str) -> Column:
    return np.full(len(values), value if values.dtype == object else float(value), dtype=values.dtype)
