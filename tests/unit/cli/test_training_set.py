"""`millrace features training-set`: what it asks, what it writes, what it says; the room answers what the test says."""

import hashlib
import io
import json
from pathlib import Path

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from millrace.wire.feature_store.v1 import service_pb2 as wire
from millrace.wire.labeling.v1 import service_pb2 as labeling_wire

from tests.unit.cli.conftest import FakeRooms, Refused
from tests.unit.cli.test_replay import Run, one_line

ROWS = pa.table({"entity": ["a", "b"], "moment_us": [1, 2], "state.size": [1.5, None]})
MANIFEST = json.dumps({"rows": 2}).encode()
DIGEST = "sha256:" + hashlib.sha256(MANIFEST).hexdigest()


@pytest.fixture
def store(rooms: FakeRooms) -> FakeRooms:
    snapshot = wire.Snapshot(
        digest=DIGEST, rows=2, columns=ROWS.column_names, features=["state.size"], present=[1], as_of_us=7
    )
    rooms.on["FeatureStore.CreateTrainingSet"] = lambda _: iter(
        [wire.TrainingSetProgress(rows_total=2), wire.TrainingSetProgress(rows_done=2, rows_total=2, snapshot=snapshot)]
    )
    rooms.on["FeatureStore.ReadSnapshot"] = lambda _: iter([labeling_wire.ArrowChunk(data=stream(ROWS))])
    return rooms


def stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    schema = table.schema.with_metadata({b"millrace.manifest": MANIFEST})
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(table.cast(schema))
    return sink.getvalue()


def test_labelled_examples_become_a_parquet_file(store: FakeRooms, millrace: Run, tmp_path: Path) -> None:
    out = tmp_path / "set.parquet"
    words = ("--from", "2026-06-01", "--to", "2026-07-01", "--features", "state.size, state.kind", "--as-happened")
    told = millrace("features", "training-set", "parcels", *words, "--out", str(out))
    assert told.exit_code == 0, told.stderr
    assert pq.read_table(out).replace_schema_metadata(None).equals(ROWS)
    assert "2 rows of 3 columns" in told.stdout and f"{DIGEST}, verified" in told.stdout and "50.0%" in told.stdout
    (asked,) = store.asked("FeatureStore.CreateTrainingSet")
    assert (asked.project, asked.from_us, asked.to_us) == ("parcels", 1_780_272_000_000_000, 1_782_864_000_000_000)
    assert list(asked.features) == ["state.size", "state.kind"] and asked.as_happened and not asked.spine
    as_json = json.loads(millrace("features", "training-set", "parcels", *words, "--out", str(out), "--json").stdout)
    assert (as_json["rows"], as_json["digest"], as_json["present"]) == (2, DIGEST, {"state.size": 0.5})


def test_rows_of_a_file_are_sent(store: FakeRooms, millrace: Run, tmp_path: Path) -> None:
    sent: list[bytes] = []

    def take(chunks) -> wire.Spine:
        sent.extend(chunk.data for chunk in chunks)
        return wire.Spine(digest="sha256:1", rows=2)

    store.on["FeatureStore.UploadSpine"] = take
    spine, out = tmp_path / "spine.csv", tmp_path / "set.parquet"
    spine.write_text("entity,moment\n007,2026-06-01T00:00:00\n008,2026-06-02T00:00:00\n")
    told = millrace("features", "training-set", "parcels", "--spine", str(spine), "--out", str(out))
    assert told.exit_code == 0, told.stderr
    table = pa.ipc.open_stream(b"".join(sent)).read_all()
    assert table["entity"].to_pylist() == ["007", "008"]
    assert store.asked("FeatureStore.CreateTrainingSet")[0].spine == "sha256:1"


def test_what_goes_wrong_is_one_line_and_leaves_no_file(store: FakeRooms, millrace: Run, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "set.parquet"))
    ask = ("features", "training-set", "parcels", *out)
    assert "--from and --to" in one_line(millrace(*ask))
    assert "--from noon" in one_line(millrace(*ask, "--from", "noon", "--to", "2026-07-01"))
    assert "no file nowhere.csv" in one_line(millrace(*ask, "--spine", "nowhere.csv"))
    store.on["FeatureStore.ReadSnapshot"] = lambda _: iter([labeling_wire.ArrowChunk(data=stream(ROWS)[:-200])])
    assert "no whole Arrow stream" in one_line(millrace(*ask, "--spine", "sha256:1"))

    def refuse(_: object) -> object:
        raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "parcels has no matured label in [1, 2)")

    store.on["FeatureStore.CreateTrainingSet"] = refuse
    told = one_line(millrace(*ask, "--from", "1", "--to", "2"))
    assert "no matured label" in told and "--spine FILE" in told
    assert list(tmp_path.glob("*.parquet*")) == []
