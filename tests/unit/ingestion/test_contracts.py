"""The contract check: what is kept, what is refused, with which rule and field."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingestion.domain.contracts import Contract, Refusal, Row
from services.ingestion.domain.values import BadValue, key_text, to_integer, to_number, to_timestamp
from tests.unit.ingestion.world import HOUR, SENSOR, T0, reading

LATEST = T0 + HOUR
contract = Contract(SENSOR, b"secret")


def broken(value):
    verdict = contract.check(value, LATEST)
    assert isinstance(verdict, Refusal)
    return [(v.field, v.rule) for v in verdict.violations]


def test_a_good_event_is_normalised():
    row = contract.check(
        reading("s1", "2013-07-01T02:00:00+02:00", degrees=20, count=3.0, kind="hot", is_on=True, extra=1), LATEST
    )
    assert isinstance(row, Row)
    assert row.columns == {"sensor": "s1", "at": T0, "degrees": 20.0, "count": 3, "kind": "hot", "is_on": True}
    assert type(row.columns["degrees"]) is float and type(row.columns["count"]) is int
    assert (row.key, row.event_us, row.unknown) == ("s1", T0, ("extra",))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"degrees": "20"}, ("degrees", "type")),
        ({"degrees": True}, ("degrees", "type")),
        ({"degrees": math.nan}, ("degrees", "type")),
        ({"degrees": math.inf}, ("degrees", "type")),
        ({"degrees": 10**400}, ("degrees", "type")),
        ({"degrees": 151}, ("degrees", "range")),
        ({"count": 1.5}, ("count", "type")),
        ({"count": 2**63}, ("count", "type")),
        ({"kind": "warm"}, ("kind", "set")),
        ({"sensor": "S1 "}, ("sensor", "regex")),
        ({"sensor": "s1\n"}, ("sensor", "regex")),
        ({"sensor": None}, ("sensor", "key")),
        ({"sensor": 7}, ("sensor", "type")),
        ({"is_on": 1}, ("is_on", "type")),
        ({"at": None}, ("at", "required")),
        ({"at": "2013-07-01T00:00:00"}, ("at", "type")),
        ({"at": "yesterday"}, ("at", "type")),
        ({"at": 1.5}, ("at", "type")),
        ({"at": -1}, ("at", "type")),
        ({"at": LATEST + 1}, ("at", "future")),
    ],
)
def test_each_rule_names_its_field(change, expected):
    assert broken(reading("s1", T0) | change) == [expected]


@pytest.mark.parametrize("value", [None, 1, "text", [], [reading("s1", T0)]])
def test_only_an_object_is_an_event(value):
    assert broken(value) == [("", "json")]


def test_all_violations_are_told_the_first_one_first():
    assert broken(reading(None, "x", degrees=999)) == [("at", "type"), ("degrees", "range"), ("sensor", "key")]


def test_personal_values_are_hashed_masked_dropped_and_never_shown():
    row = contract.check(reading("s1", T0, operator="ada", phone="0123456789", note="private"), LATEST)
    assert row.columns["note"] is None
    assert row.columns["phone"] == "******6789"
    assert len(row.columns["operator"]) == 32 and row.columns["operator"] != "ada"
    assert row.columns["operator"] == contract.check(reading("s2", T0, operator="ada"), LATEST).columns["operator"]
    assert (
        row.columns["operator"]
        != Contract(SENSOR, b"other").check(reading("s1", T0, operator="ada"), LATEST).columns["operator"]
    )
    refusal = contract.check(reading("s1", T0, phone="not digits"), LATEST)
    assert "not digits" not in f"{refusal}"


FIELDS = st.sampled_from(["sensor", "at", "degrees", "count", "kind", "phone", "note", "is_on", "x"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)


@settings(max_examples=100, deadline=None)
@given(SCALARS | st.dictionaries(FIELDS, SCALARS | st.lists(SCALARS, max_size=2), max_size=9))
def test_any_json_gets_a_verdict(value):
    verdict = contract.check(value, LATEST)
    if isinstance(verdict, Row):
        assert verdict.key and verdict.event_us <= LATEST
    else:
        assert verdict.violations
    for name in contract.numeric:
        contract.number(value, name)


@settings(max_examples=50, deadline=None)
@given(st.integers())
def test_integers_are_kept_exactly_or_refused(value):
    try:
        assert to_integer(value) == value
    except BadValue:
        assert abs(value) >= 2**63 - 1


@settings(max_examples=50, deadline=None)
@given(st.datetimes(timezones=st.timezones()))
def test_timestamps_with_offset_are_read_to_the_microsecond(moment):
    try:
        assert to_timestamp(moment.isoformat()) == round(moment.timestamp() * 1e6) or moment.year > 2100
    except BadValue:
        assert (
            moment.year <= 1970 or moment.utcoffset() is None or moment.utcoffset().microseconds or moment.year == 9999
        )


def test_keys_read_the_same_whatever_number_type_json_gave():
    assert key_text(7) == key_text(7.0) == "7"
    assert key_text(True) == "true" and key_text(None) == ""
    with pytest.raises(BadValue):
        to_number(None)
