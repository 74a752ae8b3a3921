"""The story of the demo: what is done to the platform, and when. What it makes of it is seen on the topics."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from millrace.bus.ports import Bus
from millrace.client.errors import CallFailed
from millrace.client.playback import Hooks, Outcome, Playback
from millrace.client.predictor import Predictor
from millrace.client.quiet import Quiet
from millrace.client.replay import Pace, Progress, ReplayEvent
from millrace.definitions import load_text
from millrace.definitions.model import Project
from millrace.wire.registry.v1 import events_pb2 as registry
from millrace.wire.trainer.v1 import events_pb2 as trainer
from rich.markup import escape

from examples.flights.demo.bars import Bars, Step
from examples.flights.demo.faults import BAD_RELEASE, DELAYS_IN_SECONDS, Fault, delays_in_seconds, inverted
from examples.flights.demo.pictures import day
from examples.flights.demo.platform import Platform
from examples.flights.demo.trouble import Trouble
from examples.flights.demo.witness import Bulk, Seen, Witness, read_bulk
from examples.flights.events import DAY_US, MINUTE_US

PROJECT_FILE = Path(__file__).resolve().parent.parent / "project.yaml"
PACE = Pace(slice_us=30 * MINUTE_US, barrier_us=DAY_US)
BAD_RELEASE_AFTER = 0.42  # share of the replayed time; by then a champion serves and has a predecessor or none
FAULT_AFTER = 0.62
FAULT_LASTS_US = DAY_US
SINGLE_REQUESTS = 400


@dataclass(slots=True)
class Happened:
    """What the story knows of itself, beside what was seen on the topics. `*_wall_s` are of the monotonic clock."""

    outcome: Outcome | None = None  # None: the replay did not begin
    bulk: Bulk = field(default_factory=Bulk)
    faults: list[Fault] = field(default_factory=list)
    bad_version: int = 0  # 0: no forced release was heard of
    bad_release_wall_s: float = 0.0  # when the registry's event of the forced release was heard
    rollback_wall_s: float = 0.0  # when the registry's event of its rollback was heard
    single_latencies_s: list[float] = field(default_factory=list)
    durations_s: dict[str, float] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)  # what ended a step early


class Story:
    """Applies the project to a running platform, replays `recorded` with two faults, and reads what was seen."""

    def __init__(self, platform: Platform, recorded: Sequence[ReplayEvent], bars: Bars) -> None:
        self.platform = platform
        self.project: Project = load_text(PROJECT_FILE.read_text(), str(PROJECT_FILE))
        self.happened = Happened()
        self._bars = bars
        self._champion: registry.Variant | None = None
        self._pushed = False
        self.start_us = (recorded[0].available_us - 1) // PACE.slice_us * PACE.slice_us
        self.end_us = -(-recorded[-1].available_us // PACE.slice_us) * PACE.slice_us
        self._bad_release_us = self._at(BAD_RELEASE_AFTER)
        fault_us = self._at(FAULT_AFTER)
        scheduled = [event for event in recorded if event.source == self.project.predict.source]
        self._last_entities = [json.loads(event.json)["flight_id"] for event in scheduled[-SINGLE_REQUESTS:]]
        self._events = delays_in_seconds(recorded, fault_us, fault_us + FAULT_LASTS_US)
        felt_us = max(w for view in self.project.views if view.source == "departures" for w in view.windows_us)
        self.happened.faults.append(Fault(DELAYS_IN_SECONDS, fault_us, fault_us + FAULT_LASTS_US + felt_us))

    async def run(self, bus: Bus) -> Witness:
        """The whole story; the platform runs when this is called and still runs when it returns.

        What ends a step early is in `happened.troubles` then, and what was seen until then is read all the same.
        """
        witness = Witness(bus, self.project.name, self._hear)
        following = asyncio.create_task(witness.follow())
        try:
            is_applied = await self._step("apply", "applying the project", self._apply)
            if is_applied and await self._step("replay", "replaying", self._replay) and self._champion:
                await self._step("single requests", "asking for one flight at a time", self._ask_alone)
            # The topics of a project that was not applied do not exist.
            sources = [f"data.{self.project.name}.{source.name}" for source in self.project.sources if is_applied]
            await self._step("read topics", "reading the topics", lambda step: self._read(bus, sources, step))
        finally:
            following.cancel()
            for ended in await asyncio.gather(following, return_exceptions=True):
                if isinstance(ended, Exception):
                    self._note("following the topics", ended)
        return witness

    async def _step(self, name: str, what: str, work: Callable[[Step], Awaitable[None]]) -> bool:
        """Whether `work` came to its end; what ended it otherwise is noted and said."""
        started = time.monotonic()
        try:
            with self._bars.phase(what) as step:
                await work(step)
        except Exception as error:
            self._note(name, error)
            return False
        finally:
            self.happened.durations_s[name] = round(time.monotonic() - started, 2)
        return True

    def _note(self, during: str, error: Exception) -> None:
        trouble = Trouble.of(during, error)
        self.happened.troubles.append(trouble)
        self._bars.tell(f"[bold red]failed[/]    {escape(f'{during}: {trouble.reason}')}")

    async def _apply(self, step: Step) -> None:
        await self.platform.command("apply", str(PROJECT_FILE))

    async def _read(self, bus: Bus, sources: list[str], step: Step) -> None:
        self.happened.bulk = Bulk()
        await read_bulk(bus, sources, self.happened.bulk, step.at)

    async def _replay(self, step: Step) -> None:
        def progressed(progress: Progress) -> None:
            done_us = progress.now_us - self.start_us
            detail = f"{day(progress.now_us):%d %b %H:%M}, {progress.events:,} events"
            step.at(done_us, self.end_us - self.start_us, detail)

        playback = Playback(
            self.platform.addresses,
            self.project,
            self._events,
            pace=PACE,
            hooks=Hooks(on_progress=progressed, at_rest=self._intervene),
        )
        try:
            await playback.run(self.start_us, self.end_us)
        finally:
            self.happened.outcome = playback.outcome

    async def _ask_alone(self, step: Step) -> None:
        """One flight per request, one request at a time: the latency that an application sees on a quiet platform."""
        addresses = self.platform.addresses
        outcome = self.happened.outcome
        assert outcome is not None
        async with Predictor(addresses.grpc("inference"), self.project.name, channels=1) as predictor:
            for done, entity in enumerate(self._last_entities, start=1):
                started = time.perf_counter()
                if failure := await self._failure_of(predictor, entity):
                    outcome.failures.append(f"{entity}: {failure}")
                self.happened.single_latencies_s.append(time.perf_counter() - started)
                step.at(done, len(self._last_entities))
            outcome.retried += predictor.retried
        async with Quiet(addresses, self.project.name) as quiet:
            await quiet.wait(self.end_us)

    async def _failure_of(self, predictor: Predictor, entity: str) -> str:
        """Asks for one flight; why there was no answer, or an empty text."""
        try:
            return (await predictor.predict(entity, moment_us=self.end_us)).error
        except CallFailed as error:
            return str(error)

    async def _intervene(self, now_us: int) -> bool:
        """With the clock held: at its time, and once a champion serves, the bad release is pushed by force."""
        if self._pushed or now_us < self._bad_release_us or self._champion is None:
            return False
        path = self.platform.home / "bad.onnx"
        path.write_bytes(inverted(await self.platform.artifact(self._champion.model_digest)))
        self._pushed = True
        self._bars.tell("[magenta]fault[/]    a model that answers 1 - p is pushed by force")
        self.happened.faults.append(Fault(BAD_RELEASE, now_us))
        command = ("models", "push", self.project.name, str(path), "--force")
        await self.platform.command(*command, "--reason", "demo: wrong on purpose", "--actor", "demo")
        return True

    def _hear(self, seen: Seen) -> None:
        payload = seen.payload
        if seen.topic == "models.releases":
            self._champion = champion_of(payload)
        if seen.topic == "models.events":
            if payload.kind == "forced":
                self.happened.bad_version = payload.version
                self.happened.bad_release_wall_s = time.monotonic()
            if payload.kind == "rolled_back" and payload.version == self.happened.bad_version:
                self.happened.rollback_wall_s = time.monotonic()
                self.happened.faults = [ended_at(fault, payload.clock_us) for fault in self.happened.faults]
        if line := narrate(seen):
            self._bars.tell(line)

    def _at(self, share: float) -> int:
        return int(self.start_us + share * (self.end_us - self.start_us)) // PACE.barrier_us * PACE.barrier_us


def champion_of(plan: registry.ServingPlan) -> registry.Variant | None:
    """The variant that answers by default; None where a plan has none."""
    return next((variant for variant in plan.variants if variant.role == registry.Variant.CHAMPION), None)


def ended_at(fault: Fault, clock_us: int) -> Fault:
    """The bad release ends with its rollback; any other fault stays as it is."""
    return replace(fault, until_us=clock_us) if fault.label == BAD_RELEASE else fault


def narrate(seen: Seen) -> str:
    """One line for a person about an event worth a line; empty otherwise."""
    payload = seen.payload
    if seen.topic == "models.events" and payload.kind in {"released", "promoted", "advanced", "rejected", "forced"}:
        return f"[green]{payload.kind:<9}[/] version {payload.version}: {escape(payload.reason)}"
    if seen.topic == "models.events" and payload.kind == "rolled_back":
        return f"[bold red]rollback[/]  version {payload.version} → {payload.other_version}: {escape(payload.reason)}"
    if seen.topic == "monitor.alerts" and payload.state == "firing":
        return f"[yellow]alert[/]     {payload.rule} on {payload.subject}: {escape(payload.reason)}"
    if seen.topic == "training.runs" and payload.state >= trainer.RunEvent.FAILED:
        state = trainer.RunEvent.State.Name(payload.state).lower()
        return f"[blue]{state:<9}[/] run {payload.run_id[:8]}: {escape(payload.reason)}"
    return ""
