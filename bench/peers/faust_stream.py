"""Faust: events of a topic through an agent alone, or into a windowed table that counts per key. Stands alone.

Argument: {"kafka", "topic", "group", "events", "partitions", "windowed"}. Time runs from the first event to the last.
"""

import json
import os
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import faust

WINDOW, KEPT = timedelta(minutes=10), timedelta(hours=24)


class Counting:
    """Counts to the end, says what it took, and ends the process: nothing of it is used again."""

    def __init__(self, events: int) -> None:
        self._wanted, self.events, self._first_s, self._cpu_s = events, 0, 0.0, 0.0

    def seen(self) -> None:
        """One more event was handled."""
        if not self.events:
            self._first_s, self._cpu_s = time.perf_counter(), time.process_time()
        self.events += 1
        if self.events == self._wanted:
            taken = {"wall_s": time.perf_counter() - self._first_s, "cpu_s": time.process_time() - self._cpu_s}
            print(json.dumps({"events": self.events} | taken), flush=True)
            os._exit(0)


def application(asked: Any) -> faust.App:
    """The app with its one agent."""
    app = faust.App(
        asked["group"],
        broker=f"kafka://{asked['kafka']}",
        store="memory://",
        datadir=str(Path.cwd() / asked["group"]),
        autodiscover=False,
        web_enabled=False,
        topic_disable_leader=True,
        topic_partitions=asked["partitions"],
        topic_replication_factor=1,
        consumer_auto_offset_reset="earliest",
        broker_max_poll_records=2_000,
    )
    topic = app.topic(asked["topic"], key_type=bytes, key_serializer="raw", value_serializer="json")
    counting = Counting(asked["events"])
    if not asked["windowed"]:

        @app.agent(topic)
        async def pass_on(stream: Any) -> None:
            async for _ in stream:
                counting.seen()

        return app
    counts = app.Table("counts", default=int, partitions=asked["partitions"]).tumbling(WINDOW, expires=KEPT)

    @app.agent(topic)
    async def count(stream: Any) -> None:
        async for value in stream:
            counts[value.get("sensor", "")] += 1
            counting.seen()

    return app


def end_with_the_bench() -> None:
    """The bench holds the other end of standard input: when it goes, however it goes, so do we."""
    sys.stdin.buffer.read()
    os._exit(1)


def main() -> None:
    """One run."""
    threading.Thread(target=end_with_the_bench, daemon=True).start()
    faust.Worker(
        application(json.loads(sys.argv[1])), loglevel="WARNING", logfile=sys.stderr, redirect_stdouts=False
    ).execute_from_commandline()


if __name__ == "__main__":
    main()
