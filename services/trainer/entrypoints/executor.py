"""Does the runs that the scheduler decided on, one after the other, and writes how each ended."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

from millrace.definitions.canonical import from_canonical_json, to_canonical_json
from millrace.definitions.model import Project
from millrace.runtime.errors import RoomError, Unavailable
from millrace.stores.files import write_whole

from services.trainer.domain.job import GATE, JobResult, JobSpec
from services.trainer.domain.runs import CandidateModel, Run, State
from services.trainer.entrypoints.workshop import Workshop, job_spec, lay_champion, lay_out
from services.trainer.errors import JobFailed, NeighbourUnavailable, Superseded
from services.trainer.handlers import Desk, consider, record_run
from services.trainer.ports import JobProgress

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 5  # a run that took the process down so often is given up
MAX_GATES = 3  # the champion may change while a run is gated; after so many times the registry will ask again
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
LOOK_AGAIN_S = 5.0  # at the switch, should its change not have been heard
BULKY = (
    "rows.arrow",
    "champion.onnx",
    "reference.json",
    "checkpoints",
)  # dropped when a run is finished: all can be had again


class Executor:
    """One run at a time. After a crash whatever was unfinished is taken up again as a new attempt."""

    def __init__(self, desk: Desk, workshop: Workshop, changed: asyncio.Event) -> None:
        self._desk = desk
        self._shop = workshop
        self._changed = changed
        self.problem = ""

    async def run(self) -> None:
        """Until cancelled; a run in hand is then left unfinished and taken up at the next start."""
        while True:
            self._changed.clear()
            run = await self._take_up()
            if run is None:
                await self._changed.wait()
                continue
            try:
                await self._unless_switched_off(run)
            except Superseded as error:
                log.warning("%s", error)
            except RoomError as error:
                await self._finish(await self._current(run), State.FAILED, str(error))

    async def _unless_switched_off(self, run: Run) -> None:
        """The run; cut off when training is switched off meanwhile: it is put back when the next one is looked for."""
        working = asyncio.ensure_future(self._patiently(run))
        try:
            while not working.done():
                changed = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait((working, changed), timeout=LOOK_AGAIN_S, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                self._changed.clear()
                if not working.done() and await self._is_off(run.project):
                    return
        finally:
            working.cancel()
            await asyncio.wait((working,))
        await working

    async def _is_off(self, project: str) -> bool:
        try:
            async with self._desk.runs.read() as book:
                return await book.off(project) is not None
        except Unavailable as error:  # no reason to end a run: it is looked at again
            log.warning("cannot see whether training is switched off: %s", error)
            return False

    async def _take_up(self) -> Run | None:
        """The oldest run that is owed work, now RUNNING under a new attempt. What a switch cut off is put back."""
        async with self._desk.runs.read() as book:
            found = [(run, await book.off(run.project)) for run in await book.unfinished()]
        for run, off in found:
            if off is not None:
                await self._put_back(run, off.words)
            elif run.project in self._desk.definitions.projects:  # else: its definition has not been read yet
                return await self._begin(run)
        return None

    async def _begin(self, run: Run) -> Run:
        async with self._desk.runs.transaction() as book:
            cause = [request for request in await book.requests_of(run.run_id) if request.request_id == run.cause_id]
            taken = replace(
                run,
                state=State.RUNNING,
                reason=cause[0].reason if cause else run.reason,
                attempt=run.attempt + 1,
                started_us=self._desk.wall_us(),
                progress=0.0,
            )
            await record_run(self._desk, book, taken)
        return taken

    async def _put_back(self, run: Run, why: str) -> None:
        """A run that was under way is queued again, unless it has come to its end meanwhile."""
        async with self._desk.runs.transaction() as book:
            current = await book.run(run.run_id)
            if current is not None and current.state is State.RUNNING:
                again = replace(current, state=State.QUEUED, reason=why, progress=0.0, put_back=current.put_back + 1)
                await record_run(self._desk, book, again)

    async def _patiently(self, run: Run) -> None:
        """The run, again and again while a neighbour is away."""
        if run.attempt - run.put_back > MAX_ATTEMPTS:
            raise JobFailed(f"given up: {MAX_ATTEMPTS} attempts ended without a result")
        deadline = asyncio.get_running_loop().time() + self._shop.patience_s
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._do(run)
                return
            except NeighbourUnavailable as error:
                self.problem = f"run {run.run_id} waits: {error}"
                log.warning("%s", self.problem)
                if asyncio.get_running_loop().time() + pause_s > deadline:
                    raise
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            finally:
                self.problem = ""

    async def _do(self, run: Run) -> None:
        run = await self._with_snapshot(await self._current(run))
        if run.state is not State.RUNNING:
            return
        folder = await self._prepare(run)
        result, spec = await self._judged(run, from_canonical_json(run.definition_json), folder)
        if result.declined:
            await self._finish(replace(run, report_json=_text(folder / "report.json")), State.DECLINED, result.declined)
            await asyncio.to_thread(_drop_bulky, folder)
            return
        await self._upload(folder)
        report = (folder / "report.json").read_text(encoding="utf-8")
        first_us, last_us = _holdout(folder)
        gated = replace(
            run,
            candidate=_candidate(spec, result),
            report_json=report,
            holdout_from_us=first_us,
            holdout_to_us=last_us,
        )
        await self._finish(gated, State(result.verdict), result.reason)
        await asyncio.to_thread(_drop_bulky, folder)

    async def _with_snapshot(self, run: Run) -> Run:
        """The run with its training set; a resumed run keeps the one it had. Declined when rows are too few."""
        if run.snapshot_digest:
            return run
        definition = self._desk.definitions.projects[run.project]
        training = definition.project.training
        await self._shop.features.wait_until(run.project, run.as_of_us)
        from_us = run.as_of_us - training.window_us
        snapshot = await self._shop.features.create_snapshot(run.project, from_us, run.as_of_us)
        if snapshot.definition_version and snapshot.definition_version != definition.version:
            raise NeighbourUnavailable(
                f"feature_store runs definition {snapshot.definition_version}, here is {definition.version}"
            )
        log.info("run %s: snapshot %s, %d rows", run.run_id, snapshot.digest, snapshot.rows)
        run = replace(
            run,
            snapshot_digest=snapshot.digest,
            definition_version=definition.version,
            definition_json=to_canonical_json(definition.project),
            reference=await self._reference(run),
        )
        if snapshot.rows < training.min_rows:
            words = f"{snapshot.rows:,} labelled rows, {training.min_rows:,} are needed"
            return await self._finish(run, State.DECLINED, words)
        async with self._desk.runs.transaction() as book:
            await book.put_run(run)
        return run

    async def _reference(self, run: Run) -> str:
        """The run whose rows this one's are held against; empty where none has told what they looked like."""
        async with self._desk.runs.read() as book:
            good = await book.last_passed(run.project, run.as_of_us)
        return good.run_id if good is not None and "data" in json.loads(good.report_json) else ""

    async def _prepare(self, run: Run) -> Path:
        """The run's folder with its rows and, to gate again, its model."""
        folder = self._shop.folder / run.run_id
        await lay_out(self._desk, self._shop, run, folder)
        if run.mode == GATE and run.candidate is not None:
            for name, digest in (("model", run.candidate.model_digest), ("bundle", run.candidate.bundle_digest)):
                suffix = "onnx" if name == "model" else "json"
                write_whole(folder / f"{name}.{suffix}", await self._shop.registry.get_artifact(digest))
        return folder

    async def _judged(self, run: Run, project: Project, folder: Path) -> tuple[JobResult, JobSpec]:
        """The job's result against the champion that serves when the job ends."""
        mode = run.mode
        async with self._desk.runs.read() as book:
            judged = await book.judged(run.project, run.as_of_us - project.training.window_us)
        for _ in range(MAX_GATES):
            champion = await self._shop.registry.champion(project.name, project.model.name)
            await lay_champion(self._shop, champion, folder)
            spec = job_spec(run, self._shop, mode=mode, champion=champion, judged=judged)
            write_whole(folder / "spec.json", spec.to_json().encode())
            result = await self._shop.jobs.run(folder, lambda progress: self._note(run, progress))
            now = await self._shop.registry.champion(project.name, project.model.name)
            if result.declined or now.version == champion.version:
                break
            judged.append(_holdout(folder))
            log.info("run %s: champion %d became %d meanwhile", run.run_id, champion.version, now.version)
            mode = GATE
        return result, spec

    async def _upload(self, folder: Path) -> None:
        for name in ("model.onnx", "bundle.json", "report.json"):
            data = await asyncio.to_thread((folder / name).read_bytes)
            await self._shop.registry.put_artifact(data)

    async def _note(self, run: Run, progress: JobProgress) -> None:
        """Keeps how far the job is, for people who look."""
        current = await self._current(run)
        async with self._desk.runs.transaction() as book:
            await book.put_run(replace(current, progress=progress.share, curve=progress.curve or current.curve))

    async def _current(self, run: Run) -> Run:
        """The run as recorded. Superseded when another attempt has it."""
        async with self._desk.runs.read() as book:
            current = await book.run(run.run_id)
        if current is None or current.attempt != run.attempt:
            raise Superseded(f"attempt {run.attempt} of run {run.run_id} is not the last one any more")
        return current

    async def _finish(self, run: Run, state: State, reason: str) -> Run:
        """Writes and publishes the end of `run`, with what it found out."""
        current = await self._current(run)
        finished = replace(
            run,
            state=state,
            reason=reason,
            finished_us=self._desk.wall_us(),
            progress=1.0,
            curve=current.curve,
        )
        async with self._desk.runs.transaction() as book:
            await record_run(self._desk, book, finished)
            await consider(self._desk, book, run.project)  # whoever waited for this run has waited long enough
        log.info("run %s: %s: %s", run.run_id, state.value, reason)
        return finished


def _holdout(folder: Path) -> tuple[int, int]:
    """First and last moment of the rows that the gate judged by."""
    window = json.loads(_text(folder / "report.json"))["holdout"]
    return int(window["from_us"]), int(window["to_us"])


def _candidate(spec: JobSpec, result: JobResult) -> CandidateModel:
    return CandidateModel(
        model_digest=result.model_digest,
        bundle_digest=result.bundle_digest,
        report_digest=result.report_digest,
        snapshot_digest=spec.snapshot_digest,
        definition_version=spec.definition_version,
        champion_version=spec.champion.version,
        code_version=spec.code_version,
        seed=spec.net.seed,
        template=result.template,
        metrics=dict(result.metrics),
    )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _drop_bulky(folder: Path) -> None:
    for name in BULKY:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
