"""The manifest of a training set: its digest is the data snapshot's name, so equal inputs must give equal bytes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

FORMAT = "millrace.snapshot/1"
# The rule that the rows follow, as words that a later reader can hold against the code.
AS_KNOWN = "event_time < T and visible_time <= T; windows [floor_hop(T - w), T); ttl at T"
AS_HAPPENED = "event_time < T; windows [floor_hop(T - w), T); ttl at T"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot is: its rows in chunks named by digest (each a whole Arrow IPC stream), and what they mean."""

    project: str
    definition_version: int
    definition_digest: str
    from_us: int
    to_us: int
    as_of_us: int
    rule: str
    columns: tuple[tuple[str, str], ...]  # (name, type)
    rows: int
    chunks: tuple[str, ...]
    spine: str = ""  # digest of the user's table whose rows these are; empty: the labelled examples
    present: tuple[tuple[str, int], ...] = ()  # (feature, rows in which it has a value)

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, UTF-8."""
        document = {"format": FORMAT, **asdict(self)}
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """The manifest that `to_bytes` wrote; ValueError for anything else."""
        document = json.loads(data)
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise ValueError("not a snapshot manifest")
        try:
            columns = tuple((str(name), str(kind)) for name, kind in document.pop("columns"))
            chunks = tuple(str(digest) for digest in document.pop("chunks"))
            present = tuple((str(name), int(rows)) for name, rows in document.pop("present", ()))
            return cls(columns=columns, chunks=chunks, present=present, **document)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a snapshot manifest: {error}") from error
