"""Rolling figures."""

import pytest

from services.monitor.domain.live import WINDOW_S, Rolling


def test_rates_and_quantiles_over_the_window():
    rolling = Rolling()
    for second in range(100, 110):
        for i in range(100):
            rolling.add(second, answered=True, failed=False, latency_us=1000 if i < 98 else 50_000)
        rolling.add(second, answered=False, failed=False, latency_us=0)
        rolling.add(second, answered=False, failed=True, latency_us=0)
    live = rolling.live(109.5)
    assert live.answered_per_s == pytest.approx(100)
    assert live.shadowed_per_s == live.failed_per_s == pytest.approx(1)
    assert 1.0 <= live.p50_ms <= 1.25 and 50 <= live.p99_ms <= 63


def test_old_seconds_fall_out():
    rolling = Rolling()
    rolling.add(100, answered=True, failed=False, latency_us=10**9)
    assert rolling.live(100).answered_per_s == 1
    late = rolling.live(100 + WINDOW_S)
    assert late.answered_per_s == 0 and late.p99_ms == 0
