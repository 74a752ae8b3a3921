"""Definitions in SQL: every version of every project."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from millrace.definitions import Project, from_canonical_json
from millrace.stores.sql import Transaction
from millrace.wire.registry.v1 import events_pb2

MAX_PROJECTS = 1_000


@lru_cache(maxsize=256)
def read_project(canonical_json: str) -> Project:
    """The project of a stored definition."""
    return from_canonical_json(canonical_json)


class Definitions:
    """The repository of one transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._sql = transaction

    async def current(self, project: str) -> events_pb2.DefinitionPublished | None:
        """The newest definition; None when there is no such project."""
        row = await self._sql.row(
            "SELECT * FROM definitions WHERE project = :project ORDER BY version DESC LIMIT 1", {"project": project}
        )
        return _published(row) if row else None

    async def version(self, project: str, number: int) -> events_pb2.DefinitionPublished | None:
        """One version of a definition."""
        row = await self._sql.row(
            "SELECT * FROM definitions WHERE project = :project AND version = :version",
            {"project": project, "version": number},
        )
        return _published(row) if row else None

    async def history(self, project: str) -> list[Project]:
        """Every definition that the project ever had, oldest first."""
        rows = await self._sql.rows(
            "SELECT canonical_json FROM definitions WHERE project = :project ORDER BY version", {"project": project}
        )
        return [read_project(row["canonical_json"]) for row in rows]

    async def all(self) -> list[events_pb2.DefinitionPublished]:
        """The newest definition of each project, by name."""
        newest = "SELECT project, MAX(version) AS newest FROM definitions GROUP BY project"
        rows = await self._sql.rows(
            f"SELECT d.* FROM definitions d JOIN ({newest}) n"
            " ON n.project = d.project AND n.newest = d.version ORDER BY d.project LIMIT :limit",
            {"limit": MAX_PROJECTS},
        )
        return [_published(row) for row in rows]

    async def add(self, published: events_pb2.DefinitionPublished, yaml: str, now_us: int) -> None:
        """Keeps a new version. Raises StoreConflict when somebody added it first."""
        await self._sql.execute(
            "INSERT INTO definitions (project, version, digest, canonical_json, yaml, actor, created_us)"
            " VALUES (:project, :version, :digest, :canonical_json, :yaml, :actor, :created_us)",
            {
                "project": published.project,
                "version": published.version,
                "digest": published.digest,
                "canonical_json": published.canonical_json,
                "yaml": yaml,
                "actor": published.actor,
                "created_us": now_us,
            },
        )


def _published(row: Mapping[str, Any]) -> events_pb2.DefinitionPublished:
    return events_pb2.DefinitionPublished(
        project=row["project"],
        version=row["version"],
        digest=row["digest"],
        canonical_json=row["canonical_json"],
        actor=row["actor"],
    )
