"""Quix Streams: events of a topic into one tumbling window that counts per key. Stands alone.

Argument: {"kafka", "topic", "group", "events"}. Time runs from the first event to the last one; the commit is left out.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from quixstreams import Application

WINDOW, GRACE = timedelta(minutes=10), timedelta(hours=1)


class Seen:
    """When the first and the last event were handled."""

    def __init__(self, wanted: int, stop: Callable[[], None]) -> None:
        self._wanted, self._stop = wanted, stop
        self.events, self.first_s, self.last_s, self.cpu_s = 0, 0.0, 0.0, 0.0

    def timestamp_ms(self, value: Any, headers: Any, timestamp: float, kind: Any) -> int:
        """The event time, as Quix asks for it once per event."""
        self.last_s = time.perf_counter()
        if not self.events:
            self.first_s, self.cpu_s = self.last_s, time.process_time()
        self.events += 1
        if self.events == self._wanted:
            self._stop()  # `run(count=…)` counts what comes out, and a final window comes out when it is over
        return int(value.get("at", 0)) // 1000


def end_with_the_bench() -> None:
    """The bench holds the other end of standard input: when it goes, however it goes, so do we."""
    sys.stdin.buffer.read()
    os._exit(1)


def main() -> None:
    """One run."""
    threading.Thread(target=end_with_the_bench, daemon=True).start()
    asked = json.loads(sys.argv[1])
    app = Application(
        broker_address=asked["kafka"],
        consumer_group=asked["group"],
        auto_offset_reset="earliest",
        state_dir=str(Path.cwd() / asked["group"]),
        loglevel="WARNING",
    )
    seen = Seen(asked["events"], app.stop)
    topic = app.topic(
        asked["topic"], key_deserializer="str", value_deserializer="json", timestamp_extractor=seen.timestamp_ms
    )
    app.dataframe(topic).tumbling_window(WINDOW, grace_ms=GRACE).count().final()
    app.run(timeout=asked["deadline_s"])
    cpu_s = time.process_time() - seen.cpu_s
    print(json.dumps({"events": seen.events, "wall_s": seen.last_s - seen.first_s, "cpu_s": cpu_s}), flush=True)


if __name__ == "__main__":
    main()
