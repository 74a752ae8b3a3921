"""Files of events: how rows are read, how a run is taken up again, what a journal keeps."""

import gzip
import json
from datetime import UTC, datetime
from decimal import Decimal

import grpc
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.client.batching import cut
from millrace.client.errors import BadEventFile, CallFailed, FileChanged, JournalTaken
from millrace.client.files import MAX_ROW_BYTES, EventFile, format_of
from millrace.client.journal import Journal
from millrace.client.upload import Rejects, Upload
from millrace.definitions.cells import cell_value, plain_value
from millrace.runtime.channels import open_channel
from millrace.wire.ingestion.v1 import service_pb2_grpc

from tests.unit.ingestion.test_doors import running
from tests.unit.ingestion.world import T0


def rows_of(file, form, **kinds):
    with EventFile(str(file), form, kinds) as events:
        return [(row.number, row.json) for row in events.rows()]


def test_lines_are_read_past_blanks_a_mark_and_compression(tmp_path):
    content = b'\xef\xbb\xbf{"a":1}\r\n\n  {"a":2}\n{"a":3}'
    wanted = [(1, b'{"a":1}'), (3, b'{"a":2}'), (4, b'{"a":3}')]
    (tmp_path / "e.ndjson").write_bytes(content)
    (tmp_path / "e.ndjson.gz").write_bytes(gzip.compress(content))
    assert rows_of(tmp_path / "e.ndjson", "ndjson") == wanted
    assert rows_of(tmp_path / "e.ndjson.gz", "ndjson") == wanted
    (tmp_path / "cut.ndjson.gz").write_bytes(gzip.compress(content)[:-12])
    with pytest.raises(BadEventFile, match=r"cut.ndjson.gz: after line \d"):
        rows_of(tmp_path / "cut.ndjson.gz", "ndjson")


def test_a_row_of_any_length_is_one_row(tmp_path):
    (tmp_path / "long.ndjson").write_bytes(b"x" * (3 * MAX_ROW_BYTES) + b"\n{}")
    assert [len(content) for _, content in rows_of(tmp_path / "long.ndjson", "ndjson")] == [MAX_ROW_BYTES, 2]


def test_csv_names_the_line_that_does_not_fit(tmp_path):
    file = tmp_path / "e.csv"
    file.write_text('name,n\n"two\nlines",7\nx,\n')
    assert rows_of(file, "csv", n="integer") == [(3, b'{"name":"two\\nlines","n":7}'), (4, b'{"name":"x","n":null}')]
    file.write_text("name,n\na,1\nb\n")
    with pytest.raises(BadEventFile, match=r"e.csv: line 3 has another number of cells"):
        rows_of(file, "csv")
    file.write_bytes(b"name,n\na,1\n\xff\xfe,2\n")
    with pytest.raises(BadEventFile, match=r"e.csv: after line \d: .*utf-8"):
        rows_of(file, "csv")


def test_parquet_cells_as_json_has_them(tmp_path):
    rows = [{"at": datetime(2013, 7, 1, tzinfo=UTC), "x": 1.5, "n": None}, {"at": None, "x": float("nan"), "n": 3}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "e.parquet")
    found = [json.loads(content) for _, content in rows_of(tmp_path / "e.parquet", "parquet")]
    assert found == [{"at": T0, "x": 1.5, "n": None}, {"at": None, "x": "nan", "n": 3}]
    assert plain_value(Decimal("1.25")) == 1.25
    (tmp_path / "no.parquet").write_bytes(b"PAR1 it is not")
    with pytest.raises(BadEventFile, match="not a readable Parquet file"):
        rows_of(tmp_path / "no.parquet", "parquet")


@pytest.mark.parametrize(
    ("text", "kind"),
    [("inf", "number"), ("1_000", "number"), ("1_0", "integer"), ("1.5", "integer"), ("--5", "timestamp")],
)
def test_what_is_no_number_stays_text(text, kind):
    assert cell_value(text, kind) == text


def test_the_format_is_told_by_the_ending():
    assert [format_of(f) for f in ("a.csv.gz", "a.jsonl", "-", "a.parquet")] == ["csv", "ndjson", "ndjson", "parquet"]
    for file, asked in (("-", "parquet"), ("a.parquet.gz", ""), ("a", "xml")):
        with pytest.raises(BadEventFile):
            format_of(file, asked)


@given(st.lists(st.integers(0, 50)), st.integers(1, 6), st.integers(1, 80))
def test_batches_hold_every_item_once_within_both_bounds(sizes, most, max_bytes):
    batches = list(cut(sizes, lambda size: size, most, max_bytes))
    assert [size for batch in batches for size in batch] == sizes
    assert all(len(batch) <= most and (len(batch) == 1 or sum(batch) <= max_bytes) for batch in batches)


def test_a_journal_is_one_process_and_survives_its_own_ruin(tmp_path):
    with Journal(tmp_path / "j", "file", "p", "s") as journal:
        journal.place.rows = 7
        journal.save()
        with pytest.raises(JournalTaken, match="another process"):
            Journal(tmp_path / "j", "file", "p", "s")
        with Journal(tmp_path / "j", "file", "p", "other") as other:
            assert other.place.rows == 0
    with Journal(tmp_path / "j", "file", "p", "s") as again:
        assert again.place.rows == 7
    for path in (tmp_path / "j").glob("*.json"):
        path.write_bytes(b"{")
    with Journal(tmp_path / "j", "file", "p", "s") as ruined:
        assert ruined.place.rows == 0


class Interrupted(Exception):
    """In the middle of a run."""


async def upload(room, tmp_path, stop_after=None):
    """One run of the file over the room; `stop_after` so many answers it ends without a goodbye."""
    answers = 0

    def stop(_):
        nonlocal answers
        answers += 1
        if answers == stop_after:
            raise Interrupted

    channel = open_channel(room.grpc)
    stub = service_pb2_grpc.IngestionStub(channel)
    file = tmp_path / "rows.ndjson"
    try:
        with (
            EventFile(str(file), "ndjson") as events,
            Journal(tmp_path / "j", str(file), "live", "readings") as journal,
        ):
            rejects = Rejects(tmp_path / "rejects.ndjson", journal.place)
            try:
                job = Upload(
                    stub.PublishStream, events, journal.place, save=journal.save, rejects=rejects, on_progress=stop
                )
                return await job.run()
            finally:
                rejects.close()
    finally:
        await channel.close(None)


def write_rows(tmp_path, count, first=0):
    lines = [{"sensor": "s1", "at": T0 + n, "degrees": 999 if n % 7 == 0 else 1} for n in range(first, first + count)]
    (tmp_path / "rows.ndjson").write_text("\n".join(map(json.dumps, lines)))


async def test_a_run_goes_on_behind_what_was_answered(tmp_path):
    write_rows(tmp_path, 2_600)
    async with running(tmp_path) as room:
        with pytest.raises(Interrupted):
            await upload(room, tmp_path, stop_after=2)
        done = await upload(room, tmp_path)
        place = done.place
        assert (done.skipped_rows, place.rows) == (1_000, 2_600)
        assert place.accepted + place.duplicates + place.quarantined == 2_600
        assert len(room.data(name="live")) == 2_600 - 372  # each of the good ones once
        listed = [json.loads(line)["row"] for line in (tmp_path / "rejects.ndjson").read_text().splitlines()]
        assert listed == [number + 1 for number in range(0, 2_600, 7)]
        write_rows(tmp_path, 2_600, first=1)
        with pytest.raises(FileChanged, match="--restart"):
            await upload(room, tmp_path)
        write_rows(tmp_path, 100)
        with pytest.raises(FileChanged):
            await upload(room, tmp_path)
        assert len(room.data(name="live")) == 2_600 - 372


async def test_what_was_sent_and_not_answered_comes_again_in_order(tmp_path):
    """The room ends every stream after one answer: nothing is lost, doubled or out of order."""
    write_rows(tmp_path, 3_000)
    async with running(tmp_path) as room:
        channel = open_channel(room.grpc)
        stub = service_pb2_grpc.IngestionStub(channel)
        opened = []

        def open_call():
            opened.append(_Fragile(stub.PublishStream()))
            return opened[-1]

        with (
            EventFile(str(tmp_path / "rows.ndjson"), "ndjson") as events,
            Journal(None, "x", "live", "readings") as place,
        ):
            done = await Upload(open_call, events, place.place).run()
        await channel.close(None)
        assert (len(opened), done.retries) == (3, 2)
        assert (done.place.rows, done.place.quarantined) == (3_000, 429)
        times = [json.loads(record.data)["at"] for record in room.data(name="live")]
        assert times == [T0 + n for n in range(3_000) if n % 7]


class _Fragile:
    """A stream that breaks after its second answer."""

    def __init__(self, call):
        self._call, self._answers = call, 0

    def __getattr__(self, name):
        return getattr(self._call, name)

    async def read(self):
        self._answers += 1
        if self._answers > 2:
            self._call.cancel()
            empty = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, empty, empty, details="broken")
        return await self._call.read()


async def test_the_room_is_waited_for_only_until_the_deadline(tmp_path):
    write_rows(tmp_path, 10)
    channel = open_channel("127.0.0.1:1")
    stub = service_pb2_grpc.IngestionStub(channel)
    with (
        EventFile(str(tmp_path / "rows.ndjson"), "ndjson") as events,
        Journal(None, "x", "live", "readings") as journal,
    ):
        job = Upload(stub.PublishStream, events, journal.place, deadline_s=0.3)
        with pytest.raises(CallFailed, match=r"UNAVAILABLE|DEADLINE"):
            await job.run()
        assert journal.place.rows == 0
    await channel.close(None)
