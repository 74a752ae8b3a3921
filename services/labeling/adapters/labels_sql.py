"""Examples, truths and watermarks in SQL, with the inbox and the outbox in the same transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from millrace.bus.events import Message
from millrace.stores.sql import Database, Transaction

from services.labeling.adapters.tasks_sql import SqlTasks
from services.labeling.domain.values import Example, Label, Origin, Outcome, Truth
from services.labeling.ports import Counts, Maturing, PartitionState

CONSUMER = "labels"  # of the inbox

_ADD_EXAMPLE = """
INSERT INTO examples (project, entity, moment_us, matured_us, visible_us, due_us, event_id)
VALUES (:project, :entity, :moment_us, :matured_us, :visible_us, :due_us, :event_id)
ON CONFLICT (project, entity, moment_us) DO UPDATE SET
  visible_us = excluded.visible_us, due_us = excluded.due_us, event_id = excluded.event_id
WHERE examples.revision < 0 AND (excluded.visible_us < examples.visible_us
  OR (excluded.visible_us = examples.visible_us AND excluded.event_id < examples.event_id))
"""
_ADD_TRUTH = """
INSERT INTO truths (project, entity, event_id, event_us, visible_us, value, origin, moment_us)
VALUES (:project, :entity, :event_id, :event_us, :visible_us, :value, :origin, :moment_us)
ON CONFLICT (project, entity, event_id) DO NOTHING
"""
_EXAMPLE = """e.entity, e.moment_us, e.matured_us, e.visible_us, e.event_id, e.revision, e.outcome, e.value,
  e.label_visible_us"""
_TRUTH = "t.entity, t.event_id, t.event_us, t.visible_us, t.value, t.origin, t.moment_us"
_DUE = f"""
SELECT {_EXAMPLE} FROM examples e WHERE e.project = :project AND e.revision < 0 AND e.due_us <= :watermark_us
"""
# CROSS JOIN fixes the order for SQLite, which keeps no statistics: from the few that are due to their truths; the
# plus keeps it from reading all truths by their time instead. PostgreSQL reads both as if they were not there.
_TRUTHS_OF_DUE = f"""
SELECT DISTINCT {_TRUTH} FROM examples e CROSS JOIN truths t
WHERE e.project = :project AND e.revision < 0 AND e.due_us <= :watermark_us
  AND t.project = e.project AND t.entity = e.entity AND +t.visible_us <= :watermark_us
"""
_CORRECTED = f"""
SELECT DISTINCT {_EXAMPLE} FROM truths t CROSS JOIN examples e
WHERE t.project = :project AND t.visible_us > :previous_us AND t.visible_us <= :watermark_us
  AND e.project = t.project AND e.entity = t.entity AND e.revision >= 0
"""
_TRUTHS_OF_CORRECTED = f"""
SELECT DISTINCT {_TRUTH} FROM truths t CROSS JOIN examples e
WHERE t.project = :project AND t.visible_us > :previous_us AND t.visible_us <= :watermark_us
  AND e.project = t.project AND e.entity = t.entity AND e.revision >= 0
"""
_LABELLED = """
UPDATE examples SET revision = :revision, outcome = :outcome, origin = :origin, value = :value,
  label_visible_us = :visible_us
WHERE project = :project AND entity = :entity AND moment_us = :moment_us
"""
_COUNTS = """
SELECT count(*) AS examples,
  coalesce(sum(CASE WHEN revision < 0 THEN 1 ELSE 0 END), 0) AS pending,
  coalesce(sum(CASE WHEN outcome = 'censored' THEN 1 ELSE 0 END), 0) AS censored,
  coalesce(sum(CASE WHEN revision > 0 THEN 1 ELSE 0 END), 0) AS corrected
FROM examples WHERE project = :project
"""


class SqlLabelTransaction(SqlTasks):
    """A LabelTransaction."""

    def __init__(self, transaction: Transaction) -> None:
        super().__init__(transaction)
        self._sql = transaction

    async def lock(self, project: str) -> int:
        """As `LabelTransaction.lock`."""
        await self._sql.execute(
            "INSERT INTO projects (project, watermark_us) VALUES (:project, -1)"
            " ON CONFLICT (project) DO UPDATE SET watermark_us = projects.watermark_us",
            {"project": project},
        )
        row = await self._sql.row("SELECT watermark_us FROM projects WHERE project = :project", {"project": project})
        assert row is not None
        return int(row["watermark_us"])

    async def partition(self, topic: str, partition: int, position_topic: str) -> PartitionState:
        """As `LabelTransaction.partition`."""
        position = await self._sql.row(
            "SELECT next_offset FROM inbox WHERE consumer = :consumer AND topic = :topic AND part = :part",
            {"consumer": CONSUMER, "topic": position_topic, "part": partition},
        )
        time = await self._sql.row(
            "SELECT closed_us FROM partitions WHERE topic = :topic AND part = :part",
            {"topic": topic, "part": partition},
        )
        return PartitionState(position["next_offset"] if position else 0, time["closed_us"] if time else -1)

    async def advance_partition(
        self, project: str, topic: str, partition: int, position_topic: str, state: PartitionState
    ) -> None:
        """As `LabelTransaction.advance_partition`."""
        await self._sql.mark(CONSUMER, position_topic, partition, state.next_offset - 1)
        if position_topic == topic:
            await self._sql.execute(
                "INSERT INTO partitions (topic, part, project, closed_us) VALUES (:topic, :part, :project, :closed_us)"
                " ON CONFLICT (topic, part) DO UPDATE SET closed_us = excluded.closed_us",
                {"topic": topic, "part": partition, "project": project, "closed_us": state.closed_us},
            )

    async def closed(self, topics: Sequence[str]) -> Mapping[tuple[str, int], int]:
        """As `LabelTransaction.closed`."""
        found: dict[tuple[str, int], int] = {}
        for topic in topics:
            rows = await self._sql.rows("SELECT part, closed_us FROM partitions WHERE topic = :t", {"t": topic})
            found.update({(topic, row["part"]): row["closed_us"] for row in rows})
        return found

    async def add_examples(self, project: str, examples: Sequence[Example]) -> None:
        """As `LabelTransaction.add_examples`."""
        await self._sql.execute(_ADD_EXAMPLE, [_example_row(project, example) for example in examples])

    async def add_truths(self, project: str, truths: Sequence[Truth]) -> None:
        """As `LabelTransaction.add_truths`."""
        await self._sql.execute(_ADD_TRUTH, [_truth_row(project, truth) for truth in truths])

    async def next_stop(self, project: str, watermark_us: int, most_examples: int) -> int:
        """As `LabelTransaction.next_stop`."""
        row = await self._sql.row(
            "SELECT due_us FROM examples WHERE project = :project AND revision < 0 AND due_us <= :watermark_us"
            " ORDER BY due_us LIMIT 1 OFFSET :most",
            {"project": project, "watermark_us": watermark_us, "most": most_examples},
        )
        return int(row["due_us"]) if row else watermark_us

    async def maturing(self, project: str, previous_us: int, watermark_us: int) -> Maturing:
        """As `LabelTransaction.maturing`."""
        between = {"project": project, "previous_us": previous_us, "watermark_us": watermark_us}
        until = {"project": project, "watermark_us": watermark_us}
        due = await self._sql.rows(_DUE, until)
        truths = await self._sql.rows(_TRUTHS_OF_DUE, until) if due else []
        corrected = await self._sql.rows(_CORRECTED, between)
        if corrected:
            truths += await self._sql.rows(_TRUTHS_OF_CORRECTED, between)
        by_entity: dict[str, dict[str, Truth]] = {}
        for row in truths:
            by_entity.setdefault(row["entity"], {})[row["event_id"]] = _truth(row)
        return Maturing(
            [_example(row) for row in (*due, *corrected)],
            {entity: list(known.values()) for entity, known in by_entity.items()},
        )

    async def advance(self, project: str, watermark_us: int, labels: Sequence[Label]) -> None:
        """As `LabelTransaction.advance`."""
        last = {(label.entity, label.moment_us): label for label in labels}
        await self._sql.execute(_LABELLED, [_label_row(project, label) for label in last.values()])
        await self._sql.execute(
            "UPDATE projects SET watermark_us = :watermark_us WHERE project = :project",
            {"project": project, "watermark_us": watermark_us},
        )

    async def publish(self, messages: Sequence[Message]) -> None:
        """As `LabelTransaction.publish`."""
        await self._sql.publish_many(messages)


class SqlLabelBook:
    """A LabelBook over the room's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SqlLabelTransaction]:
        """As `LabelBook.transaction`."""
        async with self._database.transaction() as transaction:
            yield SqlLabelTransaction(transaction)

    async def counts(self, project: str) -> Counts:
        """As `LabelBook.counts`."""
        async with self._database.read() as transaction:
            row = await transaction.row(_COUNTS, {"project": project})
            tasks = await transaction.row(
                "SELECT count(*) AS open FROM tasks WHERE project = :project AND state <> 'submitted'",
                {"project": project},
            )
        assert row is not None
        assert tasks is not None
        matured = row["examples"] - row["pending"]
        return Counts(row["pending"], matured, row["censored"], row["corrected"], tasks["open"])

    async def watermarks(self) -> Mapping[str, int]:
        """As `LabelBook.watermarks`."""
        async with self._database.read() as transaction:
            rows = await transaction.rows("SELECT project, watermark_us FROM projects")
        return {row["project"]: row["watermark_us"] for row in rows}

    async def positions(self) -> Mapping[tuple[str, int], int]:
        """The next offset of every partition that this state has taken in."""
        async with self._database.read() as transaction:
            rows = await transaction.rows(
                "SELECT topic, part, next_offset FROM inbox WHERE consumer = :consumer", {"consumer": CONSUMER}
            )
        return {(row["topic"], row["part"]): row["next_offset"] for row in rows}

    async def mark_history(self, heard: Mapping[tuple[str, int], int]) -> None:
        """As `LabelBook.mark_history`."""
        async with self._database.transaction() as transaction:
            await transaction.execute(
                "INSERT INTO history (project, part, visible_us) VALUES (:project, :part, :visible_us)"
                " ON CONFLICT (project, part) DO UPDATE SET visible_us = excluded.visible_us"
                " WHERE excluded.visible_us > history.visible_us",
                [{"project": p, "part": part, "visible_us": visible_us} for (p, part), visible_us in heard.items()],
            )

    async def history(self) -> Mapping[tuple[str, int], int]:
        """As `LabelBook.history`."""
        async with self._database.read() as transaction:
            rows = await transaction.rows("SELECT project, part, visible_us FROM history")
        return {(row["project"], row["part"]): row["visible_us"] for row in rows}


def _example_row(project: str, example: Example) -> dict[str, Any]:
    return {
        "project": project,
        "entity": example.entity,
        "moment_us": example.moment_us,
        "matured_us": example.matured_us,
        "visible_us": example.visible_us,
        "due_us": example.due_us,
        "event_id": example.event_id,
    }


def _truth_row(project: str, truth: Truth) -> dict[str, Any]:
    return {
        "project": project,
        "entity": truth.entity,
        "event_id": truth.event_id,
        "event_us": truth.event_us,
        "visible_us": truth.visible_us,
        "value": truth.value,
        "origin": truth.origin.value,
        "moment_us": truth.moment_us,
    }


def _label_row(project: str, label: Label) -> dict[str, Any]:
    return {
        "project": project,
        "entity": label.entity,
        "moment_us": label.moment_us,
        "revision": label.revision,
        "outcome": label.outcome.value,
        "origin": label.origin.value,
        "value": label.value,
        "visible_us": label.visible_us,
    }


def _example(row: Mapping[str, Any]) -> Example:
    label = None
    if row["revision"] >= 0:
        label = Label(
            entity=row["entity"],
            moment_us=row["moment_us"],
            outcome=Outcome(row["outcome"]),
            value=row["value"],
            origin=Origin.LATE_TRUTH,
            event_us=0,
            visible_us=row["label_visible_us"],
            matured_us=row["matured_us"],
            revision=row["revision"],
            cause_id="",
        )
    return Example(row["entity"], row["moment_us"], row["matured_us"], row["visible_us"], row["event_id"], label)


def _truth(row: Mapping[str, Any]) -> Truth:
    return Truth(
        entity=row["entity"],
        event_us=row["event_us"],
        visible_us=row["visible_us"],
        event_id=row["event_id"],
        value=row["value"],
        origin=Origin(row["origin"]),
        moment_us=row["moment_us"],
    )
