"""A Faust agent that keeps live rates and rolling latency of topic `predictions`.

It runs as a child process of the room: what it keeps may be lost and is recomputed from what comes next, and neither
its event loop nor its memory is the room's. Each second it writes one line of JSON on standard output, model to
figures. It ends when standard input ends, that is with the room. Started by `adapters/live_child.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import faust
from google.protobuf.message import DecodeError
from millrace.wire.inference.v1.events_pb2 import Prediction

from services.monitor.domain.live import Rolling

GROUP = "monitor.live"
MOST_MODELS = 200


def application(bootstrap: str, folder: Path) -> faust.App:
    """The app: one agent, one timer, no tables (so no changelog topics)."""
    app = faust.App(
        GROUP,
        broker=[f"kafka://{address.strip()}" for address in bootstrap.split(",")],
        store="memory://",
        datadir=str(folder),
        autodiscover=False,
        web_enabled=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="latest",
        value_serializer="raw",
        key_serializer="raw",
        stream_wait_empty=False,
        broker_max_poll_records=2_000,
    )
    models: dict[str, Rolling] = {}
    topic = app.topic("predictions", value_type=bytes, key_type=bytes)

    @app.agent(topic)
    async def live(stream: Any) -> None:
        """Counts; a record that is no prediction is somebody else's dead letter."""
        async for value in stream:
            try:
                prediction = Prediction.FromString(value)
            except DecodeError:
                continue
            if prediction.model not in models and len(models) >= MOST_MODELS:
                models.clear()
            models.setdefault(prediction.model, Rolling()).add(
                time.time(),
                answered=prediction.answered,
                failed=bool(prediction.error),
                latency_us=prediction.latency_us,
            )

    @app.timer(1.0)  # type: ignore[untyped-decorator]  # faust has no types here
    async def report() -> None:
        """One line for the room."""
        now_s = time.time()
        print(json.dumps({name: asdict(rolling.live(now_s)) for name, rolling in models.items()}), flush=True)

    return app


def main() -> None:
    """`python -m services.monitor.entrypoints.stream BOOTSTRAP FOLDER`"""
    bootstrap, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    threading.Thread(target=_end_with_the_room, daemon=True).start()
    faust.Worker(
        application(bootstrap, folder), loglevel="WARNING", logfile=sys.stderr, redirect_stdouts=False, loop=loop
    ).execute_from_commandline()


def _end_with_the_room() -> None:
    """The room holds the other end of standard input: when it goes, however it goes, so do we."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
