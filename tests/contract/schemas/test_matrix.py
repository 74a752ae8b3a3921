"""Each (writer version, reader version) of a source decodes, or its history was refused when it was applied.

Histories of schemas are made up, one change after the other; `load_text` accepts or refuses each version as `apply`
does. Then every accepted version writes what its contract lets in, and every accepted version reads all of it with the
rooms' own readers: feature_store's records and views, labeling's examples and truths, ingestion's contract itself.
"""

from collections import Counter
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from millrace.bus.events import Batch, Event, Record
from millrace.definitions import DefinitionErrors, load_text
from millrace.definitions.keys import entity_key
from millrace.definitions.model import FieldType, Pii
from millrace.runtime.forgotten import Forgotten

from services.feature_store.adapters.records_json import RecordReader
from services.feature_store.domain.views import CompiledView
from services.ingestion.domain.contracts import Contract, Refusal, Row
from services.ingestion.domain.values import to_timestamp
from services.ingestion.handlers.judge import Incoming, judge
from services.labeling.domain.reading import reading_of
from services.labeling.handlers.data import read_batch
from services.labeling.ports import PartitionState

T0 = 1_372_636_800_000_000
TYPES = [kind.value for kind in FieldType]
NAMES = [f"f{i}" for i in range(5)]
NUMERIC = ("number", "integer", "boolean")
SECRET = b"a secret of thirty-two bytes !!!"


@dataclass
class Schema:
    """One version of the source as a user writes it."""

    fields: dict[str, dict] = field(default_factory=dict)
    key: str = "id"
    event_time: str = "at"

    def yaml(self, version: int) -> str:
        """A project around it; the view and the label read what this version declares."""
        fixed = {"id": {"type": "string"}, "other": {"type": "string", "required": True}}
        times = {"at": {"type": "timestamp"}, "then": {"type": "timestamp", "required": True}}
        declared = fixed | times | self.fields
        numeric = [n for n, f in self.fields.items() if f["type"] in NUMERIC]
        times = [n for n, f in self.fields.items() if f["type"] == "timestamp"]
        project = {
            "project": "evolving",
            "sources": {
                "rows": {
                    "event_type": "evolving.row",
                    "key": self.key,
                    "event_time": self.event_time,
                    "fields": declared,
                }
            },
            "predict": {"source": "rows", "entity": "id", "moment": times[0] if times else "then"},
            "features": {
                f"all@{version}": {"source": "rows", "entity": "other", "latest": sorted(declared)},
            },
            "label": {
                "source": "rows",
                "key": "id",
                "value": numeric[0] if numeric else "1.0",
                "horizon": "1h",
            },
            "model": {
                "name": "evolving",
                "task": "regression",
                "template": {"kind": "linear"},
                "inputs": ["seen.other"],
            },
            "gate": {"metric": "mae"},
        }
        project["features"]["seen@1"] = {"source": "rows", "entity": "id", "latest": ["other"]}
        return msgspec.json.encode(project).decode()  # JSON is YAML


declared = st.fixed_dictionaries(
    {"type": st.sampled_from(TYPES)},
    optional={"required": st.booleans(), "pii": st.sampled_from(["keep", "keep", "keep", "drop"])},
)


@st.composite
def changed(draw, before: Schema) -> Schema:
    """The next version: one thing is other than before."""
    after = Schema({name: dict(spec) for name, spec in before.fields.items()}, before.key, before.event_time)
    name = draw(st.sampled_from(NAMES))
    what = draw(st.sampled_from(["put", "put", "put", "drop", "drop", "range", "optional", "key", "time"]))
    if what == "put":
        after.fields[name] = draw(declared)
    elif what == "drop":
        after.fields.pop(name, None)
    elif what == "optional":
        after.fields[name] = {"type": draw(st.sampled_from(TYPES))}
    elif what == "range" and after.fields.get(name, {}).get("type") in ("number", "integer"):
        after.fields[name]["range"] = [-1e6, 1e6]
    elif what == "key":
        after.key = draw(st.sampled_from(["id", "id", "other"]))
    elif what == "time":
        after.event_time = draw(st.sampled_from(["at", "at", "then"]))
    return after


@st.composite
def histories(draw) -> list[Schema]:
    """Two to six versions, each made from the one before it, whether or not that will be accepted."""
    versions = [Schema(draw(st.dictionaries(st.sampled_from(NAMES), declared, max_size=3)))]
    for _ in range(draw(st.integers(1, 5))):
        versions.append(draw(changed(versions[-1])))
    return versions


VALUES = {
    "string": st.text(max_size=5),
    "number": st.one_of(st.floats(-1e6, 1e6), st.integers(-(10**6), 10**6)),
    "integer": st.one_of(st.integers(-(2**53), 2**53), st.integers(-9, 9).map(float)),
    "boolean": st.booleans(),
    "timestamp": st.one_of(st.integers(1, T0), st.just("2013-07-01T05:30:00+02:00")),
}


def events_of(draw, source) -> list[dict]:
    """What a producer of this version may send: optional fields come, are null, or do not come."""
    events = []
    for place in range(3):
        event = {"id": f"e{place}", "other": "x", "at": T0 + place, "then": T0 + place}
        for declared_field in source.fields:
            values = VALUES[declared_field.type.value]
            if declared_field.name in event:
                continue
            if declared_field.required or draw(st.booleans()):
                event[declared_field.name] = draw(values)
            elif draw(st.booleans()):
                event[declared_field.name] = None
        events.append(event)
    return events


def written(source, version: int, events) -> tuple[list[dict], Batch]:
    """The rows that the door lets in, and the records that it writes of them."""
    contract = Contract(source, SECRET, version)
    rows, records = [], []
    for event in events:
        judged = judge(contract, Incoming(msgspec.json.encode(event)), T0, T0 * 2)
        if isinstance(judged.verdict, Refusal):
            continue
        assert judged.schema_version == version
        extensions = {"visible_us": str(T0 * 2), "event_us": str(judged.verdict.event_us)}
        made = Event(judged.id, "evolving.row", "test", judged.body, time_us=T0 * 2, extensions=extensions)
        records.append(Record("data.evolving.rows", 0, len(records), b"k", tuple(made.to_headers()), judged.body, 1))
        rows.append(judged.verdict.columns)
    return rows, Batch("data.evolving.rows", 0, tuple(records))


def read_by(project, version: int, rows: list[dict], batch: Batch) -> int:
    """Every reader of `version` against the expected values; how many values were compared."""
    source = project.source("rows")
    names = [f.name for f in source.fields]
    expected = [{name: row.get(name) for name in names} for row in rows]
    refused = []
    decoded = RecordReader(source).decode(batch, lambda record, kind, why: refused.append(why))
    assert refused == []
    assert [{name: row.get(name) for name in names} for row in decoded.events.rows] == expected
    view = CompiledView(project.view("all"), 0)
    for row, wanted in zip(decoded.events.rows, expected, strict=True):
        assert view.latest(row) == [wanted[name] for name in view.view.latest]
    step = read_batch(batch, reading_of(project, version), "rows", PartitionState(0, -1), -1, Forgotten())
    moment, value = project.predict.moment, project.label.value
    assert [(e.entity, e.moment_us) for e in step.examples] == [
        (entity_key(row["id"]), row[moment]) for row in expected if row[moment] is not None
    ]
    truths = [None if (v := 1.0 if value == "1.0" else row[value]) is None else float(v) for row in expected]
    assert [t.value for t in step.truths] == truths
    return len(names) * len(rows)


def admitted(project, version: int, events, rows: list[dict]) -> None:
    """A producer of another version at this version's door: taken with the same values, or refused with a reason."""
    contract = Contract(project.source("rows"), SECRET, version)
    kept = {f.name for f in project.source("rows").fields if f.pii is not Pii.DROP}
    shown = {row["id"]: row for row in rows}
    for event in events:
        verdict = contract.check(event, T0 * 2)
        if isinstance(verdict, Refusal):
            assert all(violation.reason for violation in verdict.violations)
        elif event["id"] in shown:
            assert isinstance(verdict, Row)
            shared = kept & shown[event["id"]].keys() & verdict.columns.keys()
            assert {n: verdict.columns[n] for n in shared} == {n: shown[event["id"]][n] for n in shared}


def test_every_pair_of_versions_reads_or_was_refused_when_it_was_applied():
    seen: Counter[str] = Counter()

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(histories(), st.data())
    def run(versions, data):
        accepted = []
        for schema in versions:
            try:
                accepted.append(load_text(schema.yaml(len(accepted) + 1), "project.yaml", accepted))
            except DefinitionErrors as refusal:
                seen["refused versions"] += 1
                assert all(error.message and error.line for error in refusal.errors)
        for i, writer in enumerate(accepted, start=1):
            events = events_of(data.draw, writer.source("rows"))
            rows, batch = written(writer.source("rows"), i, events)
            if not rows:
                continue
            for j, reader in enumerate(accepted, start=1):
                seen["pairs"] += i != j
                seen["values"] += read_by(reader, j, rows, batch)
                admitted(reader, j, events, rows)

    run()
    assert seen["refused versions"] > 50 and seen["pairs"] > 300 and seen["values"] > 5_000, seen


def test_without_the_gate_a_reader_would_fail():
    """What the gate is for: the same readers over a history that `load_text` refuses."""
    numbers, texts = Schema({"f0": {"type": "number"}}), Schema({"f0": {"type": "string"}})
    one = load_text(numbers.yaml(1), "project.yaml")
    with pytest.raises(DefinitionErrors, match="a number in version 1 and a string in version 2"):
        load_text(texts.yaml(2), "project.yaml", [one])
    two = load_text(texts.yaml(2), "project.yaml")
    event = {"id": "e", "other": "x", "at": T0, "then": T0, "f0": 1.5}
    rows, batch = written(one.source("rows"), 1, [event])
    with pytest.raises(AssertionError):
        read_by(two, 2, rows, batch)


def test_times_are_written_as_microseconds():
    source = load_text(Schema({"f0": {"type": "timestamp"}}).yaml(1), "project.yaml").source("rows")
    event = {"id": "e", "other": "x", "at": T0, "then": T0, "f0": "2013-07-01T05:30:00+02:00"}
    ((row,), _) = written(source, 1, [event])
    assert row["f0"] == to_timestamp("2013-07-01T05:30:00+02:00")
