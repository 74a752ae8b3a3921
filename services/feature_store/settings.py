"""Knobs of the feature store, one line of why each."""

from __future__ import annotations

from millrace.runtime.settings import RoomSettings, knob

ROOM = "feature_store"


class Settings(RoomSettings):
    """`MILLRACE_FEATURE_STORE_<NAME>`; the rest is every room's."""

    batch_records: int = knob(
        4_000,
        ROOM,
        "batch_records",
        "Most records of one poll: bounds memory; the more, the fewer rows are written per event where many wait.",
        ge=1,
    )
    flush_rows: int = knob(
        20_000, ROOM, "flush_rows", "History rows that are inserted at once: ClickHouse wants large inserts.", ge=1
    )
    flush_quiet_ms: int = knob(
        25,
        ROOM,
        "flush_quiet_ms",
        "History is written when nothing came for this long, so that a pause finds it whole.",
        ge=1,
    )
    flush_most_ms: int = knob(
        1_000, ROOM, "flush_most_ms", "Longest that a history row waits in memory while more keep coming.", ge=1
    )
    buffer_rows: int = knob(
        100_000, ROOM, "buffer_rows", "History rows held while ClickHouse is away; then the consumer waits.", ge=1
    )
    read_wait_ms: int = knob(
        10_000, ROOM, "read_wait_ms", "How long `not_before` waits when the caller set no deadline.", ge=1
    )
    training_wait_s: float = knob(
        60.0, ROOM, "training_wait_s", "How long a training set waits for history to reach its as_of.", gt=0
    )
    historical_events: int = knob(
        1_000_000,
        ROOM,
        "historical_events",
        "Events of a view that one request for a few entities' history may read into memory.",
        ge=1,
    )
    snapshot_chunk_rows: int = knob(
        50_000, ROOM, "snapshot_chunk_rows", "Rows of one snapshot object: bounds what a reader holds.", ge=1
    )
    snapshot_chunk_mib: int = knob(
        16,
        ROOM,
        "snapshot_chunk_mib",
        "Size of one snapshot object: wide rows make fewer of it.",
        ge=1,
    )
    training_memory_mib: int = knob(
        1_024,
        ROOM,
        "training_memory_mib",
        "Memory of training sets: half for timelines kept between them, the rest for what is read and worked out.",
        ge=16,
    )
    training_processes: int = knob(
        2, ROOM, "training_processes", "Children that hold timelines: views are worked out side by side.", ge=1
    )
    spine_upload_mib: int = knob(
        1_024, ROOM, "spine_upload_mib", "Largest table of a user's own whose rows a training set may have.", ge=1
    )
    most_entities: int = knob(1_000, ROOM, "most_entities", "Entities that one online read may name.", ge=1)
    stats_sample: int = knob(
        5_000,
        ROOM,
        "stats_sample",
        "Rows per view that the statistics are made of: enough for a percent.",
        ge=1,
    )
    stats_keys: int = knob(
        2_000_000,
        ROOM,
        "stats_keys",
        "Keys of the online store that the statistics look at; with more, counts are estimated.",
        ge=1_000,
    )
    stats_keep_s: float = knob(
        60.0, ROOM, "stats_keep_s", "How long statistics are good for a caller who does not say.", ge=0
    )
    shadow_file: str = knob(
        "",
        ROOM,
        "shadow_file",
        "Plan of a replay into a namespace of its own, which `millrace shadow` writes; the room ends when it is done.",
    )
    backfill_events: int = knob(
        500_000,
        ROOM,
        "backfill_events",
        "Events of history that are made into online rows at once: bounds memory, some 300 bytes each.",
        ge=1_000,
    )
    consistency_share: float = knob(
        0.1,
        ROOM,
        "consistency_share",
        "Share of the entity keys whose online reads are kept and worked out again from history; 0: none.",
        ge=0,
        le=1,
    )
    consistency_reads_per_s: float = knob(
        5.0,
        ROOM,
        "consistency_reads_per_s",
        "Most reads (one entity each) kept per second, over ten seconds: bounds what the check costs.",
        gt=0,
    )
    consistency_every_s: float = knob(
        30.0,
        ROOM,
        "consistency_every_s",
        "How often kept reads are checked. A round asks history twice for each view, however few reads there are.",
        gt=0,
    )
    consistency_batch_reads: int = knob(
        200, ROOM, "consistency_batch_reads", "Reads checked together: bounds the history in memory.", ge=1
    )
    consistency_settle_s: float = knob(
        30.0,
        ROOM,
        "consistency_settle_s",
        "A read that differs is looked at again until it is this old: history may be on its way.",
        ge=0,
    )
