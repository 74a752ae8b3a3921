"""The story of the demo: what is done to the platform, and when. What it makes of it is seen on the topics."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from millrace.bus.kafka import KafkaBus
from millrace.client.playback import Hooks, Outcome, Playback
from millrace.client.predictor import Predictor
from millrace.client.quiet import Quiet
from millrace.client.replay import Pace, Progress
from millrace.definitions import load_text
from millrace.definitions.model import Project
from millrace.wire.trainer.v1 import events_pb2 as trainer

from examples.flights.demo.faults import delays_in_seconds, inverted
from examples.flights.demo.platform import Platform
from examples.flights.demo.witness import Bulk, Seen, Witness, read_bulk
from examples.flights.events import DAY_US, MINUTE_US, events

PROJECT_FILE = Path(__file__).resolve().parent.parent / "project.yaml"
PACE = Pace(slice_us=30 * MINUTE_US, barrier_us=DAY_US)
BAD_RELEASE_AFTER = 0.42  # share of the replayed time; by then a champion serves and has a predecessor or none
FAULT_AFTER = 0.62
FAULT_LASTS_US = DAY_US
SINGLE_REQUESTS = 400


@dataclass(slots=True)
class Happened:
    """What the story knows of itself, beside what was seen on the topics."""

    outcome: Outcome | None = None
    bulk: Bulk = field(default_factory=Bulk)
    faults: list[dict[str, object]] = field(default_factory=list)
    bad_version: int = 0
    bad_release_wall_s: float = 0.0
    rollback_wall_s: float = 0.0
    single_latencies_s: list[float] = field(default_factory=list)
    durations_s: dict[str, float] = field(default_factory=dict)


class Story:
    """Starts the platform, applies the project, replays the months with two faults, and reads what was seen."""

    def __init__(
        self,
        platform: Platform,
        months: tuple[int, ...],
        tell: Callable[[str], None],
        progress: Callable[[Progress], None],
    ) -> None:
        self.platform = platform
        self.project: Project = load_text(PROJECT_FILE.read_text(), str(PROJECT_FILE))
        self.happened = Happened()
        self._tell = tell
        self._progress = progress
        self._champion = 0
        recorded = events(months)
        self.start_us = (recorded[0].available_us - 1) // PACE.slice_us * PACE.slice_us
        self.end_us = -(-recorded[-1].available_us // PACE.slice_us) * PACE.slice_us
        self._bad_release_us = self._at(BAD_RELEASE_AFTER)
        fault_us = self._at(FAULT_AFTER)
        scheduled = [event for event in recorded if event.source == self.project.predict.source]
        self._last_entities = [json.loads(event.json)["flight_id"] for event in scheduled[-SINGLE_REQUESTS:]]
        self._events = delays_in_seconds(recorded, fault_us, fault_us + FAULT_LASTS_US)
        self.happened.faults.append({"clock_us": fault_us, "label": "delays in seconds"})

    async def run(self, witness_of: Callable[[KafkaBus, Callable[[Seen], None]], Witness]) -> Witness:
        """The whole story; the platform runs when this is called and still runs when it returns."""
        with self._timed("apply"):
            await self.platform.command("apply", str(PROJECT_FILE))
        bus = KafkaBus(self.platform.part("kafka"), "millrace-demo")
        witness = witness_of(bus, self._hear)
        following = asyncio.create_task(witness.follow())
        try:
            with self._timed("replay"):
                self.happened.outcome = await self._replay()
            if self._champion:
                with self._timed("single requests"):
                    await self._ask_alone()
            with self._timed("read topics"):
                sources = [f"data.{self.project.name}.{source.name}" for source in self.project.sources]
                self.happened.bulk = await read_bulk(bus, sources)
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
            await bus.stop()
        return witness

    async def _replay(self) -> Outcome:
        playback = Playback(
            self.platform.addresses,
            self.project,
            self._events,
            pace=PACE,
            hooks=Hooks(on_progress=self._progress, at_rest=self._intervene),
        )
        return await playback.run(self.start_us, self.end_us)

    async def _ask_alone(self) -> None:
        """One flight per request, one request at a time: the latency that an application sees on a quiet platform."""
        addresses = self.platform.addresses
        outcome = self.happened.outcome
        assert outcome is not None
        async with Predictor(addresses.grpc("inference"), self.project.name, channels=1) as predictor:
            for entity in self._last_entities:
                started = time.perf_counter()
                answer = await predictor.predict(entity, moment_us=self.end_us)
                self.happened.single_latencies_s.append(time.perf_counter() - started)
                if answer.error:
                    outcome.failures.append(f"{entity}: {answer.error}")
        async with Quiet(addresses, self.project.name) as quiet:
            await quiet.wait(self.end_us)

    async def _intervene(self, now_us: int) -> bool:
        """With the clock held: at its time, and once a champion serves, the bad release is pushed by force."""
        if self.happened.bad_version or now_us < self._bad_release_us or not self._champion:
            return False
        champion = await self.platform.version(self.project.name, self.project.model.name, self._champion)
        path = self.platform.home / "bad.onnx"
        path.write_bytes(inverted(await self.platform.artifact(champion.model_digest)))
        self.happened.bad_version = -1
        self.happened.bad_release_wall_s = time.monotonic()
        self._tell("[magenta]fault[/]    a model that answers 1 - p is pushed by force")
        self.happened.faults.append({"clock_us": now_us, "label": "bad release"})
        await self.platform.command(
            "models",
            "push",
            self.project.name,
            str(path),
            "--force",
            "--reason",
            "demo: wrong on purpose",
            "--actor",
            "demo",
        )
        return True

    def _hear(self, seen: Seen) -> None:
        payload = seen.payload
        if seen.topic == "models.releases":
            self._champion = next((v.version for v in payload.variants if v.role == 1), 0)
        if seen.topic == "models.events":
            if payload.kind == "forced":
                self.happened.bad_version = payload.version
            if payload.kind == "rolled_back" and payload.version == self.happened.bad_version:
                self.happened.rollback_wall_s = time.monotonic()
        if line := narrate(seen):
            self._tell(line)

    def _at(self, share: float) -> int:
        return int(self.start_us + share * (self.end_us - self.start_us)) // PACE.barrier_us * PACE.barrier_us

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.happened.durations_s[name] = round(time.monotonic() - started, 2)


def narrate(seen: Seen) -> str:
    """One line for a person about an event worth a line; empty otherwise."""
    payload = seen.payload
    if seen.topic == "models.events" and payload.kind in {"released", "promoted", "advanced", "rejected", "forced"}:
        return f"[green]{payload.kind:<9}[/] version {payload.version}: {payload.reason}"
    if seen.topic == "models.events" and payload.kind == "rolled_back":
        return f"[bold red]rollback[/]  version {payload.version} → {payload.other_version}: {payload.reason}"
    if seen.topic == "monitor.alerts" and payload.state == "firing":
        return f"[yellow]alert[/]     {payload.rule} on {payload.subject}: {payload.reason}"
    if seen.topic == "training.runs" and payload.state >= trainer.RunEvent.FAILED:
        state = trainer.RunEvent.State.Name(payload.state).lower()
        return f"[blue]{state:<9}[/] run {payload.run_id[:8]}: {payload.reason}"
    return ""
