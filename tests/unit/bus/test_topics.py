"""The table of topics, read."""

from pathlib import Path

import pytest
from millrace.bus.drift import TopicState, drifts
from millrace.bus.ports import TopicSpec
from millrace.bus.topics import data_topic, deadletter_topic, load_topics, raw_topic, retry_topic

TABLE = """
defaults: {partitions: 2, retention: 168}
topics:
  raw.{project}.{source}: {owner: ingestion, key: k, payload: json, readers: [ingestion]}
  data.{project}.{source}: {owner: ingestion, key: k, payload: json, readers: [x]}
  definitions: {owner: registry, key: k, payload: p, readers: [x], partitions: 1, retention: compact}
  models.events: {owner: registry, key: k, payload: p, readers: [x], partitions: 1, retention: forever}
  deadletter.{room}: {owner: room, key: k, payload: p, readers: [cli], partitions: 1, retention: 720}
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "topics.yaml").write_text(TABLE)
    return tmp_path / "topics.yaml"


def test_rows_become_topics(table: Path) -> None:
    topics = load_topics(table)
    assert topics.static() == [
        TopicSpec("definitions", 1, None, compact=True),
        TopicSpec("models.events", 1, None, compact=False),
    ]
    assert [spec.name for spec in topics.for_project("p", ["a", "b"])] == [
        "raw.p.a", "data.p.a", "raw.p.b", "data.p.b",
    ]  # fmt: skip
    assert topics.for_project("p", ["a"])[0] == TopicSpec("raw.p.a", 2, 168)
    assert topics.for_room("monitor") == [TopicSpec("deadletter.monitor", 1, 720)]


def test_the_setting_names_the_table(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_TOPICS", str(table))
    assert len(load_topics().rows) == 5


def test_the_table_of_the_repository_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = {spec.name for spec in load_topics().static()}
    assert {"definitions", "labels", "models.releases"} <= names


def test_a_retention_that_is_not_understood_is_refused(table: Path) -> None:
    table.write_text(TABLE.replace("forever", "long"))
    with pytest.raises(ValueError, match=r"models\.events"):
        load_topics(table)


def test_names() -> None:
    assert [raw_topic("p", "s"), data_topic("p", "s"), deadletter_topic("r"), retry_topic("r")] == [
        "raw.p.s", "data.p.s", "deadletter.r", "retry.r",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "replicas, in_sync, told", [(0, 1, []), (1, 1, []), (3, 1, ["2 of 3"]), (3, 2, []), (2, 2, [])]
)
def test_a_topic_that_one_of_several_replicas_may_acknowledge_is_told(replicas, in_sync, told):
    state = TopicState("t", 1, 3_600_000, "delete", 3_600_000, "CreateTime", replicas, in_sync)
    found = drifts([TopicSpec("t", 1, retention_hours=1)], {"t": state}, "here:9092")
    assert [drift.table for drift in found] == told
    assert all("--topic t --add-config min.insync.replicas=2" in drift.fix and drift.harmful for drift in found)
