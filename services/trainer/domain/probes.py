"""The holdout's rows once more, with inputs that are worse or were changed on purpose: what is asked of a model beyond
its score. The same rows, rules and seed give the same probes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from millrace.definitions.gate import Behaviour, Gate, Robustness
from numpy.typing import NDArray

from services.trainer.domain.examples import Columns
from services.trainer.domain.metrics import Floats

NOISE, MISSING, SWAPS = "noise", "missing", "swaps"
Column = NDArray[Any]


def probes(gate: Gate, columns: Columns, seed: int) -> Iterator[tuple[str, Columns]]:
    """Each probe that the gate asks for: its name, and the columns that are put to the model."""
    for name in (NOISE, MISSING, SWAPS):
        if getattr(gate.robustness, name) is not None:
            yield robustness_name(name), _disturbed(name, gate.robustness, columns, _random(seed, name))
    for behaviour in gate.behaviour:
        changed = _changed(behaviour, columns, _random(seed, behaviour.name))
        yield behaviour_name(behaviour), {**columns, **changed}


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
            spread = float(np.nanstd(values)) if np.isfinite(values).any() else 0.0
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
