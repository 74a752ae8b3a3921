"""Settings of inference: what every room has, and the knobs below (`MILLRACE_INFERENCE_<KNOB>`)."""

from __future__ import annotations

from typing import Any, Self

from millrace.runtime.settings import RoomSettings
from millrace.runtime.settings import knob as shared_knob
from pydantic import model_validator

MIB = 1024 * 1024


def knob(default: Any, name: str, why: str, **bounds: Any) -> Any:
    """A knob of this room."""
    return shared_knob(default, "inference", name, why, **bounds)


class Settings(RoomSettings):
    """Typed, frozen; one line of why per knob."""

    replica: str = knob("", "replica", "Name of this replica in serving.status; empty: made once and kept on disk.")
    intra_threads: int = knob(
        1, "intra_threads", "Threads inside one model run; ONNX Runtime would take all cores.", ge=1
    )
    inter_threads: int = knob(1, "inter_threads", "Threads across branches of one model's graph.", ge=1)
    worker_threads: int = knob(
        2, "worker_threads", "Threads for answering runs too long for the event loop.", ge=1, le=64
    )
    inline_max_ms: float = knob(
        1.0, "inline_max_ms", "A model faster than this at one row runs on the event loop.", ge=0
    )
    inline_max_rows: int = knob(64, "inline_max_rows", "Requests of more rows run in a worker thread.", ge=0)
    concurrent_requests: int = knob(256, "concurrent_requests", "Requests in hand; one more is refused at once.", ge=1)
    request_rows: int = knob(1_000, "request_rows", "Most rows (or items) of one request.", ge=1)
    stream_window: int = knob(16, "stream_window", "Requests of one stream worked on at a time.", ge=1, le=256)
    default_deadline_ms: int = knob(5_000, "default_deadline_ms", "Deadline of a caller that names none.", ge=1)
    max_deadline_ms: int = knob(
        120_000, "max_deadline_ms", "Longest deadline that is honoured; a slot is held so long.", ge=1
    )
    shadow_jobs: int = knob(
        1_024, "shadow_jobs", "Answered requests waiting for their shadows; beyond it they are dropped.", ge=1
    )
    artifact_max_bytes: int = knob(512 * MIB, "artifact_max_bytes", "Largest artifact that is fetched.", ge=1)
    artifact_deadline_s: float = knob(60.0, "artifact_deadline_s", "Wall time for one artifact to arrive.", gt=0)
    load_backoff_max_s: float = knob(5.0, "load_backoff_max_s", "Longest wait before a plan is tried again.", gt=0)
    spool_segment_bytes: int = knob(
        8 * MIB, "spool_segment_bytes", "A segment of the log spool; deleted when published.", ge=4096
    )
    spool_max_bytes: int = knob(
        1024 * MIB, "spool_max_bytes", "Whole log spool; beyond it the oldest segment is dropped.", ge=8192
    )
    relay_records: int = knob(1_000, "relay_records", "Log records published in one batch.", ge=1)
    status_every_s: float = knob(5.0, "status_every_s", "Longest silence of serving.status.", gt=0)

    @model_validator(mode="after")
    def _spool_holds_two_segments(self) -> Self:
        if self.spool_max_bytes < 2 * self.spool_segment_bytes:
            raise ValueError("spool_max_bytes must be at least twice spool_segment_bytes")
        return self
