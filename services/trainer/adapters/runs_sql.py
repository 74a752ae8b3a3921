"""Requests, runs and label counts in the room's SQL database, with outbox and inbox in the same transactions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from millrace.bus.events import Message
from millrace.stores.sql import Database, Transaction
from millrace.stores.superseded import superseded_words

from services.trainer.domain.runs import CandidateModel, Run, State
from services.trainer.domain.scheduler import LabelBucket, PastRun, Request, Trigger
from services.trainer.domain.switches import ALL, Switch
from services.trainer.errors import Superseded
from services.trainer.ports import Marks

CONSUMER = "trainer"
PAST_RUNS = 1_100  # more than a day's budget ever holds

_RUN_COLUMNS = (
    "run_id, project, mode, state, reason, as_of_us, asked_us, cause_id, attempt, turn, queued_us, started_us, "
    "finished_us, definition_version, definition_json, snapshot_digest, candidate, report_json, progress, curve, "
    "put_back, reference, accept_data, holdout_from_us, holdout_to_us"
)
_PUT_RUN = (
    f"INSERT INTO runs ({_RUN_COLUMNS}) VALUES ({', '.join(':' + c for c in _RUN_COLUMNS.split(', '))})"
    " ON CONFLICT (run_id) DO UPDATE SET "
    + ", ".join(f"{c} = excluded.{c}" for c in _RUN_COLUMNS.split(", ")[1:])
    + " WHERE runs.attempt <= excluded.attempt"
)


class SqlBook:
    """One transaction."""

    def __init__(self, transaction: Transaction, label_partitions: int) -> None:
        self._sql = transaction
        self._label_partitions = label_partitions

    async def seen(self, topic: str, partition: int, offset: int) -> bool:
        """Whether this position has taken effect."""
        return await self._sql.seen(CONSUMER, topic, partition, offset)

    async def mark(self, topic: str, partition: int, offset: int) -> None:
        """Everything up to this position takes effect with this transaction."""
        await self._sql.mark(CONSUMER, topic, partition, offset)

    async def publish(self, message: Message) -> None:
        """Publish if, and only if, the transaction commits."""
        await self._sql.publish(message)

    async def add_request(self, request: Request) -> bool:
        """Records a request; False when it is known."""
        touched = await self._sql.execute(
            "INSERT INTO requests (request_id, project, kind, asked_us, reason, target_run_id, actor, accept_data,"
            " run_id)"
            " VALUES (:request_id, :project, :trigger, :asked_us, :reason, :run_id, :actor, :accept_data, '')"
            " ON CONFLICT (request_id) DO NOTHING",
            asdict(request) | {"trigger": request.trigger.value},
        )
        return touched == 1

    async def pending(self, project: str) -> list[Request]:
        """Requests that no run has taken, oldest first."""
        return await self._requests("project = :project AND run_id = ''", {"project": project})

    async def projects_pending(self) -> list[str]:
        """Projects with such requests."""
        rows = await self._sql.rows("SELECT DISTINCT project FROM requests WHERE run_id = '' ORDER BY project")
        return [row["project"] for row in rows]

    async def answer(self, requests: Sequence[Request], run_id: str) -> None:
        """Records which run, or declined run, took the requests."""
        await self._sql.execute(
            "UPDATE requests SET run_id = :run_id WHERE request_id = :request_id",
            [{"run_id": run_id, "request_id": request.request_id} for request in requests],
        )

    async def requests_of(self, run_id: str) -> list[Request]:
        """Requests that the run answers, oldest first."""
        return await self._requests("run_id = :run_id", {"run_id": run_id})

    async def _requests(self, where: str, params: Mapping[str, Any]) -> list[Request]:
        rows = await self._sql.rows(f"SELECT * FROM requests WHERE {where} ORDER BY asked_us, request_id", params)
        return [
            Request(
                request_id=row["request_id"],
                project=row["project"],
                trigger=Trigger(row["kind"]),
                asked_us=row["asked_us"],
                reason=row["reason"],
                run_id=row["target_run_id"],
                actor=row["actor"],
                accept_data=bool(row["accept_data"]),
            )
            for row in rows
        ]

    async def past_runs(self, project: str) -> list[PastRun]:
        """The newest runs of a project, as many as the scheduler may need; declined ones left out."""
        rows = await self._sql.rows(
            "SELECT run_id, as_of_us, state, candidate FROM runs WHERE project = :project AND state <> 'DECLINED'"
            " ORDER BY as_of_us DESC LIMIT :limit",
            {"project": project, "limit": PAST_RUNS},
        )
        return [
            PastRun(row["run_id"], row["as_of_us"], State(row["state"]).is_unfinished, row["candidate"] != "")
            for row in rows
        ]

    async def run(self, run_id: str) -> Run | None:
        """One run."""
        row = await self._sql.row("SELECT * FROM runs WHERE run_id = :run_id", {"run_id": run_id})
        return _run(row) if row else None

    async def last_passed(self, project: str, before_us: int) -> Run | None:
        """The newest run that passed the gate, of those whose data end before that time."""
        row = await self._sql.row(
            "SELECT * FROM runs WHERE project = :project AND state = 'PASSED' AND as_of_us < :before"
            " ORDER BY as_of_us DESC LIMIT 1",
            {"project": project, "before": before_us},
        )
        return _run(row) if row else None

    async def judged(self, project: str, after_us: int) -> list[tuple[int, int]]:
        """Holdouts that end after that time, of every gate of the project's model so far: (first, last moment)."""
        rows = await self._sql.rows(
            "SELECT holdout_from_us, holdout_to_us, turn, state FROM runs WHERE project = :project"
            " AND holdout_to_us > :after ORDER BY as_of_us DESC, run_id LIMIT :limit",
            {"project": project, "after": after_us, "limit": PAST_RUNS},
        )
        gates = [row["turn"] + (not State(row["state"]).is_unfinished) for row in rows]
        return [
            (row["holdout_from_us"], row["holdout_to_us"])
            for row, count in zip(rows, gates, strict=True)
            for _ in range(count)
        ]

    async def forgotten(self, digest: str) -> str:
        """Why the snapshot is not whole any more; empty for one that is."""
        return (await superseded_words(self._sql, [digest])).get(digest, "")

    async def put_run(self, run: Run) -> None:
        """Writes a run. Superseded when a later attempt has been recorded."""
        candidate = json.dumps(asdict(run.candidate)) if run.candidate else ""
        values = asdict(run) | {"state": run.state.value, "candidate": candidate, "curve": json.dumps(run.curve)}
        if await self._sql.execute(_PUT_RUN, values) == 0:
            raise Superseded(f"attempt {run.attempt} of run {run.run_id} is not the last one any more")

    async def unfinished(self) -> list[Run]:
        """Runs that are owed work, oldest first."""
        rows = await self._sql.rows(
            "SELECT * FROM runs WHERE state IN ('QUEUED', 'RUNNING') ORDER BY queued_us, run_id"
        )
        return [_run(row) for row in rows]

    async def count_unfinished(self) -> int:
        """How many runs are owed work now: those that are switched off are not."""
        row = await self._sql.row(
            "SELECT count(*) AS n FROM runs WHERE state IN ('QUEUED', 'RUNNING')"
            " AND NOT EXISTS (SELECT 1 FROM switches WHERE switches.project IN (:all, runs.project))",
            {"all": ALL},
        )
        return int(row["n"]) if row else 0

    async def newest_runs(self, project: str, limit: int, *, unfinished_only: bool) -> list[Run]:
        """Runs, newest first; an empty project means all."""
        where = "(:project = '' OR project = :project)"
        if unfinished_only:
            where += " AND state IN ('QUEUED', 'RUNNING')"
        rows = await self._sql.rows(
            f"SELECT * FROM runs WHERE {where} ORDER BY as_of_us DESC, queued_us DESC LIMIT :limit",
            {"project": project, "limit": limit},
        )
        return [_run(row) for row in rows]

    async def add_labels(self, project: str, buckets: Sequence[LabelBucket]) -> None:
        """Adds to the counts of new labels."""
        await self._sql.execute(
            "INSERT INTO label_counts (project, end_us, labels, event_id)"
            " VALUES (:project, :end_us, :labels, :event_id)"
            " ON CONFLICT (project, end_us) DO UPDATE SET labels = label_counts.labels + excluded.labels,"
            " event_id = CASE WHEN excluded.event_id > label_counts.event_id THEN excluded.event_id"
            " ELSE label_counts.event_id END",
            [asdict(bucket) | {"project": project} for bucket in buckets],
        )

    async def count_labels(self, project: str, after_us: int) -> int:
        """New labels that began to count after `after_us`."""
        row = await self._sql.row(
            "SELECT COALESCE(SUM(labels), 0) AS n FROM label_counts WHERE project = :project AND end_us > :after",
            {"project": project, "after": after_us},
        )
        return int(row["n"]) if row else 0

    async def label_buckets(self, project: str, after_us: int) -> list[LabelBucket]:
        """Counts after `after_us`, oldest first."""
        rows = await self._sql.rows(
            "SELECT end_us, labels, event_id FROM label_counts WHERE project = :project AND end_us > :after"
            " ORDER BY end_us",
            {"project": project, "after": after_us},
        )
        return [LabelBucket(row["end_us"], row["labels"], row["event_id"]) for row in rows]

    async def forget_labels(self, project: str, until_us: int) -> None:
        """Drops counts up to `until_us`: a run has taken them in."""
        await self._sql.execute(
            "DELETE FROM label_counts WHERE project = :project AND end_us <= :until",
            {"project": project, "until": until_us},
        )

    async def advance_labels(self, project: str, partition: int, visible_us: int) -> None:
        """Labels of a partition are complete up to `visible_us`. Never moves back."""
        await self._sql.execute(
            "INSERT INTO label_clocks (project, part, visible_us) VALUES (:project, :part, :visible_us)"
            " ON CONFLICT (project, part) DO UPDATE SET visible_us = excluded.visible_us"
            " WHERE excluded.visible_us > label_clocks.visible_us",
            {"project": project, "part": partition, "visible_us": visible_us},
        )

    async def label_watermark(self, project: str) -> int:
        """Up to when labels are complete in every partition; 0: not heard of all of them."""
        return (await self.label_watermarks()).get(project, 0)

    async def label_watermarks(self) -> dict[str, int]:
        """The same, for all projects."""
        rows = await self._sql.rows(
            "SELECT project, MIN(visible_us) AS n FROM label_clocks GROUP BY project HAVING count(*) >= :partitions",
            {"partitions": self._label_partitions},
        )
        return {row["project"]: int(row["n"]) for row in rows}

    async def put_switch(self, switch: Switch) -> None:
        """Records a switch: a row for each that is off."""
        if not switch.off:
            await self._sql.execute("DELETE FROM switches WHERE project = :project", {"project": switch.project})
            return
        values = asdict(switch)
        await self._sql.execute(
            "INSERT INTO switches (project, reason, actor, switched_us)"
            " VALUES (:project, :reason, :actor, :switched_us)"
            " ON CONFLICT (project) DO UPDATE SET reason = excluded.reason, actor = excluded.actor,"
            " switched_us = excluded.switched_us",
            {name: values[name] for name in ("project", "reason", "actor", "switched_us")},
        )

    async def switches(self) -> list[Switch]:
        """Those that are off, that of all projects first."""
        rows = await self._sql.rows("SELECT * FROM switches ORDER BY project <> :all, project", {"all": ALL})
        return [Switch(row["project"], True, row["reason"], row["actor"], row["switched_us"]) for row in rows]

    async def off(self, project: str) -> Switch | None:
        """The switch by which training of the project is off, if it is."""
        return next((one for one in await self.switches() if one.project in (ALL, project)), None)

    async def marks(self, project: str) -> Marks | None:
        """How far the triggers have asked; None: the project was never looked at."""
        row = await self._sql.row("SELECT * FROM marks WHERE project = :project", {"project": project})
        return Marks(row["consumed_us"], row["schedule_us"], row["resumed_us"]) if row else None

    async def put_marks(self, project: str, marks: Marks) -> None:
        """Records how far the triggers have asked."""
        await self._sql.execute(
            "INSERT INTO marks (project, consumed_us, schedule_us, resumed_us)"
            " VALUES (:project, :consumed_us, :schedule_us, :resumed_us)"
            " ON CONFLICT (project) DO UPDATE SET consumed_us = excluded.consumed_us,"
            " schedule_us = excluded.schedule_us, resumed_us = excluded.resumed_us",
            asdict(marks) | {"project": project},
        )


class SqlRuns:
    """The room's state; after each commit it knows how much is owed, up to when labels are known, and what is switched
    off."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.label_partitions = 1  # of the topic `labels`; set at start
        self.unfinished_runs = 0
        self.off = ""
        self.watermarks_us: dict[str, int] = {}

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SqlBook]:
        """Reads and writes, all or nothing."""
        async with self._database.transaction() as transaction:
            book = SqlBook(transaction, self.label_partitions)
            yield book
            unfinished, watermarks = await book.count_unfinished(), await book.label_watermarks()
            off = "; ".join([switch.words for switch in await book.switches()])
        self.unfinished_runs, self.watermarks_us, self.off = unfinished, watermarks, off

    @asynccontextmanager
    async def read(self) -> AsyncIterator[SqlBook]:
        """Reads."""
        async with self._database.read() as transaction:
            yield SqlBook(transaction, self.label_partitions)


def _run(row: Mapping[str, Any]) -> Run:
    values = {name: row[name] for name in _RUN_COLUMNS.split(", ")}
    candidate = json.loads(values["candidate"]) if values["candidate"] else None
    return Run(
        **values
        | {
            "state": State(values["state"]),
            "candidate": CandidateModel(**candidate) if candidate else None,
            "accept_data": bool(values["accept_data"]),
            "curve": tuple((int(e), float(t), float(v)) for e, t, v in json.loads(values["curve"])),
        }
    )
