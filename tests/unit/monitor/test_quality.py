"""Windows of a source: refused events, and magnitudes that jump."""

import numpy as np
import pytest
from millrace.definitions.model import QualityMonitor

from services.monitor.domain import quality
from services.monitor.domain.quality import Broken, Profile, Window

SIX_HOURS_US = 6 * 3_600_000_000
RULE = QualityMonitor(max_quarantined_share=0.02)


def window(i, mean=12.0, std=20.0, events=200, quarantined=0, broken=()):
    profile = Profile("delay", events, 0, mean, std)
    return Window("orders", i * SIX_HOURS_US, (i + 1) * SIX_HOURS_US, events, quarantined, broken, (profile,))


@pytest.fixture
def past():
    random = np.random.default_rng(1)
    return [window(i, random.normal(12, 6), abs(random.normal(20, 8))) for i in range(20)]


def test_refused_events_name_the_field_the_rule_and_an_example():
    judged = quality.refused(window(1, quarantined=9, broken=(Broken("delay", "range", 9, "4200"),)), RULE)
    assert judged.beyond and judged.statistic == pytest.approx(0.045)
    assert "delay breaks range 9 times, for example 4200" in judged.reason
    assert not quality.refused(window(1, quarantined=4), RULE).beyond
    assert not quality.refused(window(1, events=19, quarantined=19), RULE).beyond
    assert not quality.refused(window(1, events=0), RULE).beyond


def test_seconds_in_place_of_minutes_are_a_jump(past):
    (judged,) = quality.jumps(window(21, 12 * 60, 20 * 60), past)
    assert judged.beyond and judged.subject == "orders.delay"
    assert 40 < judged.statistic < 90 and "larger" in judged.reason
    (back,) = quality.jumps(window(21, 0.2, 0.3), past)
    assert back.beyond and "smaller" in back.reason


def test_a_stormy_window_is_no_jump(past):
    (judged,) = quality.jumps(window(21, 35, 50), past)
    assert not judged.beyond


def test_history_is_needed(past):
    assert quality.jumps(window(21, 700, 900), past[:7]) == []
    assert quality.jumps(window(21, events=10), past) == []
    assert quality.jumps(window(21, 0.0, 0.0), past) == []
