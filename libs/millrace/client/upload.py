"""A file of events published from its first row to its last, or from where an earlier run was stopped.

Each batch that the platform answered is written to the journal before the next answer is looked at. What was sent and
not answered when a run ended is sent again by the next: its events have the same content, so the same ids, and are
recognised.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec

from millrace.client.batching import BATCH_BYTES, BATCH_EVENTS, cut
from millrace.client.errors import BadEventFile, FileChanged
from millrace.client.files import EventFile, FileRow
from millrace.client.journal import Place
from millrace.client.pipeline import Pipeline
from millrace.wire.ingestion.v1 import service_pb2

DEADLINE_S = 60.0  # for the platform to answer anything, before the run gives up; the next one goes on
MAX_TOLD = 10  # refused rows kept for a person; a file of rejects has all


@dataclass(frozen=True, slots=True)
class Refused:
    """One row that broke its contract."""

    row: int
    id: str
    field: str
    reason: str


@dataclass(slots=True)
class Uploaded:
    """What one run did, beside what earlier runs of the same file did (`place` has the sum). `refused`: the first."""

    place: Place
    skipped_rows: int = 0
    rows: int = 0
    retries: int = 0
    refused: list[Refused] = field(default_factory=list)


@dataclass(slots=True)
class _Batch:
    rows: list[FileRow]
    digest: str  # of every row up to its last


class Rejects:
    """A file of refused rows, one JSON object each, that goes on where the journal says."""

    def __init__(self, file: Path, place: Place) -> None:
        begin = place.rejects_bytes if place.rejects == str(file.resolve()) and file.exists() else 0
        file.parent.mkdir(parents=True, exist_ok=True)
        self._handle: IO[bytes] = file.open("r+b" if begin else "wb")
        self._handle.truncate(begin)  # what was written behind the journal's place comes again
        self._handle.seek(begin)
        place.rejects, place.rejects_bytes = str(file.resolve()), begin

    def add(self, refused: Refused, row: FileRow) -> None:
        """Writes one."""
        facts: dict[str, Any] = {"row": refused.row, "id": refused.id, "field": refused.field, "reason": refused.reason}
        self._handle.write(msgspec.json.encode(facts | {"event": row.json.decode(errors="replace")}) + b"\n")

    def settle(self, place: Place) -> None:
        """What was added is with the operating system, and the place says so."""
        self._handle.flush()
        place.rejects_bytes = self._handle.tell()

    def close(self) -> None:
        """Closes the file."""
        self._handle.close()


class Upload:
    """One run. `open_call` opens a PublishStream; `on_progress` hears after each answer, and while rows that an earlier
    run published are read again."""

    def __init__(
        self,
        open_call: Callable[[], Any],
        file: EventFile,
        place: Place,
        *,
        save: Callable[[], None] = lambda: None,
        rejects: Rejects | None = None,
        on_progress: Callable[[Uploaded], None] = lambda _: None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._file = file
        self._save = save
        self._rejects = rejects
        self._on_progress = on_progress
        self._digest = hashlib.blake2b(digest_size=16)
        self._under_way: deque[_Batch] = deque()
        self._unreadable: BadEventFile | None = None
        self.done = Uploaded(place)
        what = f"publish to {place.project}/{place.source}"
        self._pipeline = Pipeline(what, open_call, deadline_s, on_retry=self._retried)

    async def run(self) -> Uploaded:
        """Publishes what is left. Raises BadEventFile, FileChanged, CallFailed; what was answered until then stays
        done, and the next run goes on behind it."""
        rows = self._file.rows()
        self._skip(rows)
        async with aclosing(self._pipeline.run(self._requests(rows))) as replies:
            async for reply in replies:
                self._take(reply)
        if self._unreadable is not None:
            raise self._unreadable
        return self.done

    def _skip(self, rows: Iterator[FileRow]) -> None:
        """Past what earlier runs published, if it is still what they published."""
        place = self.done.place
        for _ in range(place.rows):
            row = next(rows, None)
            if row is None:
                break
            self._hash(row)
            self.done.skipped_rows += 1
            if self.done.skipped_rows % 10_000 == 0:
                self._on_progress(self.done)
        if place.rows and (self.done.skipped_rows < place.rows or self._digest.hexdigest() != place.digest):
            raise FileChanged(
                f"{self._file.name} has changed in the {place.rows:,} rows that were published already; give --restart "
                "to publish it from its first row (rows that are known are recognised among the last of their source)"
            )

    def _requests(self, rows: Iterator[FileRow]) -> Iterator[service_pb2.PublishRequest]:
        place = self.done.place
        for batch in cut(self._readable(rows), lambda row: len(row.json), BATCH_EVENTS, BATCH_BYTES):
            for row in batch:
                self._hash(row)
            self._under_way.append(_Batch(batch, self._digest.hexdigest()))
            events = [service_pb2.DataEvent(json=row.json) for row in batch]
            yield service_pb2.PublishRequest(project=place.project, source=place.source, events=events)

    def _readable(self, rows: Iterator[FileRow]) -> Iterator[FileRow]:
        """Up to where the file can be read: what comes before is published first."""
        try:
            yield from rows
        except BadEventFile as error:
            self._unreadable = error

    def _take(self, reply: service_pb2.PublishReply) -> None:
        batch, place = self._under_way.popleft(), self.done.place
        for verdict in reply.verdicts:
            if verdict.outcome == service_pb2.Verdict.QUARANTINED:
                self._refuse(batch.rows[verdict.index], verdict)
        place.rows += len(batch.rows)
        place.digest = batch.digest
        place.accepted += reply.accepted
        place.duplicates += reply.duplicates
        place.quarantined += reply.quarantined
        if self._rejects is not None:
            self._rejects.settle(place)
        self._save()
        self.done.rows += len(batch.rows)
        self._on_progress(self.done)

    def _refuse(self, row: FileRow, verdict: service_pb2.Verdict) -> None:
        refused = Refused(row.number, verdict.id, verdict.field, verdict.reason)
        if len(self.done.refused) < MAX_TOLD:
            self.done.refused.append(refused)
        if self._rejects is not None:
            self._rejects.add(refused, row)

    def _hash(self, row: FileRow) -> None:
        self._digest.update(row.json)
        self._digest.update(b"\n")

    def _retried(self) -> None:
        self.done.retries += 1
        self._on_progress(self.done)
