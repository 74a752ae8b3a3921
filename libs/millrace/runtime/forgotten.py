"""What was forgotten, as readers of old records must know it: a log that still holds a record may not bring it back.

Entities are known by the digest of a request's own salt and their key, so that a process that starts after the key
was given up recognises them just the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from millrace.definitions.keys import entity_key
from millrace.wire.ingestion.v1 import forgetting_pb2


def entity_digest(salt: bytes, entity: str) -> bytes:
    """SHA-256 over the request's salt and the key."""
    return hashlib.sha256(salt + entity.encode()).digest()


@dataclass(frozen=True, slots=True)
class Cut:
    """Rows of one source whose `field` has this digest are forgotten up to `until_us`."""

    field: str
    salt: bytes
    digest: bytes
    until_us: int

    def is_of(self, entity: str | None) -> bool:
        """Whether the digest is this entity's."""
        return entity is not None and entity_digest(self.salt, entity) == self.digest


class Forgotten:
    """The requests that are known. Nothing is asked of records of projects in which nobody was forgotten."""

    def __init__(self) -> None:
        self._requests: dict[str, forgetting_pb2.Forget] = {}
        self._rows: dict[tuple[str, str], list[Cut]] = {}
        self._examples: dict[str, list[tuple[Cut, int]]] = {}

    def __bool__(self) -> bool:
        return bool(self._requests)

    def put(self, request: forgetting_pb2.Forget) -> None:
        """Take up a request, or what it has become."""
        self._requests[request.id] = request
        self._arrange()

    def drop(self, request_id: str) -> None:
        """The logs hold nothing of it any more."""
        if self._requests.pop(request_id, None) is not None:
            self._arrange()

    def get(self, request_id: str) -> forgetting_pb2.Forget | None:
        """The request as last heard of."""
        return self._requests.get(request_id)

    def has_rows_of(self, project: str, source: str) -> bool:
        """Whether rows of this source have to be asked about."""
        return (project, source) in self._rows

    def has_examples_of(self, project: str) -> bool:
        """Whether predictions and labels of this project have to be asked about."""
        return project in self._examples

    def is_row(self, project: str, source: str, row: Mapping[str, Any], visible_us: int) -> bool:
        """Whether this row of a source, visible then, is of a forgotten entity."""
        cuts = self._rows.get((project, source))
        return cuts is not None and any(
            visible_us <= cut.until_us and cut.is_of(entity_key(row.get(cut.field))) for cut in cuts
        )

    def is_raw(self, project: str, source: str, row: Mapping[str, Any], told_us: int) -> bool:
        """Whether a row that has not been let in yet is of a forgotten entity and was sent (wall) before the request
        was sealed. Fields as they would be stored."""
        return any(
            told_us <= request.sealed_us
            and (request.project, one.source) == (project, source)
            and Cut(one.field, request.salt, one.digest, one.cut_us).is_of(entity_key(row.get(one.field)))
            for request in self._requests.values()
            for one in request.identities
        )

    def is_example(self, project: str, entity: str, moment_us: int, told_us: int) -> bool:
        """Whether a prediction or label is of a forgotten entity: about a moment before the cut, or told (wall)
        before the request was sealed."""
        cuts = self._examples.get(project)
        return cuts is not None and any(
            (moment_us <= cut.until_us or told_us <= sealed_us) and cut.is_of(entity) for cut, sealed_us in cuts
        )

    def _arrange(self) -> None:
        self._rows, self._examples = {}, {}
        for request in self._requests.values():
            for one in request.identities:
                cut = Cut(one.field, request.salt, one.digest, one.cut_us)
                self._rows.setdefault((request.project, one.source), []).append(cut)
            if request.HasField("example"):
                example = request.example
                cut = Cut(example.field, request.salt, example.digest, example.cut_us)
                self._examples.setdefault(request.project, []).append((cut, request.sealed_us))
