"""Versions that learned from what was forgotten are marked: each is shown with the request and the newer snapshot."""

from __future__ import annotations

from millrace.runtime.forgetting import Obeyed
from millrace.stores.superseded import note_superseded
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget

from services.registry.handlers.desk import Desk


class Forgetting:
    """Obeys requests: no model is withdrawn by it, since that is for a person to decide who sees the mark."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def obey(self, request: Forget) -> Obeyed:
        """Idempotent. Raises StoreUnavailable: to be repeated."""
        done = Obeyed()
        now_us = self._desk.wall_us()
        await note_superseded(self._desk.database, request, now_us)
        digests = [one.digest for one in request.snapshots]
        async with self._desk.database.read() as transaction:
            marked = [await self._desk.releases(transaction).trained_on(digest) for digest in digests]
        versions = [version for found in marked for version in found]
        how = ", ".join(versions) if versions else "no version was trained on a snapshot that held it"
        done.add("registry: versions marked", len(versions), now_us, how)
        return done
