"""Rolling rates and latency over the last seconds of the wall clock. Recomputable, so it may be lost at any time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

WINDOW_S = 30
# Upper bounds of the latency buckets, milliseconds: each 1.25 times the one before, 0.1 ms to about 12 s.
BOUNDS_MS = tuple(0.1 * 1.25**i for i in range(53))


@dataclass(slots=True)
class _Second:
    at_s: int
    answered: int = 0
    shadowed: int = 0
    failed: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))


@dataclass(frozen=True, slots=True)
class Live:
    """Per second of wall time, over the window; latencies in milliseconds (upper bounds of their buckets)."""

    answered_per_s: float
    shadowed_per_s: float
    failed_per_s: float
    p50_ms: float
    p99_ms: float


class Rolling:
    """One model's last WINDOW_S seconds, in as many counters: its size does not depend on the load."""

    def __init__(self) -> None:
        self._seconds: deque[_Second] = deque(maxlen=WINDOW_S)

    def add(self, now_s: float, *, answered: bool, failed: bool, latency_us: int) -> None:
        """One prediction."""
        second = self._second(int(now_s))
        if failed:
            second.failed += 1
        elif not answered:
            second.shadowed += 1
        else:
            second.answered += 1
            second.latency[_bucket(latency_us / 1000)] += 1

    def live(self, now_s: float) -> Live:
        """What the window holds now."""
        recent = [s for s in self._seconds if now_s - s.at_s < WINDOW_S]
        span_s = float(min(WINDOW_S, max(1, int(now_s) - recent[0].at_s + 1))) if recent else 1.0
        counts = [sum(column) for column in zip(*(s.latency for s in recent), strict=True)] if recent else []
        return Live(
            answered_per_s=sum(s.answered for s in recent) / span_s,
            shadowed_per_s=sum(s.shadowed for s in recent) / span_s,
            failed_per_s=sum(s.failed for s in recent) / span_s,
            p50_ms=_quantile(counts, 0.50),
            p99_ms=_quantile(counts, 0.99),
        )

    def _second(self, at_s: int) -> _Second:
        if not self._seconds or self._seconds[-1].at_s < at_s:
            self._seconds.append(_Second(at_s))
        return self._seconds[-1]


def _bucket(latency_ms: float) -> int:
    return next((i for i, bound in enumerate(BOUNDS_MS) if latency_ms <= bound), len(BOUNDS_MS))


def _quantile(counts: list[int], share: float) -> float:
    total, seen = sum(counts), 0
    for i, count in enumerate(counts):
        seen += count
        if count and seen >= share * total:
            return BOUNDS_MS[min(i, len(BOUNDS_MS) - 1)]
    return 0.0
