"""Replays a project's recorded events through a running platform and asks for predictions as their moments come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from millrace.client.addresses import Addresses
from millrace.client.calls import call_with_retries
from millrace.client.errors import CallFailed
from millrace.client.moments import Due, Moments
from millrace.client.predictor import Predictor, item
from millrace.client.quiet import Quiet
from millrace.client.replay import Pace, Progress, Replay, ReplayEvent
from millrace.definitions.model import Project
from millrace.runtime.channels import open_channel
from millrace.wire.registry.v1 import service_pb2, service_pb2_grpc

SLICE_US = 30 * 60_000_000
BARRIER_US = 6 * 3_600_000_000
_PLAN_S = 60.0  # a registry that restarts comes back in seconds
Hook = Callable[[int], Awaitable[bool]]


@dataclass(slots=True)
class Outcome:
    """What a playback did. Latencies are those of whole requests of up to `Moments.items_per_request` examples;
    `retried` counts attempts of such requests that failed and were made again."""

    progress: Progress
    asked: int = 0
    skipped: int = 0  # moments of this playback that passed before the first release
    failures: list[str] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    retried: int = 0


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the caller wants to hear: `on_progress` after each slice, `at_rest` at each barrier with the clock held.

    `at_rest` answers whether it gave the platform anything to do; the clock then waits until that is done too.
    """

    on_progress: Callable[[Progress], None] | None = None
    at_rest: Hook | None = None


class Playback:
    """One replay of `events` with a prediction for every example from the first release on, or from the start where a
    release is there already. Moments at or before the start are an earlier playback's.

    `free_running` leaves the barriers out: faster, but what is released when then depends on the machine's speed.
    `outcome` is there once it ran, also when `run` raised: then it says what was done until then.
    """

    outcome: Outcome | None = None

    def __init__(
        self,
        addresses: Addresses,
        project: Project,
        events: Iterable[ReplayEvent],
        *,
        pace: Pace = Pace(SLICE_US, BARRIER_US),
        hooks: Hooks = Hooks(),
        free_running: bool = False,
        token: str = "",
    ) -> None:
        self._addresses = addresses
        self._project = project
        self._events = events
        self._pace = pace
        self._hooks = hooks
        self._free_running = free_running
        self._token = token
        self._serving = False
        self._skipped = 0

    async def run(self, start_us: int, end_us: int) -> Outcome:
        """Replays (start, end]; both on slice boundaries. Raises ClientError."""
        predictor = Predictor(self._addresses.grpc("inference"), self._project.name, token=self._token)
        moments = Moments(self._project, _asking(predictor), after_us=start_us)
        self.outcome = outcome = Outcome(Progress(start_us), failures=moments.failures, latencies_s=moments.latencies_s)
        try:
            async with predictor:
                outcome.progress = await self._replay(moments, outcome, start_us, end_us)
        finally:
            outcome.asked, outcome.skipped, outcome.retried = moments.asked, self._skipped, predictor.retried
        return outcome

    async def _replay(self, moments: Moments, outcome: Outcome, start_us: int, end_us: int) -> Progress:
        def progressed(progress: Progress) -> None:
            outcome.progress = progress
            if self._hooks.on_progress is not None:
                self._hooks.on_progress(progress)

        async with Quiet(self._addresses, self._project.name, token=self._token) as quiet:
            replay = Replay(
                self._addresses.grpc("ingestion"),
                self._project.name,
                self._noted(moments),
                self._pace,
                on_slice=lambda now_us: self._ask(moments, now_us),
                wait_quiet=lambda now_us: self._rest(quiet, now_us),
                next_moment=lambda after_us: moments.next_us(),
                on_progress=progressed,
                token=self._token,
            )
            self._serving = await self._has_a_release()
            return await replay.run(start_us, end_us)

    def _noted(self, moments: Moments) -> Iterator[ReplayEvent]:
        for event in self._events:
            moments.see(event.source, event.json, event.available_us)
            yield event

    async def _ask(self, moments: Moments, now_us: int) -> None:
        if self._serving:
            await moments.ask_due(now_us)
        else:
            self._skipped += moments.forget(now_us)

    async def _rest(self, quiet: Quiet, now_us: int) -> None:
        if not self._free_running:
            await quiet.wait(now_us)
        acted = self._hooks.at_rest is not None and await self._hooks.at_rest(now_us)
        if acted and not self._free_running:
            await quiet.wait(now_us)
        self._serving = self._serving or await self._has_a_release()

    async def _has_a_release(self) -> bool:
        async with open_channel(self._addresses.grpc("registry"), token=self._token) as channel:
            stub: Any = service_pb2_grpc.RegistryStub(channel)
            request = service_pb2.GetPlanRequest(project=self._project.name, model=self._project.model.name)
            try:
                plan = await call_with_retries(
                    "read the serving plan", lambda remaining_s: stub.GetPlan(request, timeout=remaining_s), _PLAN_S
                )
            except CallFailed as error:
                if error.code == "NOT_FOUND":
                    return False
                raise
            return bool(plan.variants)


def _asking(predictor: Predictor) -> Callable[[Sequence[Due]], Awaitable[list[str]]]:
    async def ask(due: Sequence[Due]) -> list[str]:
        try:
            reply = await predictor.ask([item(entity, moment_us) for moment_us, entity in due])
        except CallFailed as error:
            return [str(error)] * len(due)
        return [answer.error for answer in reply.answers]

    return ask
