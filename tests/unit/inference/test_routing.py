"""Routing: sticky, the shares that were asked for, and a raised canary only takes keys in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.domain.plan import Plan, PlanError, Role, Variant
from services.inference.domain.routing import Router, place

KEYS = [f"key-{n}" for n in range(4000)]


def plan(*variants, salt="s"):
    return Plan("p", "m", 1, salt, variants)


def variant(version, role, weight=0.0):
    return Variant(version, f"sha256:{version}", "", role, weight)


def shares(weight, salt="s"):
    router = Router(plan(variant(1, Role.CHAMPION, 1 - weight), variant(2, Role.CANARY, weight), salt=salt))
    return {key: router.choose(key).version for key in KEYS}


@given(st.floats(0, 1), st.floats(0, 1), st.text(max_size=8))
def test_raising_the_canary_only_moves_keys_into_it(first, second, salt):
    low, high = sorted((first, second))
    routers = [
        Router(plan(variant(1, Role.CHAMPION), variant(2, Role.CANARY, weight), salt=salt)) for weight in (low, high)
    ]
    for key in KEYS[:200]:
        before, after = (r.choose(key).version for r in routers)
        assert (before, after) != (2, 1)


@given(st.text(), st.text())
def test_a_place_is_in_the_unit_interval_and_stays(salt, key):
    assert 0 <= place(salt, key) < 1
    assert place(salt, key) == place(salt, key)


def test_places_are_pinned_for_all_replicas_and_versions_of_this_code():
    assert place("salt", "order-1") == 0.12448501374339616
    assert place("other", "order-1") == 0.5397642961296943


@pytest.mark.parametrize("weight", [0.0, 0.05, 0.5, 1.0])
def test_the_share_is_the_weight(weight):
    share = sum(v == 2 for v in shares(weight).values()) / len(KEYS)
    assert share == pytest.approx(weight, abs=0.02)


def test_another_salt_deals_anew():
    assert shares(0.5, "s") != shares(0.5, "t")


def test_ab_variants_lie_behind_the_canary_and_the_champion_takes_the_rest():
    router = Router(
        plan(
            variant(1, Role.CHAMPION),
            variant(2, Role.AB, 0.3),
            variant(3, Role.AB, 0.2),
            variant(4, Role.CANARY, 0.1),
            variant(5, Role.SHADOW, 0.9),
        )
    )
    counts = {v: 0 for v in range(1, 6)}
    for key in KEYS:
        counts[router.choose(key).version] += 1
    assert [counts[v] / len(KEYS) for v in range(1, 6)] == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.0], abs=0.03)


def test_without_a_champion_the_last_one_takes_the_rest():
    router = Router(plan(variant(2, Role.AB, 0.5), variant(3, Role.AB, 0.1)))
    assert {router.choose(k).version for k in KEYS} == {2, 3}


@pytest.mark.parametrize(
    ("variants", "words"),
    [
        ([variant(1, Role.CHAMPION), variant(1, Role.SHADOW)], "stands twice"),
        ([variant(1, Role.SHADOW)], "no variant answers"),
        ([variant(1, Role.CHAMPION), variant(2, Role.CHAMPION)], "2 champions"),
        ([variant(1, Role.CHAMPION), variant(2, Role.CANARY, 1.5)], "weight 1.5"),
        ([variant(1, Role.CHAMPION), variant(2, Role.CANARY, float("nan"))], "weight nan"),
    ],
)
def test_a_plan_that_cannot_be_served_says_why(variants, words):
    with pytest.raises(PlanError, match=words):
        plan(*variants).check()
