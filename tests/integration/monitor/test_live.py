"""The Faust child: counts what comes, falls and rises, and does not outlive the room."""

import asyncio
import os
import time
import uuid
from pathlib import Path

import pytest
from millrace.bus.events import Event, Message
from millrace.bus.kafka import KafkaBus
from millrace.bus.topics import load_topics
from millrace.wire.inference.v1.events_pb2 import Prediction

from services.monitor.adapters.live_child import LiveStream
from tests.support.poll import until

pytestmark = pytest.mark.stack


def predictions(model, count):
    for _ in range(count):
        body = Prediction(model=model, answered=True, latency_us=2_000)
        event = Event(str(uuid.uuid4()), "millrace.inference.prediction.answered.v1", "test", body.SerializeToString())
        yield Message("predictions", event, key=model.encode())


async def test_it_counts_survives_a_kill_and_ends_quickly(stack, tmp_path):
    bus = KafkaBus(stack.kafka, client_id="test-live")
    await bus.start()
    await bus.ensure_topics(load_topics().static())
    stream = LiveStream(stack.kafka, tmp_path)
    running = asyncio.create_task(stream.run())
    model = f"m{uuid.uuid4().hex[:6]}"
    try:

        async def counted():
            await bus.publish(list(predictions(model, 50)))
            live = stream.live().get(model)
            return live is not None and live.answered_per_s > 0 and 1.5 < live.p50_ms < 3 and live.failed_per_s == 0

        await until(counted, 60)
        (child,) = [pid for pid in _children() if "entrypoints.stream" in _command(pid)]
        os.kill(child, 9)
        await until(lambda: stream.restarts == 1, 10)
        await until(lambda: any("entrypoints.stream" in _command(pid) for pid in _children()), 20)
    finally:
        began = time.monotonic()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await bus.stop()
    assert time.monotonic() - began < 5
    assert not [pid for pid in _children() if "entrypoints.stream" in _command(pid)]


def _children():
    """Pids of this process's children."""
    numbers = [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [int(pid) for pid in numbers if _read(pid, "stat").rpartition(")")[2].split()[1:2] == [str(os.getpid())]]


def _command(pid):
    return _read(pid, "cmdline")


def _read(pid, name):
    try:
        return (Path("/proc") / str(pid) / name).read_text()
    except OSError:
        return ""  # it ended meanwhile
