"""The gRPC door: ask for a run, look at runs, switch training off and on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from millrace.bus.events import new_id
from millrace.runtime.auth import actor_of, require
from millrace.wire.trainer.v1 import service_pb2, service_pb2_grpc
from millrace.wire.trainer.v1.events_pb2 import TrainingRequest, TrainingSwitch

from services.trainer.domain.runs import Run
from services.trainer.domain.scheduler import Request, Trigger
from services.trainer.domain.switches import ALL, Switch
from services.trainer.entrypoints.rerun import Outcome, Reruns
from services.trainer.errors import BadRequest, SwitchedOff, UnknownProject, UnknownRun
from services.trainer.handlers import (
    MOST_TOLD,
    Desk,
    ask,
    candidate_message,
    consider,
    project_now,
    switch,
    switch_message,
    to_tell,
    waiting,
)
from services.trainer.ports import Book

DEFAULT_LIMIT, MAX_LIMIT = 50, 500
MOST_LISTED = 100  # requests of each run where runs are listed


class TrainerDoor(service_pb2_grpc.TrainerServicer):
    """Decodes, calls, encodes."""

    def __init__(self, desk: Desk, reruns: Reruns) -> None:
        self._desk = desk
        self._reruns = reruns

    async def RequestRun(self, request: TrainingRequest, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        """Records and publishes a request; UnknownProject, BadRequest."""
        require("scientist")
        if request.project not in self._desk.definitions.projects:
            raise UnknownProject(f"no project {request.project or '(none named)'} has been applied")
        trigger = _trigger(request)
        async with self._desk.runs.transaction() as book:
            if off := await book.off(request.project):
                raise SwitchedOff(f"{off.words}; `{off.undo}` switches it on again")
            asked_us = request.asked_us or await project_now(self._desk, book, request.project)
            asked = Request(
                request_id=new_id(),
                project=request.project,
                trigger=trigger,
                asked_us=asked_us,
                reason=request.reason or "asked for by hand",
                run_id=request.run_id,
                actor=actor_of(request.actor),
                accept_data=request.accept_data,
            )
            await ask(book, asked, "", self._desk.wall_us())
            await consider(self._desk, book, request.project)
        self._desk.work_changed()
        return service_pb2.RequestRunReply(request_id=asked.request_id)

    async def SwitchTraining(
        self, request: TrainingSwitch, context: grpc.aio.ServicerContext[Any, Any]
    ) -> TrainingSwitch:
        """Switches training of a project, or all training, off or on; UnknownProject, BadRequest."""
        require("operator")
        if request.off and request.project != ALL and request.project not in self._desk.definitions.projects:
            raise UnknownProject(f"no project {request.project or '(none named)'} has been applied")
        if not request.project:
            raise BadRequest("name a project, or * for all")
        if request.off and not request.reason.strip():
            raise BadRequest("who switches training off has to say why: give a reason")
        change = Switch(request.project, request.off, request.reason, actor_of(request.actor), self._desk.wall_us())
        async with self._desk.runs.transaction() as book:
            await switch(self._desk, book, change)
        self._desk.work_changed()
        return switch_message(change)

    async def ListSwitches(
        self, request: service_pb2.ListSwitchesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> service_pb2.ListSwitchesReply:
        """What is switched off."""
        async with self._desk.runs.read() as book:
            return service_pb2.ListSwitchesReply(switches=[switch_message(one) for one in await book.switches()])

    async def ListWaiting(
        self, request: service_pb2.ListWaitingRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> service_pb2.ListWaitingReply:
        """Requests that no run has taken yet, and what they wait for; an empty project means all."""
        reply = service_pb2.ListWaitingReply()
        async with self._desk.runs.read() as book:
            for project in sorted(self._desk.definitions.projects):
                if request.project in ("", project):
                    found = await waiting(self._desk, book, project)
                    reply.total += len(found)
                    for asked, why in found[-DEFAULT_LIMIT:]:
                        reply.waiting.add(
                            request_id=asked.request_id,
                            project=project,
                            trigger=asked.trigger.value,
                            asked_us=asked.asked_us,
                            reason=asked.reason,
                            actor=asked.actor,
                            waits_for=why,
                        )
        return reply

    async def ListRuns(
        self, request: service_pb2.ListRunsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> service_pb2.ListRunsReply:
        """Runs, newest first; without curves and reports."""
        limit = min(request.limit or DEFAULT_LIMIT, MAX_LIMIT)
        async with self._desk.runs.read() as book:
            runs = await book.newest_runs(request.project, limit, unfinished_only=request.unfinished_only)
            return service_pb2.ListRunsReply(runs=[await _message(book, run, whole=False) for run in runs])

    async def GetRun(
        self, request: service_pb2.GetRunRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> service_pb2.Run:
        """One run with its curve and gate report; UnknownRun."""
        async with self._desk.runs.read() as book:
            run = await book.run(request.run_id)
            if run is None:
                raise UnknownRun(f"no run {request.run_id or '(none named)'}")
            return await _message(book, run, whole=True)

    async def Rerun(
        self, request: service_pb2.RerunRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[service_pb2.RerunProgress]:
        """A run once more from its record; UnknownRun, BadRequest, SwitchedOff."""
        require("scientist")
        async with aclosing(self._reruns.rerun(request.run_id)) as steps:
            async for step, share, outcome in steps:
                yield service_pb2.RerunProgress(step=step, share=share, reply=_reply(outcome) if outcome else None)


def _reply(outcome: Outcome) -> service_pb2.RerunReply:
    lines = [
        service_pb2.RerunLine(what=one.what, before=one.before, now=one.now, same=one.same, decides=one.decides)
        for one in outcome.lines
    ]
    return service_pb2.RerunReply(same=outcome.same, lines=lines, note=outcome.note)


def _trigger(request: TrainingRequest) -> Trigger:
    if request.trigger == TrainingRequest.TRIGGER_UNSPECIFIED:
        return Trigger.MANUAL
    try:
        return Trigger(TrainingRequest.Trigger.Name(request.trigger).lower())
    except ValueError as error:
        raise BadRequest(f"trigger {request.trigger} is not known here") from error


async def _message(book: Book, run: Run, *, whole: bool) -> service_pb2.Run:
    asked = await book.requests_of(run.run_id)
    requests = to_tell(asked, MOST_TOLD if whole else MOST_LISTED)
    message = service_pb2.Run(
        run_id=run.run_id,
        project=run.project,
        state=run.state.name,
        reason=run.reason,
        asked_us=run.asked_us,
        started_us=run.started_us,
        finished_us=run.finished_us,
        request_ids=[request.request_id for request in requests],
        triggers=[request.trigger.value for request in requests],
        progress=run.progress,
        requests=len(asked),
        snapshot_digest=run.snapshot_digest,
        definition_version=run.definition_version,
        forgotten=await book.forgotten(run.snapshot_digest),
    )
    if run.candidate is not None:
        message.candidate.CopyFrom(candidate_message(run.candidate))
    if whole:
        message.gate_report_json = run.report_json
        for epoch, train_loss, validation_loss in run.curve:
            message.curve.add(epoch=epoch, train_loss=train_loss, validation_loss=validation_loss)
    return message
