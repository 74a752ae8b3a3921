"""Settings of the monitor: what every room has, and its own knobs (`MILLRACE_MONITOR_…`)."""

from __future__ import annotations

from millrace.runtime.settings import RoomSettings, knob

ROOM = "monitor"


class Settings(RoomSettings):
    """Read once, frozen."""

    decide_every_replay_s: int = knob(
        21_600, ROOM, "decide_every_replay_s",
        "Step of the grid on which replayed projects are judged, seconds of the project's clock.",
        ge=60,
    )  # fmt: skip
    decide_every_wall_s: int = knob(
        60,
        ROOM,
        "decide_every_wall_s",
        "Step of the grid on which projects on the wall clock are judged, seconds.",
        ge=1,
    )
    batch_records: int = knob(
        5_000, ROOM, "batch_records", "Most records of one insert into ClickHouse: bounds memory.", ge=1, le=100_000
    )
    reports: bool = knob(True, ROOM, "reports", "Whether Evidently's drift reports are made and linked.")
    report_every_windows: int = knob(
        28,
        ROOM,
        "report_every_windows",
        "Drift windows from one report to the next: each costs some 10 s of one core.",
        ge=1,
    )
    report_rows: int = knob(
        2_000, ROOM, "report_rows", "Most rows on each side of a drift report: bounds its time and memory.",
        ge=100, le=5_000,
    )  # fmt: skip
    report_deadline_s: float = knob(
        300.0, ROOM, "report_deadline_s", "Wall time after which a report's process is ended.", gt=0
    )
    stream: bool = knob(
        True,
        ROOM,
        "stream",
        "Whether the Faust stream of live figures runs (a child process); never with kafka_security, which it lacks.",
    )
    console_refresh_s: float = knob(2.0, ROOM, "console_refresh_s", "How often the console refreshes itself.", ge=0.5)
