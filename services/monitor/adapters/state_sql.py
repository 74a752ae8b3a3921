"""What decisions stand on and leave behind, in the room's SQL database."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from millrace.bus.events import Message
from millrace.stores.sql import Database, Transaction

from services.monitor.domain.alerts import Alert, State
from services.monitor.domain.plans import Change, Plan, Variant
from services.monitor.domain.quality import Broken, Finding, Profile, Window
from services.monitor.ports import Outcome, ReportRow, ScoreRow

_ALERT_COLUMNS = (
    "project", "rule", "subject", "incident", "state", "severity", "action", "reason", "statistic", "threshold",
    "observations", "since_us", "updated_us", "beyond", "quiet", "event_id", "cause_id", "evidence_query",
    "evidence_ids",
)  # fmt: skip
_CHANGED = ", ".join(f"{name} = excluded.{name}" for name in _ALERT_COLUMNS[4:])
_PUT_ALERT = (
    f"INSERT INTO alerts (alert_key, {', '.join(_ALERT_COLUMNS)})"
    f" VALUES (:alert_key, {', '.join(':' + name for name in _ALERT_COLUMNS)})"
    f" ON CONFLICT (alert_key) DO UPDATE SET {_CHANGED}"
)


class SqlState:
    """Implements ports.State."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def heartbeat(self, seen: Mapping[tuple[str, int], int]) -> None:
        """Raise the stored times."""
        async with self._database.transaction() as transaction:
            await transaction.execute(
                "INSERT INTO heartbeats (project, part, visible_us) VALUES (:project, :part, :visible_us)"
                " ON CONFLICT (project, part) DO UPDATE SET visible_us = excluded.visible_us"
                " WHERE excluded.visible_us > heartbeats.visible_us",
                [{"project": p, "part": n, "visible_us": t} for (p, n), t in seen.items()],
            )

    async def heartbeats(self) -> dict[str, dict[int, int]]:
        """Project to partition to time."""
        found: dict[str, dict[int, int]] = defaultdict(dict)
        for row in await self._rows("SELECT * FROM heartbeats"):
            found[row["project"]][row["part"]] = row["visible_us"]
        return found

    async def put_plan(self, plan: Plan) -> None:
        """Keep it when it is newer."""
        async with self._database.transaction() as transaction:
            await transaction.execute(
                "INSERT INTO plans (project, model, epoch, variants, event_id, received_us)"
                " VALUES (:project, :model, :epoch, :variants, :event_id, :received_us)"
                " ON CONFLICT (project, model) DO UPDATE SET epoch = excluded.epoch, variants = excluded.variants,"
                " event_id = excluded.event_id, received_us = excluded.received_us WHERE excluded.epoch > plans.epoch",
                {
                    "project": plan.project,
                    "model": plan.model,
                    "epoch": plan.epoch,
                    "variants": json.dumps([asdict(v) for v in plan.variants]),
                    "event_id": plan.event_id,
                    "received_us": plan.received_us,
                },
            )

    async def put_changes(self, project: str, changes: Sequence[Change]) -> None:
        """Keep them."""
        async with self._database.transaction() as transaction:
            await transaction.execute(
                "INSERT INTO changes (event_id, project, model, version, to_state, kind, clock_us, epoch,"
                " other_version) VALUES (:event_id, :project, :model, :version, :to_state, :kind, :clock_us, :epoch,"
                " :other_version) ON CONFLICT (event_id) DO NOTHING",
                [{"project": project, **asdict(change)} for change in changes],
            )

    async def put_windows(self, project: str, windows: Sequence[Window]) -> None:
        """Keep them."""
        async with self._database.transaction() as transaction:
            await transaction.execute(
                "INSERT INTO windows (project, source, start_us, end_us, events, quarantined, body, event_id, judged,"
                " broken) VALUES (:project, :source, :start_us, :end_us, :events, :quarantined, :body, :event_id, 0, 0)"
                " ON CONFLICT (project, source, start_us) DO NOTHING",
                [_window_row(project, window) for window in windows],
            )

    async def plans(self, project: str = "") -> list[Plan]:
        """By project and model."""
        rows = await self._rows(
            "SELECT * FROM plans WHERE :project = '' OR project = :project ORDER BY project, model",
            {"project": project},
        )
        return [
            Plan(
                project=row["project"],
                model=row["model"],
                epoch=row["epoch"],
                variants=tuple(Variant(**v) for v in json.loads(row["variants"])),
                event_id=row["event_id"],
                received_us=row["received_us"],
            )
            for row in rows
        ]

    async def changes(self, project: str, model: str) -> list[Change]:
        """Oldest first."""
        rows = await self._rows(
            "SELECT event_id, model, version, to_state, kind, clock_us, epoch, other_version FROM changes"
            " WHERE project = :project AND model = :model ORDER BY epoch, clock_us",
            {"project": project, "model": model},
        )
        return [Change(**row) for row in rows]

    async def alerts(self, project: str = "", *, open_only: bool = False, limit: int = 200) -> list[Alert]:
        """Newest first."""
        rows = await self._rows(
            f"SELECT {', '.join(_ALERT_COLUMNS)} FROM alerts WHERE (:project = '' OR project = :project)"
            " AND (:every = 1 OR state <> 'resolved') ORDER BY updated_us DESC, alert_key LIMIT :most",
            {"project": project, "every": int(not open_only), "most": limit},
        )
        return [_alert(row) for row in rows]

    async def latest_alerts(self, project: str) -> dict[tuple[str, str], Alert]:
        """The newest incident of every rule and subject."""
        rows = await self._rows(
            f"SELECT {', '.join('a.' + name for name in _ALERT_COLUMNS)} FROM alerts a JOIN (SELECT rule, subject,"
            " max(since_us) AS newest FROM alerts WHERE project = :project GROUP BY rule, subject) b"
            " ON a.rule = b.rule AND a.subject = b.subject AND a.since_us = b.newest WHERE a.project = :project",
            {"project": project},
        )
        return {(row["rule"], row["subject"]): _alert(row) for row in rows}

    async def asked(self, project: str) -> frozenset[str]:
        """Keys."""
        rows = await self._rows("SELECT ask_key FROM asked WHERE project = :project", {"project": project})
        return frozenset(row["ask_key"] for row in rows)

    async def windows(self, project: str, until_us: int, limit: int) -> list[tuple[Window, bool, bool]]:
        """Oldest first."""
        rows = await self._rows(
            "SELECT * FROM (SELECT w.*, row_number() OVER (PARTITION BY source ORDER BY start_us DESC) AS place"
            " FROM windows w WHERE project = :project AND end_us <= :until_us) x WHERE place <= :most"
            " ORDER BY start_us, source",
            {"project": project, "until_us": until_us, "most": limit},
        )
        return [(_window(row), bool(row["judged"]), bool(row["broken"])) for row in rows]

    async def scores(self, project: str, reference: str) -> list[ScoreRow]:
        """By subject and start; NaN where there was no score."""
        rows = await self._rows(
            "SELECT subject, start_us, value, scored_rows, threshold, beyond FROM scores"
            " WHERE project = :project AND reference = :reference ORDER BY subject, start_us",
            {"project": project, "reference": reference},
        )
        return [
            ScoreRow(
                reference,
                row["subject"],
                row["start_us"],
                _number(row["value"]),
                row["scored_rows"],
                _number(row["threshold"]),
                bool(row["beyond"]),
            )
            for row in rows
        ]

    async def decided(self) -> dict[str, int]:
        """Project to time."""
        return {row["project"]: row["until_us"] for row in await self._rows("SELECT * FROM decided")}

    async def commit(self, project: str, until_us: int, outcome: Outcome) -> None:
        """One transaction: state, messages, and that the time was decided."""
        async with self._database.transaction() as transaction:
            await transaction.execute(_PUT_ALERT, [_alert_row(alert) for alert in outcome.alerts.values()])
            await transaction.execute(
                "INSERT INTO asked (ask_key, project, event_id, clock_us) VALUES (:key, :project, :event, :clock)"
                " ON CONFLICT (ask_key) DO NOTHING",
                [{"key": k, "project": project, "event": e, "clock": until_us} for k, e in outcome.asked.items()],
            )
            await self._put_scores(transaction, project, outcome.scores)
            await transaction.execute(
                "UPDATE windows SET judged = 1, broken = :broken WHERE project = :project AND source = :source"
                " AND start_us = :start",
                [
                    {"project": project, "source": source, "start": start, "broken": int(broken)}
                    for source, start, broken in outcome.judged_windows
                ],
            )
            await transaction.execute(
                "INSERT INTO decided (project, until_us) VALUES (:project, :until)"
                " ON CONFLICT (project) DO UPDATE SET until_us = excluded.until_us",
                {"project": project, "until": until_us},
            )
            await transaction.publish_many(outcome.messages)

    async def publish(self, messages: Sequence[Message]) -> None:
        """Through the outbox."""
        async with self._database.transaction() as transaction:
            await transaction.publish_many(messages)

    async def last_report(self, project: str, model: str) -> int:
        """0: none yet."""
        rows = await self._rows(
            "SELECT max(start_us) AS newest FROM reports WHERE project = :project AND model = :model",
            {"project": project, "model": model},
        )
        return int(rows[0]["newest"] or 0)

    async def put_report(self, row: ReportRow, kept: int) -> list[str]:
        """A window's newest report counts; the files of those beyond `kept` are the caller's to remove."""
        async with self._database.transaction() as transaction:
            await transaction.execute(
                "INSERT INTO reports (project, model, version, start_us, end_us, file, drifted, columns) VALUES"
                " (:project, :model, :version, :start_us, :end_us, :file, :drifted, :columns)"
                " ON CONFLICT (project, model, start_us) DO UPDATE SET file = excluded.file,"
                " drifted = excluded.drifted, columns = excluded.columns, version = excluded.version",
                asdict(row),
            )
            older = await transaction.rows(
                "SELECT start_us, file FROM reports WHERE project = :project AND model = :model"
                " ORDER BY start_us DESC LIMIT 1000 OFFSET :kept",
                {"project": row.project, "model": row.model, "kept": kept},
            )
            await transaction.execute(
                "DELETE FROM reports WHERE project = :project AND model = :model AND start_us = :start",
                [{"project": row.project, "model": row.model, "start": old["start_us"]} for old in older],
            )
        return [old["file"] for old in older]

    async def reports(self, limit: int = 50) -> list[ReportRow]:
        """Newest first."""
        rows = await self._rows("SELECT * FROM reports ORDER BY end_us DESC LIMIT :most", {"most": limit})
        return [ReportRow(**row) for row in rows]

    async def _put_scores(self, transaction: Transaction, project: str, scores: Sequence[ScoreRow]) -> None:
        await transaction.execute(
            "INSERT INTO scores (project, reference, subject, start_us, value, scored_rows, threshold, beyond) VALUES"
            " (:project, :reference, :subject, :start, :value, :rows, :threshold, :beyond)"
            " ON CONFLICT (project, reference, subject, start_us) DO UPDATE SET value = excluded.value,"
            " scored_rows = excluded.scored_rows, threshold = excluded.threshold, beyond = excluded.beyond",
            [
                {
                    "project": project,
                    "reference": s.reference,
                    "subject": s.subject,
                    "start": s.start_us,
                    "value": _nullable(s.value),
                    "rows": s.rows,
                    "threshold": _nullable(s.threshold),
                    "beyond": int(s.beyond),
                }
                for s in scores
            ],
        )

    async def _rows(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Mapping[str, Any]]:
        async with self._database.read() as transaction:
            return await transaction.rows(sql, params)


def _alert_row(alert: Alert) -> dict[str, Any]:
    row = {name: getattr(alert, name) for name in _ALERT_COLUMNS}
    return {**row, "alert_key": alert.key, "state": alert.state.value, "evidence_ids": json.dumps(alert.evidence_ids)}


def _alert(row: Mapping[str, Any]) -> Alert:
    values = {**row, "state": State(row["state"]), "evidence_ids": tuple(json.loads(row["evidence_ids"]))}
    return Alert(**values)


def _window_row(project: str, window: Window) -> dict[str, Any]:
    body = {
        "broken": [asdict(b) for b in window.broken],
        "profiles": [asdict(p) for p in window.profiles],
        "findings": [asdict(f) for f in window.findings],
    }
    return {
        "project": project,
        "source": window.source,
        "start_us": window.start_us,
        "end_us": window.end_us,
        "events": window.events,
        "quarantined": window.quarantined,
        "body": json.dumps(body),
        "event_id": window.event_id,
    }


def _window(row: Mapping[str, Any]) -> Window:
    body = json.loads(row["body"])
    return Window(
        source=row["source"],
        start_us=row["start_us"],
        end_us=row["end_us"],
        events=row["events"],
        quarantined=row["quarantined"],
        broken=tuple(Broken(**b) for b in body["broken"]),
        profiles=tuple(Profile(**p) for p in body["profiles"]),
        event_id=row["event_id"],
        findings=tuple(Finding(**f) for f in body.get("findings", ())),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _nullable(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
