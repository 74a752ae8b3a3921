"""The labeling room's knobs."""

from __future__ import annotations

from millrace.runtime.settings import RoomSettings, knob


class Settings(RoomSettings):
    """Shared settings and labeling's own."""

    lease_s: float = knob(
        900.0, "labeling", "lease_s", "Wall time that an annotator has for a task before it goes back.", gt=0
    )
    maturing_examples: int = knob(
        20_000,
        "labeling",
        "maturing_examples",
        "Examples that mature in one transaction: bounds memory when a long backlog falls due at once.",
        ge=1,
    )
    batch_records: int = knob(
        5_000, "labeling", "batch_records", "Records taken in one transaction: more is faster, and later.", ge=1
    )
    spine_deadline_s: float = knob(
        60.0, "labeling", "spine_deadline_s", "Wall time a spine request waits for the history to catch up.", gt=0
    )
    chunk_bytes: int = knob(
        1_048_576,
        "labeling",
        "chunk_bytes",
        "Bytes per message of a spine stream; gRPC refuses more than 4 MB.",
        ge=1024,
    )
