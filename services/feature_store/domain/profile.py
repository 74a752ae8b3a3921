"""What the values of a feature look like: counts, moments, quantiles, the most frequent values, ages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from millrace.definitions.model import FieldType

from services.feature_store.domain.answers import Cells
from services.feature_store.domain.values import Status

SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
BINS = 20
TOP = 10
LONGEST = 80  # characters of a value that are shown


@dataclass(frozen=True, slots=True)
class Moments:
    """Of the present numbers; `edges` has one more than `counts`."""

    mean: float
    std: float
    least: float
    greatest: float
    quantiles: tuple[float, ...]  # at SHARES
    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """One column over some entities. `moments` None: a text, or no present value."""

    name: str
    type: FieldType
    present: int
    missing: int
    expired: int
    distinct: int
    top: tuple[tuple[str, int], ...]
    age_quantiles_us: tuple[float, ...]  # at SHARES, of what has an age; empty when nothing has
    moments: Moments | None


def profile(name: str, kind: FieldType, parts: Sequence[Cells]) -> Profile:
    """The profile of a column from its cells, batch by batch."""
    status = np.concatenate([part.status for part in parts]) if parts else np.zeros(0, dtype=np.int8)
    ages = np.concatenate([part.age_us for part in parts]) if parts else np.zeros(0, dtype=np.int64)
    values = [v for part in parts for v in part.values[part.status == Status.PRESENT].tolist()]
    counted = Counter(map(_shown, values))
    aged = ages[ages >= 0].astype(np.float64)
    return Profile(
        name=name,
        type=kind,
        present=len(values),
        missing=int(np.count_nonzero(status == Status.MISSING)),
        expired=int(np.count_nonzero(status == Status.EXPIRED)),
        distinct=len(counted),
        # Ties by name: two measurements of the same values say the same.
        top=tuple(sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:TOP]),
        age_quantiles_us=tuple(np.quantile(aged, SHARES).tolist()) if len(aged) else (),
        moments=_moments(values) if kind is FieldType.NUMBER and values else None,
    )


def _moments(values: Sequence[float]) -> Moments | None:
    numbers = np.array(values, dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return None
    least, greatest = float(numbers.min()), float(numbers.max())
    # Bins thinner than what a float can tell apart are none.
    bins = BINS if greatest - least > abs(greatest) * 1e-12 else 1
    counts, edges = np.histogram(numbers, bins=bins)
    with np.errstate(over="ignore"):  # of numbers near a float's limit the sums are infinite, and said to be
        mean, std = float(numbers.mean()), float(numbers.std())
    return Moments(
        mean=mean,
        std=std,
        least=least,
        greatest=greatest,
        quantiles=tuple(np.quantile(numbers, SHARES).tolist()),
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
    )


def _shown(value: object) -> str:
    text = f"{value:.12g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
