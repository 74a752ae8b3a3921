"""The composition root: ports get their adapters here and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from millrace.bus.events import new_id
from millrace.bus.ports import Bus
from millrace.runtime.channels import channel
from millrace.runtime.clock import ClockBook, wall_us
from millrace.runtime.definitions import DefinitionBook
from millrace.runtime.errors import ConfigurationError
from millrace.runtime.forgetting import ForgetBook, Obeyed
from millrace.runtime.room import RoomProcess
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget
from prometheus_client import REGISTRY, CollectorRegistry

from .adapters.artifacts_registry import RegistryArtifacts
from .adapters.features_grpc import GrpcFeatures
from .adapters.log_records import SpooledLog
from .adapters.log_relay import LogRelay
from .adapters.log_spool import Spool
from .adapters.models_onnx import OnnxSessions
from .adapters.plans_folder import FolderPlans
from .adapters.projects_books import BookProjects
from .adapters.spool_forgetting import SpoolForgetting
from .entrypoints import oip, rest, rpc
from .entrypoints.consumer import follower
from .handlers.admission import Admission
from .handlers.infer import Inferrer
from .handlers.loading import Loader
from .handlers.metrics import Metrics
from .handlers.predict import Predictor
from .handlers.releases import Releases
from .handlers.reporting import Reporter
from .handlers.running import Runner
from .handlers.scoring import Scorer
from .handlers.serving import Live, Serving
from .handlers.shadows import Shadows
from .ports import Artifacts, Features
from .settings import Settings

ROOM = "inference"
LAST_RELAY_S = 3.0  # what the spool still holds goes out at the end, if the broker is there; else at the next start


@dataclass(slots=True)
class Neighbours:
    """What lies outside: tests put twins in."""

    bus: Bus
    features: Features
    artifacts: Artifacts
    registry: CollectorRegistry = field(default_factory=lambda: REGISTRY)


class Inference:
    """The parts of the room, joined."""

    def __init__(self, settings: Settings, neighbours: Neighbours) -> None:
        folder = settings.folder(ROOM)
        self.settings = settings
        self.bus = neighbours.bus
        self.replica = settings.replica or kept_name(folder / "replica")
        self.metrics = Metrics(neighbours.registry)
        self.spool = Spool(
            folder / "spool", segment_bytes=settings.spool_segment_bytes, max_bytes=settings.spool_max_bytes
        )
        source = f"{ROOM}/{self.replica}"
        self.forgets = ForgetBook(self.bus, ROOM, self._obey, wall_us, self.replica)
        self.relay = LogRelay(
            self.spool,
            self.bus,
            source=source,
            batch_records=settings.relay_records,
            forgotten=self.forgets.forgotten,
        )
        self.forgetting = SpoolForgetting(self.spool, self.relay, wall_us)
        self.definitions = DefinitionBook(self.bus)
        self.clocks = ClockBook(self.bus, self.definitions)
        self.projects = BookProjects(self.clocks, folder / "projects.json")
        self.definitions.on_change(self.projects.learn)
        self.serving = Serving(self.projects, switched=self._switched)
        self.admission = Admission(settings.concurrent_requests)
        self._pools = {
            name: ThreadPoolExecutor(threads, thread_name_prefix=name)
            for name, threads in (("answers", settings.worker_threads), ("shadows", 1), ("loads", 1))
        }
        self._join_releases(folder, neighbours.artifacts)
        self._join_doors(neighbours.features)

    def _join_releases(self, folder: Path, artifacts: Artifacts) -> None:
        settings = self.settings
        self.reporter = Reporter(
            self.bus,
            self.serving,
            self.metrics,
            replica=self.replica,
            every_s=settings.status_every_s,
            spool=lambda: (self.spool.unpublished_records, self.spool.dropped_records + self.metrics.shadows_dropped),
        )
        sessions = OnnxSessions(intra_threads=settings.intra_threads, inter_threads=settings.inter_threads)
        self.releases = Releases(
            self.serving,
            Loader(artifacts, sessions, self._pools["loads"], inline_max_ms=settings.inline_max_ms),
            artifacts,
            FolderPlans(folder / "plans"),
            changed=self.reporter.changed,
            backoff_max_s=settings.load_backoff_max_s,
        )
        self.follower = follower(self.bus, self.releases)

    def _join_doors(self, features: Features) -> None:
        settings = self.settings
        log = SpooledLog(self.spool, self.relay.wake)
        runner = Runner(self._pools["answers"], inline_max_rows=settings.inline_max_rows)
        # Shadows never run on the event loop, however short they are: answers do not wait for them.
        shadow_runner = Runner(self._pools["shadows"], inline_max_rows=0)
        scorer = Scorer(runner, log, self.metrics)
        self.shadows = Shadows(Scorer(shadow_runner, log, self.metrics), self.metrics, max_jobs=settings.shadow_jobs)
        shared = (scorer, self.shadows, self.metrics, self.admission)
        rows = settings.request_rows
        self.predictor = Predictor(self.serving, features, *shared, request_rows=rows)
        self.inferrer = Inferrer(self.serving, runner, *shared, request_rows=rows)

    async def _obey(self, request: Forget) -> Obeyed:
        return await self.forgetting.obey(request)

    def _switched(self, model: str, live: Live | None) -> None:
        self.metrics.keep_only(model, live)

    async def start(self) -> None:
        """Bring back what the last process left; serving begins with the last good plans."""
        self.spool.open()
        self.projects.restore()
        await self.bus.start()
        await self.releases.restore()

    async def stop(self) -> None:
        """The doors are closed: what is in hand is written, what can be published is."""
        await self.releases.stop()
        await self.shadows.drain()
        if self.forgets.ready and not self.relay.problem:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_RELAY_S):
                    await self.relay.drain()
        self.spool.close()
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        await self.bus.stop()


def build(settings: Settings | None = None) -> RoomProcess:
    """The room on its real neighbours."""
    from millrace.bus.kafka import KafkaBus

    known = settings or Settings()
    for name in ("feature_store", "registry"):
        if not known.address(name):
            raise ConfigurationError(f"MILLRACE_{name.upper()}_ADDRESS is not set: inference asks {name} over gRPC")
    channels = [channel(known.address(name), known) for name in ("feature_store", "registry")]
    artifacts = RegistryArtifacts(
        channels[1],
        known.folder(ROOM) / "artifacts",
        max_bytes=known.artifact_max_bytes,
        deadline_s=known.artifact_deadline_s,
    )
    bus = KafkaBus.of_room(ROOM, known)
    room = assemble(known, Neighbours(bus, GrpcFeatures(channels[0]), artifacts))

    async def close_channels() -> None:
        for each in channels:
            await each.close(None)

    room.on_stop(close_channels)
    return room


def assemble(settings: Settings, neighbours: Neighbours) -> RoomProcess:
    """The room on the given neighbours."""
    parts = Inference(settings, neighbours)
    room = RoomProcess(ROOM, settings)
    room.on_start(parts.start)
    room.on_stop(parts.stop)
    room.add_task("definitions", parts.definitions.run)
    room.add_task("clocks", parts.clocks.run)
    room.add_task("releases", parts.follower.run)
    room.add_task("forgetting", parts.forgets.run)
    room.add_task("obeying", parts.forgets.obey_all)
    room.status.problem("forgetting", lambda: parts.forgets.problem, degrades_only=True)
    room.add_task("relay", parts.forgets.after(parts.relay.run))
    room.add_task("shadows", parts.shadows.run)
    room.add_task("status", lambda: parts.reporter.run(parts.releases))
    open_doors(room, parts)
    show(room, parts)
    return room


def open_doors(room: RoomProcess, parts: Inference) -> None:
    """gRPC by key and by tensor, HTTP by tensor."""
    settings = parts.settings
    deadline_for = rpc.deadlines(settings.default_deadline_ms, settings.max_deadline_ms)
    service = rpc.InferenceService(parts.predictor, deadline_for, stream_window=settings.stream_window)
    room.add_grpc(rpc.register(service))

    def is_ready() -> bool:
        return room.status.reasons()[0]

    tensors = oip.OpenInference(parts.serving, parts.releases, parts.inferrer, deadline_for, is_ready)
    room.add_grpc(oip.register(tensors))
    room.http.include_router(rest.router(parts.serving, parts.inferrer, deadline_for, is_ready))


def show(room: RoomProcess, parts: Inference) -> None:
    """What the room says about itself."""
    board, releases = room.status, parts.releases
    for source in (parts.follower, parts.definitions, parts.clocks):
        board.consumes(source)
    board.handled(lambda: releases.applied_plans + parts.relay.published_records)
    board.dead_letters(lambda: parts.follower.rejected_records)
    board.unpublished(lambda: parts.spool.unpublished_records + parts.reporter.unpublished)
    board.busy(lambda: releases.busy + parts.shadows.busy + parts.admission.in_hand)
    board.definitions(parts.projects.versions)
    board.problem("models", lambda: _nothing_to_serve(parts))
    for name, reason in (
        ("plans", lambda: releases.problem),
        ("releases", lambda: parts.follower.problem or _waiting(parts.follower.state)),
        ("definitions", lambda: parts.definitions.problem),
        ("predictions", lambda: parts.spool.problem or parts.relay.problem),
        ("dropped", lambda: _dropped(parts)),
    ):
        board.problem(name, reason, degrades_only=True)
    parts.metrics.gauge("spool_records", "Log records not yet published", lambda: parts.spool.unpublished_records)
    parts.metrics.gauge("spool_bytes", "Size of the log spool", lambda: parts.spool.size_bytes)
    parts.metrics.gauge("dropped_records", "Log records dropped", lambda: parts.spool.dropped_records)
    parts.metrics.gauge("requests_in_hand", "Requests being answered", lambda: parts.admission.in_hand)


def kept_name(file: Path) -> str:
    """The replica's name, made once."""
    if not file.exists():
        file.write_text(f"inference-{new_id()[-8:]}", encoding="utf-8")
    return file.read_text(encoding="utf-8").strip()


def _nothing_to_serve(parts: Inference) -> str:
    if parts.serving.models or parts.follower.ready:
        return ""
    return "no serving plan is kept here and the topic was not read yet"


def _waiting(state: str) -> str:
    return state if state.startswith("retrying") else ""


def _dropped(parts: Inference) -> str:
    counts = {"log records": parts.spool.dropped_records, "shadow jobs": parts.metrics.shadows_dropped}
    return ", ".join(f"{count} {name} were dropped" for name, count in counts.items() if count)
