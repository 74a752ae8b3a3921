"""The trainer's knobs."""

from __future__ import annotations

from millrace.runtime.settings import RoomSettings, knob


class Settings(RoomSettings):
    """Shared settings and the trainer's own."""

    threads: int = knob(
        1,
        "trainer",
        "threads",
        "Threads of one job's math: more would take cores from serving on a small machine.",
        ge=1,
    )
    nice: int = knob(
        10,
        "trainer",
        "nice",
        "How far a job steps back for other processes (Unix nice): serving comes first.",
        ge=0,
        le=19,
    )
    job_deadline_s: float = knob(
        3600.0, "trainer", "job_deadline_s", "Wall time after which a job that does not end is given up.", gt=0
    )
    call_deadline_s: float = knob(
        300.0,
        "trainer",
        "call_deadline_s",
        "Wall time of one call to a neighbour; a large training set takes long.",
        gt=0,
    )
    patience_s: float = knob(
        900.0, "trainer", "patience_s", "Wall time that a run waits for neighbours that are away before it fails.", gt=0
    )
    look_again_s: float = knob(
        1.0, "trainer", "look_again_s", "How often triggers that depend on time alone are looked at, wall time.", gt=0
    )
    warm: bool = knob(
        True,
        "trainer",
        "warm",
        "Import what jobs need at the start, not before the first job: that one is some 7 s shorter.",
    )
