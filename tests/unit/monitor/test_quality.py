"""Windows of a source: refused events, and magnitudes that jump."""

import numpy as np
import pytest
from millrace.definitions.model import QualityMonitor

from services.monitor.domain import quality
from services.monitor.domain.quality import Broken, Finding, Profile, Window

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


def test_rules_of_windows_are_told_with_what_they_measured():
    found = (
        Finding("delay", "null_share", 0.25, 0.1, 200, True),
        Finding("id", "unique", 3, 0, 200, True, "a-17"),
        Finding("id", "references", 2, 0, 200, True, "b-9", "at least so many"),
        Finding("", "freshness", 7200, 3600, 0, True),
        Finding("size", "null_share", 0.0, 0.1, 12, False, "", "fewer than 20 events have no share"),
        Finding("kind", "unique", 0, 0, 200, False),
    )
    broken = (Broken("delay", "null_share", 50, ""), Broken("delay", "range", 9, "4200"))
    judged = quality.expected(Window("orders", 0, SIX_HOURS_US, 200, 9, broken, (), "e", found))
    assert [(j.subject, j.beyond) for j in judged] == [
        ("orders.delay.null_share", True),
        ("orders.id.unique", True),
        ("orders.id.references", True),
        ("orders.freshness", True),
        ("orders.kind.unique", False),
    ]
    assert "delay is null in 25.0% of 200 events (allowed 10.0%)" in judged[0].reason
    assert judged[1].reason == "3 of 200 values of id repeat a value, for example a-17"
    assert "never seen, for example b-9 (at least so many)" in judged[2].reason
    assert judged[3].reason == "nothing came for 7200 s (allowed 3600 s)"


def test_rules_that_refuse_nothing_are_no_reason_for_refusals():
    broken = (Broken("delay", "null_share", 90, ""), Broken("size", "unknown", 200, ""), Broken("kind", "set", 9, "x"))
    assert "kind breaks set 9 times" in quality.refused(window(1, quarantined=9, broken=broken), RULE).reason
