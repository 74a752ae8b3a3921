"""Recorded events in a file: what is read, what is refused and where, and what is written."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.client.errors import BadRecording
from millrace.client.recording import LATEST_US, read_recording, write_line
from millrace.client.replay import ReplayEvent

GOOD = b'{"available_us": 5, "source": "readings", "data": {"x": 1}}\n'


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("recording") / "events.ndjson"


def read(file, content):
    file.write_bytes(content)
    return list(read_recording(file))


def test_a_line_is_an_event_and_its_data_stays_as_it_is_written(file):
    lines = GOOD + b'{"id": "r1", "data": {"b":1.0,  "a":[]}, "source": "weather", "available_us": 5}'
    assert read(file, lines) == [
        ReplayEvent(5, "readings", b'{"x": 1}'),
        ReplayEvent(5, "weather", b'{"b":1.0,  "a":[]}', "r1"),
    ]
    assert read(file, b"") == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "truncated"),
        (b"", "truncated"),
        (b"[]", "Expected `object`"),
        (b"\xff", "malformed"),
        (b'{"source": "s", "data": {}}', "available_us"),
        (b'{"available_us": 7, "data": {}}', "source"),
        (b'{"available_us": 7, "source": "s"}', "data"),
        (b'{"available_us": "7", "source": "s", "data": {}}', "available_us"),
        (b'{"available_us": 0, "source": "s", "data": {}}', "available_us"),
        (b'{"available_us": -7, "source": "s", "data": {}}', "available_us"),
        (b'{"available_us": %d, "source": "s", "data": {}}' % (LATEST_US + 1), "available_us"),
        (b'{"available_us": 7, "source": 1, "data": {}}', "source"),
        (b'{"available_us": 4, "source": "s", "data": {}}', "not sorted, available_us 4 comes after 5"),
    ],
)
def test_a_bad_line_is_named_with_file_and_number(file, line, reason):
    with pytest.raises(BadRecording) as caught:
        read(file, GOOD + GOOD + line + b"\n" + GOOD)
    assert str(caught.value).startswith(f"{file}:3: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_events_before_a_bad_line_are_given_out(file):
    file.write_bytes(GOOD + b"{\n")
    events = read_recording(file)
    assert next(events).available_us == 5
    with pytest.raises(BadRecording):
        next(events)


scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
cells = scalars | st.text() | st.lists(scalars | st.text(), max_size=3)
rows = st.dictionaries(st.text(), cells, max_size=4)


@settings(deadline=None)  # the machine may be busy
@given(
    st.lists(st.tuples(st.integers(1, LATEST_US), st.text(), rows, st.sampled_from([None, 2]), st.text()), max_size=8)
)
def test_what_is_written_is_read_again(file, drawn):
    drawn.sort(key=lambda event: event[0])
    events = [ReplayEvent(at, source, json.dumps(row, indent=by).encode(), id_) for at, source, row, by, id_ in drawn]
    lines = b"".join(map(write_line, events))
    assert lines.count(b"\n") == len(events)
    found = read(file, lines)
    assert [event._replace(json=b"") for event in found] == [event._replace(json=b"") for event in events]
    assert [json.loads(event.json) for event in found] == [row for _, _, row, _, _ in drawn]
    one_line = [event for event in events if b"\n" not in event.json]
    assert [event for event in found if event in one_line] == one_line
