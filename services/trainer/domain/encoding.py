"""How raw columns become numbers a net can learn from. Learned on the rows to fit; the graph does the same inside.

Numbers: missing becomes the mean, outliers are cut at the extreme quantiles, then standardised; a flag tells missing.
Strings: one code each; 0 is any value seldom or never seen, 1 is the missing string, the rest is the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.trainer.domain.examples import Columns, ColumnSpec

UNKNOWN_CODE, MISSING_CODE, FIRST_CODE = 0, 1, 2
MAX_VOCABULARY = 5_000
MIN_OCCURRENCES = 5
OUTLIER_SHARE = 0.001


@dataclass(frozen=True, slots=True)
class NumberCode:
    """Standardisation of one number; all values are exact in float32."""

    name: str
    low: float
    high: float
    mean: float
    scale: float  # 1 / standard deviation


@dataclass(frozen=True, slots=True)
class StringCode:
    """Vocabulary of one string; the value at place i has code i + 2."""

    name: str
    vocabulary: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of codes."""
        return len(self.vocabulary) + FIRST_CODE


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Rows as a net takes them: dense float32[n, d], codes int64[n, s], target float32[n]."""

    dense: NDArray[np.float32]
    codes: NDArray[np.int64]
    target: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Encoding:
    """Everything learned about the inputs before any net sees them."""

    numbers: tuple[NumberCode, ...]
    strings: tuple[StringCode, ...]

    def encode(self, columns: Columns) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Dense float32[n, 2 * numbers] (values, then missing flags) and codes int64[n, strings]."""
        rows = len(next(iter(columns.values()))) if columns else 0
        dense = np.zeros((rows, 2 * len(self.numbers)), dtype=np.float32)
        for place, code in enumerate(self.numbers):
            values = columns[code.name].astype(np.float32)
            missing = np.isnan(values)
            filled = np.where(missing, np.float32(code.mean), values)
            cut = np.minimum(np.maximum(filled, np.float32(code.low)), np.float32(code.high))
            dense[:, place] = (cut - np.float32(code.mean)) * np.float32(code.scale)
            dense[:, len(self.numbers) + place] = missing
        codes = np.zeros((rows, len(self.strings)), dtype=np.int64)
        for place, string in enumerate(self.strings):
            table = {value: code + FIRST_CODE for code, value in enumerate(string.vocabulary)} | {"": MISSING_CODE}
            codes[:, place] = [table.get(value, UNKNOWN_CODE) for value in columns[string.name]]
        return dense, codes


def encode_rows(encoding: Encoding, columns: Columns, target: NDArray[np.float64]) -> EncodedRows:
    """Rows with their target, ready for a net."""
    return EncodedRows(*encoding.encode(columns), target.astype(np.float32))


def learn_encoding(columns: Columns, inputs: Sequence[ColumnSpec]) -> Encoding:
    """Learns the encoding of `inputs` from the rows to fit."""
    return Encoding(
        numbers=tuple(_learn_number(i.name, columns[i.name]) for i in inputs if not i.is_string),
        strings=tuple(_learn_string(i.name, columns[i.name]) for i in inputs if i.is_string),
    )


def _learn_number(name: str, values: NDArray[np.float32]) -> NumberCode:
    known = values[np.isfinite(values)].astype(np.float64)
    if len(known) == 0:
        return NumberCode(name, low=0.0, high=0.0, mean=0.0, scale=1.0)
    low, high = (_exact(v) for v in np.quantile(known, [OUTLIER_SHARE, 1 - OUTLIER_SHARE]))
    cut = np.clip(known, low, high)
    spread = float(cut.std())
    return NumberCode(name, low, high, _exact(cut.mean()), _exact(1 / spread) if spread > 1e-12 else 1.0)


def _learn_string(name: str, values: NDArray[np.object_]) -> StringCode:
    distinct, counts = np.unique(values.astype(str), return_counts=True)
    kept = [(int(n), str(v)) for v, n in zip(distinct, counts, strict=True) if v != "" and n >= MIN_OCCURRENCES]
    kept.sort(key=lambda pair: (-pair[0], pair[1]))
    return StringCode(name, tuple(value for _, value in kept[:MAX_VOCABULARY]))


def _exact(value: float) -> float:
    """The nearest number that float32 holds exactly, so that graph and training see the same."""
    return float(np.float32(value))
