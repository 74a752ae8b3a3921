"""Events, headers, ids."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.bus.errors import MalformedEvent
from millrace.bus.events import FOREIGN, Event, Record, derive_id, event_type, format_time, new_id, parse_time

text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
some_text = text.filter(bool)


def record(headers: list[tuple[str, bytes]], data: bytes = b"{}") -> Record:
    return Record("topic", 3, 17, None, tuple(headers), data, timestamp_ms=5)


@given(
    st.builds(
        Event,
        id=some_text,
        type=some_text,
        source=some_text,
        data=st.binary(max_size=50),
        subject=text,
        time_us=st.integers(0, 4_000_000_000_000_000),
        causation_id=text,
        actor=text,
        extensions=st.dictionaries(st.sampled_from(["visible_us", "event_us", "x"]), text),
    )
)
def test_headers_carry_an_event_both_ways(event: Event) -> None:
    assert Event.from_headers(event.to_headers(), event.data) == event


def test_the_headers_are_those_of_the_binary_mode() -> None:
    event = Event("i", "millrace.r.n.v.v1", "s", b"", subject="k", time_us=1_000_001, causation_id="c")
    assert dict(event.to_headers()) == {
        "ce_specversion": b"1.0",
        "ce_id": b"i",
        "ce_type": b"millrace.r.n.v.v1",
        "ce_source": b"s",
        "ce_time": b"1970-01-01T00:00:01.000001Z",
        "ce_subject": b"k",
        "ce_causationid": b"c",
        "content-type": b"application/protobuf",
    }


def test_times_of_other_producers_are_understood() -> None:
    assert parse_time("1970-01-01T01:00:00+01:00") == 0
    assert parse_time("1970-01-01T00:00:00.5Z") == 500_000
    assert format_time(parse_time("2013-01-01T05:15:00Z")) == "2013-01-01T05:15:00.000000Z"


@pytest.mark.parametrize(
    "headers",
    [
        [("ce_id", b"1")],
        [("ce_id", b""), ("ce_type", b"t"), ("ce_source", b"s")],
        [("ce_id", b"\xff"), ("ce_type", b"t"), ("ce_source", b"s")],
        [("ce_id", b"1"), ("ce_type", b"t"), ("ce_source", b"s"), ("ce_time", b"yesterday")],
        [("ce_id", b"1"), ("ce_type", b"t"), ("ce_source", b"s"), ("ce_time", b"2013-01-01T00:00:00")],
    ],
)
def test_headers_that_make_no_event_are_malformed(headers: list[tuple[str, bytes]]) -> None:
    with pytest.raises(MalformedEvent):
        _ = record(headers).event


def test_a_foreign_producer_gets_an_id_made_of_the_coordinates() -> None:
    event = record([("content-type", b"application/json"), ("own", b"header")]).event
    assert (event.id, event.type, event.time_us) == ("topic:3:17", FOREIGN, 5_000)
    assert dict(event.extensions) == {"own": "header"}


def test_an_event_is_decoded_once() -> None:
    once = record([])
    assert once.event is once.event


def test_derived_ids_repeat_and_differ() -> None:
    assert derive_id("a", "h", 1) == derive_id("a", "h", 1)
    assert len({derive_id("a", "h"), derive_id("a", "h", 1), derive_id("a", "g"), derive_id("b", "h")}) == 4
    assert derive_id("a", "h") == "b1c36c7b-9ff6-5a80-b0b4-a01c1b31a28b"  # fixed for ever: histories hang on it


def test_new_ids_differ_and_sort_by_time() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [i[:8] for i in ids] == sorted(i[:8] for i in ids)
    assert uuid.UUID(ids[0]).version == 7


def test_event_types() -> None:
    assert event_type("labeling", "label", "matured") == "millrace.labeling.label.matured.v1"


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_every_time_is_written_as_datetime_writes_it(time_us: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    assert format_time(time_us) == moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
