"""Knobs of ingestion."""

from __future__ import annotations

from millrace.runtime.settings import RoomSettings, knob

ROOM = "ingestion"


class Settings(RoomSettings):
    """Frozen; read once."""

    recent_ids: int = knob(
        100_000,
        ROOM,
        "recent_ids",
        "Event ids remembered per source: a repeat within so many events is dropped. After a restart they are read"
        " from the log: so many records of it, and where that is not enough twice as many of each partition.",
        ge=1,
    )
    max_request_events: int = knob(
        10_000, ROOM, "max_request_events", "Events in one request; larger loads are cut by the client.", ge=1
    )
    max_waiting_events: int = knob(
        20_000,
        ROOM,
        "max_waiting_events",
        "Events per source that may wait for the broker; then callers are sent away.",
        ge=1,
    )
    max_waiting_bytes: int = knob(
        64 * 1024 * 1024,
        ROOM,
        "max_waiting_bytes",
        "What they may hold together; one request may always wait.",
        ge=1024,
    )
    max_body_bytes: int = knob(
        32 * 1024 * 1024, ROOM, "max_body_bytes", "One HTTP body of events; it is held in memory.", ge=1024
    )
    max_file_bytes: int = knob(
        4 * 1024**3, ROOM, "max_file_bytes", "One uploaded file; it is spooled to disk and read in pieces.", ge=1024
    )
    max_ahead_us: int = knob(
        24 * 3_600_000_000,
        ROOM,
        "max_ahead_us",
        "How far past a replayed clock a declared availability is believed.",
        ge=0,
    )
    max_lease_ms: int = knob(
        600_000,
        ROOM,
        "max_lease_ms",
        "Longest lease on a clock; a holder that died keeps others out for no longer.",
        ge=1,
    )
    max_definition_wait_ms: int = knob(
        60_000,
        ROOM,
        "max_definition_wait_ms",
        "How long an event may name a newer definition than is known here before it is refused.",
        ge=0,
    )
    profile_days: int = knob(400, ROOM, "profile_days", "Days of data docs kept per source.", ge=1, le=10_000)
    pii_secret: str = knob(
        "", ROOM, "pii_secret", "Secret of hashed personal fields; empty: made once and kept in this room's database."
    )
