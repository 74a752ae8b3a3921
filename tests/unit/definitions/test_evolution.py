"""Expectations of windows, and how a source's fields may change over its versions."""

import re
from pathlib import Path

import pytest
from millrace.definitions import DefinitionErrors, load_text
from millrace.definitions.model import Reference

FILE = Path("examples/stations/project.yaml")
TEXT = FILE.read_text(encoding="utf-8")
STATION = '      station: {type: string, required: true, regex: "[a-z]+"}\n      temperature'


def changed(*swaps: tuple[str, str], text: str = TEXT) -> str:
    for old, new in swaps:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def history(*texts: str):
    """Accepts one version after the other."""
    accepted = []
    for text in texts:
        accepted.append(load_text(text, "project.yaml", accepted))
    return accepted


def refused(text: str, *before: str) -> str:
    with pytest.raises(DefinitionErrors) as caught:
        load_text(text, "project.yaml", history(*before))
    (error,) = [error for error in caught.value.errors if error.path.startswith("sources.")]
    assert error.line > 1 and error.hint
    return str(error)


EXTRA = changed(("[-40, 130]}", "[-40, 130]}\n      humidity: {type: number}"))
LATER = changed(("[-40, 130]}", "[-50, 140], max_null_share: 0.1}"))


def test_expectations_of_windows_are_read():
    text = changed(
        ("      temperature: {type: number, ", "      temperature: {type: number, max_null_share: 0.25, "),
        ("reading_id: {type: string, ", "reading_id: {type: string, unique: true, "),
        (STATION, STATION.replace('"[a-z]+"', '"[a-z]+", references: {source: requests, field: station}')),
        ("freshness: 12h", "freshness: 3h"),
    )
    source = load_text(text).source("readings")
    assert source.field("temperature").max_null_share == 0.25 and source.field("reading_id").unique
    assert source.field("station").references == Reference("requests", "station")
    assert source.freshness_us == 3 * 3_600_000_000


@pytest.mark.parametrize(
    ("swap", "said"),
    [
        (("temperature: {", "temperature: {required: true, max_null_share: 0.1, "), "required and never null"),
        (("temperature: {", "temperature: {pii: drop, max_null_share: 0.1, "), "all of it is null"),
        (("temperature: {type: number, range: [-40, 130]}", "wet: {type: boolean, unique: true}"), "two values"),
        (('"[a-z]+"}\n      target', '"[a-z]+", pii: mask, unique: true}\n      target'), "tells no two values apart"),
        ((STATION, STATION.replace('"}', '", references: {source: request, field: station}}')), "mean requests?"),
        ((STATION, STATION.replace('"}', '", references: {source: requests, field: statio}}')), "mean station?"),
        ((STATION, STATION.replace('"}', '", references: {source: readings, field: station}}')), "refers to itself"),
        ((STATION, STATION.replace('"}', '", references: {source: requests, field: asked_at}}')), "is a timestamp"),
        ((STATION, STATION.replace('"}', '", pii: hash, references: {source: requests, field: station}}')), "forms"),
        (("freshness: 12h", "freshness: 0s"), "must be above zero"),
        (("temperature: {", "temperature: {max_null_share: 1, "), "must be less than 1"),
    ],
)
def test_what_could_never_be_judged_is_an_error_with_its_line(swap, said):
    with pytest.raises(DefinitionErrors) as caught:
        load_text(changed(swap))
    assert any(said in str(error) and error.line > 8 for error in caught.value.errors), str(caught.value)


def test_a_type_never_changes_also_not_after_a_while_away():
    swap = ("humidity: {type: number}", "humidity: {type: string}")
    said = refused(changed(swap, text=EXTRA), EXTRA)
    assert "sources.readings.fields.humidity.type" in said and "version 1" in said and "version 2" in said
    assert "new name beside humidity" in said
    said = refused(changed(swap, text=EXTRA), TEXT, EXTRA, TEXT)
    assert "a number in version 2 and a string in version 4" in said
    assert len(history(TEXT, EXTRA, TEXT, EXTRA)) == 4


def test_a_source_that_comes_back_is_held_against_what_it_was():
    other = (
        "\n  notes:\n    event_type: stations.note\n    key: id\n    event_time: at\n"
        "    fields: {id: {type: string}, at: {type: timestamp}, n: {type: integer}}\n"
    )
    with_notes = changed(("\npredict:", other + "\npredict:"))
    said = refused(with_notes.replace("n: {type: integer}", "n: {type: number}"), with_notes, TEXT)
    assert "an integer in version 1 and a number in version 3" in said


@pytest.mark.parametrize(
    ("before", "swap", "said"),
    [
        (TEXT, ("[-40, 130]}", "[-40, 130]}\n      humidity: {type: number, required: true}"), "make it optional"),
        (TEXT, ("temperature: {", "temperature: {required: true, "), "optional in version 1 and required in"),
        (TEXT, ("target_hour: {type: number, required: true, ", "target_hour: {type: number, "), "required in version"),
        (EXTRA, ("humidity: {type: number}", "humidity: {type: number, pii: drop}"), "remove it"),
        (TEXT, ("key: reading_id", "key: station"), "the key is reading_id in version 1 and station in version 2"),
        (TEXT, ("event_time: announced_at", "event_time: asked_at"), "the event time is announced_at"),
    ],
)
def test_what_another_version_could_not_read_is_refused(before, swap, said):
    assert said in refused(changed(swap, text=before), before)


def test_a_required_field_stays():
    gone = re.sub(r"      target_hour: .*\n", "", TEXT).replace("[station, target_hour]", "[station]")
    gone = gone.replace("plan@1", "plan@2").replace("    - plan.target_hour\n", "")
    said = refused(gone, TEXT)
    assert "target_hour is required in version 1 and missing in version 2" in said and "keep target_hour" in said


def test_expectations_may_change_and_optional_fields_come_and_go():
    assert len(history(TEXT, LATER, EXTRA, TEXT, LATER)) == 5
