"""Release state in SQL: loaded for a decision, written with what the decision tells the world, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from millrace.stores.sql import Transaction
from millrace.stores.superseded import superseded_words
from millrace.wire.registry.v1 import events_pb2, service_pb2

from services.registry.adapters.events_wire import Cause, Subject, Told, plan_of, tell
from services.registry.domain.state import Candidate, Decision, Evidence, ReleaseState, State, Version

# Former champions that a rollback may choose from: older ones are history.
FORMER_CHAMPIONS_KEPT = 50
# Incidents remembered per model: an incident's requests come within hours, not after this many others.
INCIDENTS_KEPT = 1_000


class Releases:
    """The repository of one transaction. With `lock` a model's row is locked while it is decided about."""

    def __init__(self, transaction: Transaction, *, lock: bool = False) -> None:
        self._sql = transaction
        self._for_update = " FOR UPDATE" if lock else ""

    async def owner(self, model: str) -> str:
        """The project that owns a model's name; "" when nobody does."""
        row = await self._sql.row("SELECT project FROM models WHERE model = :model", {"model": model})
        return str(row["project"]) if row else ""

    async def claim(self, project: str, model: str) -> None:
        """Makes a model of this project; harmless when it is there. Raises StoreConflict in a race for the name."""
        if not await self.owner(model):
            await self._sql.execute(
                "INSERT INTO models (model, project) VALUES (:model, :project)", {"model": model, "project": project}
            )

    async def load(self, model: str, run_id: str = "") -> ReleaseState | None:
        """The state of a model with every version that a rule may ask about; None when there is no such model."""
        query = f"SELECT * FROM models WHERE model = :model{self._for_update}"
        row = await self._sql.row(query, {"model": model})
        if row is None:
            return None
        last = await self._sql.row("SELECT MAX(version) AS last FROM versions WHERE model = :model", {"model": model})
        return ReleaseState(
            versions=MappingProxyType(await self._versions(model, row, run_id)),
            last_number=int(last["last"] or 0) if last else 0,
            champion=row["champion"],
            challenger=row["challenger"],
            step=row["step"],
            weight=row["weight"],
            fallback=row["fallback"],
            promoted_us=row["promoted_us"],
            rolled_back_us=row["rolled_back_us"],
            epoch=row["epoch"],
            incidents=await self._incidents(model),
        )

    async def save(self, subject: Subject, before: ReleaseState, decision: Decision, cause: Cause) -> Told:
        """Writes the decision and publishes what it tells; the messages."""
        told = tell(subject, decision, cause)
        after = decision.state
        if after != before:
            await self._save_versions(subject.model, before, after, cause)
            await self._save_model(subject, after, decision.cause)
            for version, incident in after.incidents - before.incidents:
                await self._sql.execute(
                    "INSERT INTO incidents (model, version, incident) VALUES (:model, :version, :incident)",
                    {"model": subject.model, "version": version, "incident": incident},
                )
        await self._sql.execute(
            "INSERT INTO moves (event_id, model, version, event) VALUES (:id, :model, :version, :event)",
            [
                {"id": m.event.id, "model": subject.model, "version": move.version, "event": m.event.data}
                for move, m in told.moves
            ],
        )
        await self._sql.publish_many(told.all)
        return told

    async def plan(self, model: str) -> events_pb2.ServingPlan | None:
        """The plan as last published; None before the first release."""
        row = await self._sql.row("SELECT plan FROM models WHERE model = :model", {"model": model})
        if row is None or row["plan"] is None:
            return None
        return events_pb2.ServingPlan.FromString(bytes(row["plan"]))

    async def version(self, model: str, number: int) -> service_pb2.ModelVersion | None:
        """One version as the door shows it."""
        found = await self._page(model, "v.version = :number", {"number": number}, 1)
        return found[0] if found else None

    async def page(self, model: str, before: int, limit: int) -> list[service_pb2.ModelVersion]:
        """Versions below `before` (0: from the newest), newest first; paged by key, so that pages do not shift."""
        return await self._page(model, "v.version < :before", {"before": before or 2**62}, limit)

    async def moves(self, model: str, number: int, limit: int = 1_000) -> list[events_pb2.ModelEvent]:
        """What was told about a version, oldest first."""
        rows = await self._sql.rows(
            "SELECT event FROM moves WHERE model = :model AND version = :version ORDER BY seq LIMIT :limit",
            {"model": model, "version": number, "limit": limit},
        )
        return [events_pb2.ModelEvent.FromString(bytes(row["event"])) for row in rows]

    async def guarded(self, project: str = "") -> list[tuple[str, str]]:
        """(project, model) of every model with a warm target; of one project, or of all."""
        rows = await self._sql.rows(
            "SELECT project, model FROM models WHERE fallback > 0 AND (project = :project OR :project = '')",
            {"project": project},
        )
        return [(row["project"], row["model"]) for row in rows]

    async def _versions(self, model: str, row: Mapping[str, Any], run_id: str) -> dict[int, Version]:
        rows = await self._sql.rows(
            "SELECT * FROM versions WHERE model = :model AND (state IN ('registered', 'gated', 'shadow', 'canary',"
            " 'champion') OR version IN (:champion, :challenger, :fallback) OR (run_id = :run_id AND run_id <> ''))",
            {"model": model, "run_id": run_id, **{k: row[k] for k in ("champion", "challenger", "fallback")}},
        )
        former = await self._sql.rows(
            "SELECT * FROM versions WHERE model = :model AND state = 'retired' AND championships > 0"
            " ORDER BY version DESC LIMIT :limit",
            {"model": model, "limit": FORMER_CHAMPIONS_KEPT},
        )
        return {r["version"]: _version(r) for r in sorted([*rows, *former], key=lambda r: r["version"])}

    async def add(self, model: str, state: ReleaseState, number: int) -> ReleaseState:
        """`state` with one more version in sight, when it exists: the one that a command names."""
        if number in state.versions:
            return state
        row = await self._sql.row(
            "SELECT * FROM versions WHERE model = :model AND version = :version", {"model": model, "version": number}
        )
        return state.with_version(_version(row)) if row else state

    async def _incidents(self, model: str) -> frozenset[tuple[int, str]]:
        rows = await self._sql.rows(
            "SELECT version, incident FROM incidents WHERE model = :model ORDER BY version DESC LIMIT :limit",
            {"model": model, "limit": INCIDENTS_KEPT},
        )
        return frozenset((row["version"], row["incident"]) for row in rows)

    async def _save_versions(self, model: str, before: ReleaseState, after: ReleaseState, cause: Cause) -> None:
        changed = [_columns(model, v, cause) for n, v in after.versions.items() if before.versions.get(n) != v]
        await self._sql.execute(
            "INSERT INTO versions (model, version, state, reason, championships, broken, run_id, model_digest,"
            " bundle_digest, gated_against, gate_report_digest, snapshot_digest, definition_version, passed, clock_us,"
            " metrics_json, actor, created_us) VALUES (:model, :version, :state, :reason, :championships, :broken,"
            " :run_id, :model_digest, :bundle_digest, :gated_against, :gate_report_digest, :snapshot_digest,"
            " :definition_version, :passed, :clock_us, :metrics_json, :actor, :created_us)"
            " ON CONFLICT (model, version) DO UPDATE SET state = excluded.state, reason = excluded.reason,"
            " championships = excluded.championships, broken = excluded.broken,"
            " model_digest = excluded.model_digest, bundle_digest = excluded.bundle_digest,"
            " gated_against = excluded.gated_against, gate_report_digest = excluded.gate_report_digest,"
            " snapshot_digest = excluded.snapshot_digest, definition_version = excluded.definition_version,"
            " passed = excluded.passed, clock_us = excluded.clock_us, metrics_json = excluded.metrics_json",
            changed,
        )

    async def _save_model(self, subject: Subject, after: ReleaseState, cause: str) -> None:
        names = ("champion", "challenger", "step", "weight", "fallback", "promoted_us", "rolled_back_us", "epoch")
        values = {name: getattr(after, name) for name in names}
        if cause:
            values["plan"] = plan_of(subject, after, cause).SerializeToString()
        assignments = ", ".join(f"{name} = :{name}" for name in values)
        await self._sql.execute(
            f"UPDATE models SET {assignments} WHERE model = :model", {**values, "model": subject.model}
        )

    async def _page(
        self, model: str, where: str, params: Mapping[str, Any], limit: int
    ) -> list[service_pb2.ModelVersion]:
        rows = await self._sql.rows(
            "SELECT v.*, m.project, m.champion, m.challenger, m.fallback FROM versions v"
            f" JOIN models m ON m.model = v.model WHERE v.model = :model AND {where}"
            " ORDER BY v.version DESC LIMIT :limit",
            {"model": model, "limit": limit, **params},
        )
        words = await superseded_words(self._sql, [row["snapshot_digest"] for row in rows])
        return [_shown(row, words.get(row["snapshot_digest"], "")) for row in rows]

    async def trained_on(self, digest: str) -> list[str]:
        """`model version` of each that was trained on this snapshot."""
        rows = await self._sql.rows(
            "SELECT model, version FROM versions WHERE snapshot_digest = :digest ORDER BY model, version",
            {"digest": digest},
        )
        return [f"{row['model']} {row['version']}" for row in rows]


def _version(row: Mapping[str, Any]) -> Version:
    candidate = Candidate(
        run_id=row["run_id"],
        model_digest=row["model_digest"],
        bundle_digest=row["bundle_digest"],
        evidence=Evidence(row["gated_against"], row["gate_report_digest"]),
        passed=bool(row["passed"]),
        snapshot_digest=row["snapshot_digest"],
        definition_version=row["definition_version"],
        clock_us=row["clock_us"],
        metrics=MappingProxyType(json.loads(row["metrics_json"])),
        actor=row["actor"],
    )
    return Version(
        row["version"], candidate, State(row["state"]), row["reason"], row["championships"], bool(row["broken"])
    )


def _columns(model: str, version: Version, cause: Cause) -> dict[str, Any]:
    candidate = version.candidate
    return {
        "model": model,
        "version": version.number,
        "state": version.state.value,
        "reason": version.reason,
        "championships": version.championships,
        "broken": int(version.broken),
        "run_id": candidate.run_id,
        "model_digest": candidate.model_digest,
        "bundle_digest": candidate.bundle_digest,
        "gated_against": candidate.evidence.champion,
        "gate_report_digest": candidate.evidence.gate_report_digest,
        "snapshot_digest": candidate.snapshot_digest,
        "definition_version": candidate.definition_version,
        "passed": int(candidate.passed),
        "clock_us": candidate.clock_us,
        "metrics_json": json.dumps(dict(candidate.metrics), sort_keys=True),
        "actor": candidate.actor or cause.actor,
        "created_us": cause.wall_us,
    }


def _shown(row: Mapping[str, Any], forgotten: str) -> service_pb2.ModelVersion:
    aliases = [name for name in ("champion", "challenger", "fallback") if row[name] == row["version"]]
    return service_pb2.ModelVersion(
        project=row["project"],
        model=row["model"],
        version=row["version"],
        state=row["state"],
        model_digest=row["model_digest"],
        bundle_digest=row["bundle_digest"],
        run_id=row["run_id"],
        snapshot_digest=row["snapshot_digest"],
        gate_report_digest=row["gate_report_digest"],
        definition_version=row["definition_version"],
        actor=row["actor"],
        reason=row["reason"],
        created_us=row["created_us"],
        metrics=json.loads(row["metrics_json"]),
        aliases=aliases,
        forgotten=forgotten,
    )
