"""Sketches of a column: how many values differ, and how they are spread. Small, and grown batch by batch."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_REGISTERS = 2048  # HyperLogLog: a standard error of 1.04 / sqrt(2048) = 2.3 %
_INDEX_BITS = np.uint64(64 - 11)
_ALPHA = 0.7213 / (1 + 1.079 / _REGISTERS)
GROWTH = 1.04  # width of a bin: a quantile lies within 2 % of its value
LEAST = 1e-12  # smaller magnitudes count as zero
MAX_BINS = 1024  # 10 KB as text; beyond it the smallest magnitudes share one
_LOG_GROWTH = math.log(GROWTH)


@dataclass(slots=True)
class Distinct:
    """How many different values there were, estimated (HyperLogLog; nearly exact below some thousands)."""

    registers: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(_REGISTERS, dtype=np.uint8))

    def add_numbers(self, values: NDArray[np.float64]) -> None:
        """Adds float64[n] without NaN."""
        self._add((values + 0.0).view(np.uint64))  # adding 0.0 makes -0.0 equal 0.0

    def add_texts(self, texts: Iterable[str]) -> None:
        """Adds texts; callers leave repeats within a batch out, which costs less than to sketch them."""
        self._add(np.fromiter((zlib.crc32(text.encode()) for text in texts), dtype=np.uint64))

    @property
    def count(self) -> int:
        """The estimate."""
        zeros = int((self.registers == 0).sum())
        raw = _ALPHA * _REGISTERS**2 / float(np.exp2(-self.registers.astype(np.float64)).sum())
        if zeros and raw <= 2.5 * _REGISTERS:
            return round(_REGISTERS * math.log(_REGISTERS / zeros))
        return round(raw)

    def to_text(self) -> str:
        """To keep; `from_text` reads it."""
        return base64.b64encode(zlib.compress(self.registers.tobytes(), 1)).decode()

    @classmethod
    def from_text(cls, text: str) -> Distinct:
        """What `to_text` wrote."""
        registers = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8).copy()
        return cls(registers)

    def _add(self, raw: NDArray[np.uint64]) -> None:
        if not len(raw):
            return
        mixed = _mix(raw)
        places = (mixed >> _INDEX_BITS).astype(np.int64)
        rest = (mixed << np.uint64(11)) | np.uint64(1 << 10)  # a one at the end bounds the run of zeros
        # float64 rounds up near a power of two: one bit of one register, once in 2**53.
        ranks = (64 - np.floor(np.log2(rest.astype(np.float64)))).astype(np.uint8)
        np.maximum.at(self.registers, places, ranks)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: each bit of the outcome hangs on all of the input."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@dataclass(slots=True)
class Spread:
    """A histogram whose bins grow by 4 %: quantiles within 2 %, whatever the numbers' size."""

    bins: dict[int, int] = field(default_factory=dict)

    def add(self, values: NDArray[np.float64]) -> None:
        """Adds float64[n] without NaN."""
        magnitudes = np.maximum(np.abs(values), LEAST)
        steps = np.ceil(np.log(magnitudes / LEAST) / _LOG_GROWTH)
        numbers, counts = np.unique((np.sign(values) * steps).astype(np.int64), return_counts=True)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            self.bins[number] = self.bins.get(number, 0) + count
        while len(self.bins) > MAX_BINS:
            nearest, second = sorted(self.bins, key=abs)[:2]
            self.bins[second] += self.bins.pop(nearest)

    def quantiles(self, shares: Iterable[float]) -> list[float]:
        """The value below which each share of the numbers lies; NaN for no numbers."""
        numbers = sorted(self.bins)
        total = sum(self.bins.values())
        if not total:
            return [math.nan for _ in shares]
        reached = np.cumsum([self.bins[number] for number in numbers])
        return [_value(numbers[int(np.searchsorted(reached, max(1.0, share * total)))]) for share in shares]

    def to_state(self) -> list[list[int]]:
        """To keep; `from_state` reads it."""
        return [[number, count] for number, count in self.bins.items()]

    @classmethod
    def from_state(cls, state: Iterable[Any]) -> Spread:
        """What `to_state` wrote."""
        return cls({int(number): int(count) for number, count in state})


def _value(number: int) -> float:
    """The middle of a bin, by ratio."""
    if not number:
        return 0.0
    return math.copysign(LEAST * GROWTH ** (abs(number) - 1) * 2 * GROWTH / (1 + GROWTH), number)


@dataclass(slots=True)
class Common:
    """Texts of a field that has few: counted one by one; None once there were more than MOST."""

    counts: dict[str, int] | None = field(default_factory=dict)

    MOST = 32
    CHARACTERS = 80

    def add(self, counts: Mapping[str, int]) -> None:
        """Adds a batch."""
        if self.counts is None:
            return
        for text, count in counts.items():
            shown = text[: self.CHARACTERS]
            self.counts[shown] = self.counts.get(shown, 0) + count
            if len(self.counts) > self.MOST:
                self.counts = None
                return

    def top(self) -> list[tuple[str, int]]:
        """The most frequent first."""
        return sorted((self.counts or {}).items(), key=lambda pair: (-pair[1], pair[0]))
