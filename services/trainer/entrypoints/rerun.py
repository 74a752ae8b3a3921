"""A run made once more from its record alone, in a clean folder, and what came out held against the record.

Nothing is registered and no request is answered: it shows that a run can be trusted, or what keeps it from being made
again. On one kind of processor equal code, packages, rows and seeds give equal bits.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace.definitions.canonical import from_canonical_json
from millrace.stores.files import write_whole

from services.trainer.domain.job import GATE, TRAIN, ChampionSpec, JobResult
from services.trainer.domain.runs import Run, State
from services.trainer.entrypoints.workshop import Workshop, job_spec, lay_champion, lay_out
from services.trainer.errors import BadRequest, SwitchedOff, UnknownRun
from services.trainer.handlers import Desk
from services.trainer.ports import JobProgress

FOLDER = "reruns"
ROWS, FITTING = 0.1, "fitting and gating"


@dataclass(frozen=True, slots=True)
class Line:
    """One thing as recorded and as it came out now. What does not decide may explain a difference."""

    what: str
    before: str
    now: str
    decides: bool = True

    @property
    def same(self) -> bool:
        """Whether both are equal."""
        return self.before == self.now


@dataclass(frozen=True, slots=True)
class Outcome:
    """All lines. `note`: what could not be made again as it was, the rows (they are then the kept ones, verified) or
    the gate of the training."""

    lines: tuple[Line, ...]
    note: str = ""

    @property
    def same(self) -> bool:
        """Whether rows, verdict, model and every metric are as recorded."""
        return all(line.same for line in self.lines if line.decides)


class Reruns:
    """One at a time; who cancels ends the job."""

    def __init__(self, desk: Desk, shop: Workshop) -> None:
        self._desk = desk
        self._shop = shop
        self._folder = shop.folder.parent / FOLDER
        self._turn = asyncio.Semaphore(1)

    async def clean(self) -> None:
        """Removes what a process that died has left: rows are kept nowhere else than in snapshots."""
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def rerun(self, run_id: str) -> AsyncGenerator[tuple[str, float, Outcome | None], None]:
        """(step, share done, the outcome with the last one). Raises UnknownRun, BadRequest, SwitchedOff, and what
        neighbours and jobs raise."""
        run, report = await self._record(run_id)
        yield "waiting for another rerun" if self._turn.locked() else "reading the record", 0.0, None
        async with self._turn:
            folder = self._folder / run_id
            try:
                yield "making the rows again", 0.0, None
                digest, note = await self._rows_again(run)
                await lay_out(self._desk, self._shop, run, folder)
                async with aclosing(self._job(run, report, folder)) as steps:
                    async for step in steps:
                        if isinstance(step, JobResult):
                            told = "; ".join(filter(None, (note, _met_again(report))))
                            yield "done", 1.0, Outcome(tuple(_lines(run, report, digest, step, folder)), told)
                        else:
                            yield FITTING, ROWS + (1 - ROWS) * step, None
            finally:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _record(self, run_id: str) -> tuple[Run, dict[str, Any]]:
        async with self._desk.runs.read() as book:
            run = await book.run(run_id)
            if run is None:
                raise UnknownRun(f"no run {run_id or '(none named)'}")
            off, forgotten = await book.off(run.project), await book.forgotten(run.snapshot_digest)
        report: dict[str, Any] = json.loads(run.report_json or "{}")
        if run.state not in (State.PASSED, State.REFUSED) or run.candidate is None:
            raise BadRequest(f"run {run_id} is {run.state.value}: it has no model that a gate has judged")
        if "champion_digest" not in report:
            raise BadRequest(f"run {run_id} is of an older release, which recorded less than it takes")
        if forgotten:
            raise BadRequest(f"run {run_id} was {forgotten}")
        if off:
            raise SwitchedOff(f"{off.words}; `{off.undo}` switches it on again")
        return run, report

    async def _rows_again(self, run: Run) -> tuple[str, str]:
        """The digest of the training set as history gives it now, and why it was not asked."""
        definition = self._desk.definitions.projects.get(run.project)
        if definition is None or definition.version != run.definition_version:
            now = f"version {definition.version}" if definition else "gone"
            return (
                run.snapshot_digest,
                f"the definition is {now}, so its kept rows were read, not built from history",
            )
        window_us = from_canonical_json(run.definition_json).training.window_us
        made = await self._shop.features.create_snapshot(run.project, run.as_of_us - window_us, run.as_of_us)
        return made.digest, ""

    async def _job(self, run: Run, report: dict[str, Any], folder: Path) -> AsyncGenerator[float | JobResult, None]:
        champion = ChampionSpec(int(report["champion"]["version"]), report["champion_digest"])
        judged = [(int(first), int(last)) for first, last in report["judged_before"]]
        await lay_champion(self._shop, champion, folder)
        spec = job_spec(run, self._shop, mode=TRAIN, champion=champion, judged=judged)
        write_whole(folder / "spec.json", spec.to_json().encode())
        shares: asyncio.Queue[float] = asyncio.Queue()

        async def note(progress: JobProgress) -> None:
            shares.put_nowait(progress.share)

        job = asyncio.ensure_future(self._shop.jobs.run(folder, note))
        try:
            while not job.done():
                heard = asyncio.ensure_future(shares.get())
                await asyncio.wait((job, heard), return_when=asyncio.FIRST_COMPLETED)
                if heard.done():
                    yield heard.result()
                heard.cancel()
            yield job.result()
        finally:
            job.cancel()
            await asyncio.wait((job,))


def _met_again(report: dict[str, Any]) -> str:
    """A later gate's report takes the place of the one of the training."""
    if report["mode"] != GATE:
        return ""
    return "the model met its gate again later: what the gate of its training was held against was not kept"


def _lines(run: Run, report: dict[str, Any], digest: str, result: JobResult, folder: Path) -> list[Line]:
    assert run.candidate is not None
    lines = [Line("data snapshot", run.snapshot_digest, digest)]
    if result.declined:
        return [*lines, Line("verdict", run.state.value, f"DECLINED: {result.declined}")]
    again: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    lines += [
        Line("verdict", run.state.value, result.verdict),
        Line("template", run.candidate.template, result.template),
        Line("model", run.candidate.model_digest, result.model_digest),
    ]
    before, now = report["metrics"], again["metrics"]
    # A gate that is met again does not ask for the net that was tried: what it did not measure is not held against it.
    for model in sorted(before if report["mode"] == GATE else {*before, *now}):
        for name in sorted({*before.get(model, {}), *now.get(model, {})}):
            was, is_now = (repr(metrics.get(model, {}).get(name)) for metrics in (before, now))
            lines.append(Line(f"{name} of {model}", was, is_now))
    lines.append(Line("code", report["code_version"], again["code_version"], decides=False))
    lines.append(Line("environment", report["environment"]["digest"], again["environment"]["digest"], decides=False))
    return lines
