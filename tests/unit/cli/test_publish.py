"""publish: what is asked of the registry, what is said of files that cannot be read, several files in one run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from millrace.definitions.canonical import to_canonical_json
from millrace.wire.ingestion.v1 import service_pb2 as ingestion_wire
from millrace.wire.registry.v1 import events_pb2 as registry_events

from tests.unit.cli.conftest import FakeRooms
from tests.unit.ingestion.world import project

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def plant(rooms: FakeRooms) -> None:
    """A project that declares types; `cold` is refused."""
    published = registry_events.DefinitionPublished(project="plant", canonical_json=to_canonical_json(project()))
    rooms.on["Registry.GetDefinition"] = lambda _: published

    def judge(request: Any) -> Any:
        refused = [i for i, event in enumerate(request.events) if b'"cold"' in event.json]
        verdicts = [
            ingestion_wire.Verdict(id=f"e{i}", outcome=ingestion_wire.Verdict.QUARANTINED, field="kind", index=i)
            for i in refused
        ]
        accepted = len(request.events) - len(refused)
        return ingestion_wire.PublishReply(accepted=accepted, quarantined=len(refused), verdicts=verdicts)

    rooms.on["Ingestion.Publish"] = judge


def test_csv_cells_take_the_declared_types(rooms: FakeRooms, millrace: Run, tmp_path: Path) -> None:
    sheet = tmp_path / "e.csv"
    sheet.write_text("sensor,at,degrees,count,is_on,note\n007,2013-07-01T00:00:00Z,1,2,true,\n")
    assert millrace("publish", "plant", "readings", str(sheet)).exit_code == 0
    (request,) = rooms.asked("Ingestion.Publish")
    assert json.loads(request.events[0].json) == {
        **{"sensor": "007", "at": "2013-07-01T00:00:00Z", "degrees": 1.0, "count": 2, "is_on": True, "note": None}
    }
    unknown = millrace("publish", "plant", "tremors", str(sheet))
    assert (unknown.exit_code, unknown.stderr) == (
        1,
        "error: plant has no source tremors (sources: readings, repairs)\n",
    )


def test_a_line_that_is_none_ends_the_run_and_what_came_before_stays(
    rooms: FakeRooms, millrace: Run, tmp_path: Path
) -> None:
    sheet = tmp_path / "e.csv"
    sheet.write_text("sensor,kind\n" + "a,hot\n" * 600 + "b\n")
    cut = millrace("publish", "plant", "readings", str(sheet))
    assert (cut.exit_code, cut.stderr) == (1, f"error: {sheet}: line 602 has another number of cells than the head\n")
    assert sum(len(request.events) for request in rooms.asked("Ingestion.Publish")) == 600
    sheet.write_text("sensor,kind\n" + "a,hot\n" * 600 + "b,hot\n")
    told = json.loads(millrace("publish", "plant", "readings", str(sheet), "--json").stdout)
    assert (told["rows"], told["accepted"], told["published_before"]) == (601, 601, 600)


def test_several_files_each_with_their_own_account_and_rejects(rooms: FakeRooms, millrace: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.ndjson").write_text('{"kind":"hot"}\n{"kind":"cold"}\n' * 12)
    files = [str(tmp_path / "a.ndjson"), str(tmp_path / "b.ndjson")]
    done = millrace("publish", "plant", "readings", *files, "--rejects", str(tmp_path / "no.ndjson"))
    assert done.exit_code == 1
    assert [line.partition(": ")[2] for line in done.stdout.splitlines()] == [
        "24 rows: 12 accepted, 0 duplicates, 12 quarantined"
    ] * 2
    assert done.stderr.count("and 2 more rows; all are in") == 2
    for name in ("a", "b"):
        listed = [json.loads(line) for line in (tmp_path / f"no-{name}.ndjson.ndjson").read_text().splitlines()]
        assert [line["row"] for line in listed] == list(range(2, 25, 2))
        assert {line["event"] for line in listed} == {'{"kind":"cold"}'}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.ndjson",), "none.ndjson cannot be read: No such file or directory"),
        (("-", "--format", "xml"), "format xml: it is one of ndjson, csv, parquet"),
        (("-", "--format", "parquet"), "-: Parquet is read from an uncompressed file, not from a stream"),
    ],
)
def test_what_cannot_be_read_is_one_line(millrace: Run, arguments: tuple[str, ...], said: str) -> None:
    result = millrace("publish", "plant", "readings", *arguments, text="")
    assert (result.exit_code, result.stderr) == (1, f"error: {said}\n")
