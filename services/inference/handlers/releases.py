"""Applying serving plans: load beside the old one, then switch in one assignment; a plan that fails changes nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from millrace.runtime.errors import Policy, RoomError

from services.inference.domain.plan import Plan, PlanError
from services.inference.ports import Artifacts, Plans

from .loading import Loader
from .serving import Loaded, Serving, live_of

log = logging.getLogger(__name__)
FIRST_BACKOFF_S = 0.2
RESTORE_S = (
    10.0  # doors open without the rest after this: a registry that hangs must not hold up the models that are here
)
LOADING, READY, FAILED = "loading", "ready", "failed"


@dataclass(frozen=True, slots=True)
class VariantState:
    """What serving.status says of one version."""

    version: int
    state: str
    reason: str = ""


@dataclass(slots=True)
class ModelState:
    """Progress with the newest plan of one model; `problem` is empty when all of it serves."""

    plan: Plan
    variants: dict[int, VariantState] = field(default_factory=dict)
    problem: str = ""


@dataclass(slots=True)
class _Pending:
    plan: Plan
    replaced: asyncio.Event = field(default_factory=asyncio.Event)


class Releases:
    """Takes plans as they come, keeps at most the newest per model waiting, and works on each model in its own task."""

    def __init__(
        self,
        serving: Serving,
        loader: Loader,
        artifacts: Artifacts,
        plans: Plans,
        *,
        changed: Callable[[], None],
        backoff_max_s: float,
    ) -> None:
        self._serving = serving
        self._loader = loader
        self._artifacts = artifacts
        self._plans = plans
        self._changed = changed
        self._backoff_max_s = backoff_max_s
        self._pending: dict[str, _Pending] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.states: dict[str, ModelState] = {}
        self.handled_records = 0
        self.applied_plans = 0

    @property
    def busy(self) -> int:
        """Plans that are not settled."""
        return len(self._pending)

    @property
    def problem(self) -> str:
        """Which models do not serve their newest plan, and why."""
        return "; ".join(f"{model}: {state.problem}" for model, state in self.states.items() if state.problem)

    async def restore(self) -> None:
        """Bring back the last good plans; returns when each was tried once, or after a while.

        What is all here is served then; what waits for the registry goes on in the background.
        """
        firsts: dict[str, asyncio.Task[bool]] = {}
        for plan in await asyncio.to_thread(self._plans.load):
            if plan.variants and self._accept(plan):
                firsts[plan.model] = asyncio.create_task(self._try(plan))
        if firsts:
            await asyncio.wait(firsts.values(), timeout=RESTORE_S)
        for model, first in firsts.items():
            self._start(model, first)

    async def accept(self, plan: Plan) -> None:
        """Take a plan from the topic; one that is not newer is ignored."""
        self.handled_records += 1
        if self._accept(plan):
            self._start(plan.model)

    async def settle(self) -> None:
        """Returns when no plan is being worked on."""
        while working := [task for task in self._tasks.values() if not task.done()]:
            await asyncio.wait(working)

    async def stop(self) -> None:
        """Give up what is being loaded; it is in the topic and comes again."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, plan: Plan) -> bool:
        known = self.states.get(plan.model)
        if known is not None and plan.epoch <= known.plan.epoch:
            return False
        former = self._pending.get(plan.model)
        self._pending[plan.model] = _Pending(plan)
        if plan.model not in self._serving.models and plan.variants:
            self._serving.waiting[plan.model] = plan
        self.states[plan.model] = ModelState(plan, {v.version: VariantState(v.version, LOADING) for v in plan.variants})
        self._changed()
        if former is not None:
            former.replaced.set()
        return True

    def _start(self, model: str, first: asyncio.Task[bool] | None = None) -> None:
        running = self._tasks.get(model)
        if running is None or running.done():
            self._tasks[model] = asyncio.create_task(self._work(model, first), name=f"release of {model}")

    async def _work(self, model: str, first: asyncio.Task[bool] | None) -> None:
        """Until the newest plan is served whole, or can never be; `first` is an attempt that is under way already."""
        backoff_s = FIRST_BACKOFF_S
        while (pending := self._pending.get(model)) is not None:
            again = await (first or self._try(pending.plan))
            first = None
            if not again:
                self._forget(model, pending)
                continue
            try:
                async with asyncio.timeout(backoff_s):
                    await pending.replaced.wait()
                backoff_s = FIRST_BACKOFF_S
            except TimeoutError:
                backoff_s = min(backoff_s * 2, self._backoff_max_s)

    def _forget(self, model: str, pending: _Pending) -> None:
        if self._pending.get(model) is pending:
            del self._pending[model]
            self._changed()

    async def _try(self, plan: Plan) -> bool:
        """One attempt; True when another may do more. A fault of ours fails the plan, not the room."""
        try:
            return await self._attempt(plan)
        except Exception as error:
            log.exception("plan of %s could not be applied", plan.model)
            self._fail(plan, f"{type(error).__name__}: {error}")
            return False

    async def _attempt(self, plan: Plan) -> bool:
        """Load what is missing, switch if every answering variant is ready; True when another attempt may do more."""
        try:
            plan.check()
        except PlanError as error:
            self._fail(plan, str(error))
            return False
        state = self.states[plan.model]
        loaded: dict[int, Loaded] = {}
        failures: dict[int, RoomError] = {}
        for variant in plan.variants:
            try:
                loaded[variant.version] = await self._loader.load(plan, variant, self._serving.models.get(plan.model))
            except RoomError as error:
                failures[variant.version] = error
            self._note(plan, variant.version, failures.get(variant.version))
        if self.states[plan.model].plan is not plan:
            return False  # a newer one came meanwhile
        problems = [f"version {version}: {error}" for version, error in failures.items()]
        if all(v.version in loaded for v in plan.answering):
            problems += await self._switch(plan, loaded)
        state.problem = f"epoch {plan.epoch}, {'; '.join(problems)}" if problems else ""
        return any(e.policy is Policy.RETRY for e in failures.values())

    async def _switch(self, plan: Plan, loaded: dict[int, Loaded]) -> list[str]:
        """Serve the plan, then keep it for a cold start; what went wrong with the latter."""
        self._serving.switch(plan.model, live_of(plan, loaded) if plan.variants else None)
        self._serving.waiting.pop(plan.model, None)
        self.applied_plans += 1
        log.info("plan is served", extra={"model": plan.model, "epoch": plan.epoch, "cause": plan.cause})
        self._changed()
        try:
            await asyncio.to_thread(self._plans.save, plan)
            await self._artifacts.keep_only(self._wanted)
        except OSError as error:
            return [f"served, but not kept for a cold start: {error}"]
        return []

    def _wanted(self) -> frozenset[str]:
        plans = [p.plan for p in self._pending.values()] + [live.plan for live in self._serving.models.values()]
        return frozenset(d for plan in plans for d in plan.digests)

    def _note(self, plan: Plan, version: int, error: RoomError | None) -> None:
        state = self.states[plan.model]
        if state.plan is not plan:
            return
        # What may still come is loading, not failed: the registry rolls back a version that is said to have failed.
        kind = READY if error is None else LOADING if error.policy is Policy.RETRY else FAILED
        fresh = VariantState(version, kind, str(error or ""))
        if state.variants.get(version) != fresh:
            state.variants[version] = fresh
            if error:
                log.error(
                    "version cannot be served", extra={"model": plan.model, "version": version, "why": str(error)}
                )
            self._changed()

    def _fail(self, plan: Plan, reason: str) -> None:
        state = self.states[plan.model]
        if state.plan is plan:
            state.problem = f"epoch {plan.epoch}: {reason}"
            state.variants = {v.version: VariantState(v.version, FAILED, reason) for v in plan.variants}
            self._changed()
