"""millrace.labeling.v1.Labeling: decode, call, encode."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from millrace.runtime import auth
from millrace.runtime.errors import Denied, Invalid
from millrace.wire.common.v1 import common_pb2
from millrace.wire.labeling.v1 import service_pb2, service_pb2_grpc

from services.labeling.domain.tasks import Draft, Task
from services.labeling.handlers.spine import SpineHandler, ipc_chunks
from services.labeling.handlers.tasks import TaskHandler

MOST_TASKS = 10_000  # of one CreateTasks call
Context = grpc.aio.ServicerContext[Any, Any]


class LabelingService(service_pb2_grpc.LabelingServicer):
    """`now_us` is the wall's: leases run on it."""

    def __init__(self, spine: SpineHandler, tasks: TaskHandler, *, now_us: Callable[[], int], chunk_bytes: int) -> None:
        self._spine = spine
        self._tasks = tasks
        self._now_us = now_us
        self._chunk_bytes = chunk_bytes

    async def Spine(self, request: service_pb2.SpineRequest, context: Context) -> AsyncIterator[service_pb2.ArrowChunk]:
        """The labelled spine, as an Arrow IPC stream in pieces."""
        table = await self._spine.spine(
            request.project, request.from_us, request.to_us, request.as_of_us, request.include_censored
        )
        for chunk in ipc_chunks(table, self._chunk_bytes):
            yield service_pb2.ArrowChunk(data=chunk)

    async def Stats(self, request: service_pb2.StatsRequest, context: Context) -> service_pb2.LabelStats:
        """Totals of a project."""
        counts = await self._spine.counts(request.project)
        return service_pb2.LabelStats(
            pending=counts.pending,
            matured=counts.matured,
            censored=counts.censored,
            corrected=counts.corrected,
            open_tasks=counts.open_tasks,
        )

    async def CreateTasks(
        self, request: service_pb2.CreateTasksRequest, context: Context
    ) -> service_pb2.CreateTasksReply:
        """Tasks about examples; an example that has one already is counted in `existing`."""
        auth.require("scientist")
        if len(request.tasks) > MOST_TASKS:
            raise Invalid(f"{len(request.tasks)} tasks in one call; {MOST_TASKS} are allowed")
        drafts = [_draft(request.project, draft) for draft in request.tasks]
        made = await self._tasks.create(request.project, drafts, self._now_us())
        return service_pb2.CreateTasksReply(task_ids=made, existing=len(drafts) - len(made))

    async def NextTask(self, request: service_pb2.NextTaskRequest, context: Context) -> service_pb2.Task:
        """A task under a lease."""
        annotator = _annotator(request.annotator)
        return _task(await self._tasks.next(request.project, annotator, self._now_us()))

    async def SubmitAnnotation(
        self, request: service_pb2.SubmitAnnotationRequest, context: Context
    ) -> service_pb2.Task:
        """The answer to a task."""
        annotator = _annotator(request.annotator)
        done = await self._tasks.submit(
            request.task_id, request.lease_id, annotator, request.value, request.comment, self._now_us()
        )
        return _task(done)

    async def SkipTask(self, request: service_pb2.SkipTaskRequest, context: Context) -> service_pb2.Task:
        """The task goes back, to others."""
        annotator = _annotator(request.annotator)
        return _task(
            await self._tasks.skip(request.task_id, request.lease_id, annotator, request.reason, self._now_us())
        )


def register(service: LabelingService, server: grpc.aio.Server) -> None:
    """Put the service on a server."""
    service_pb2_grpc.add_LabelingServicer_to_server(service, server)  # type: ignore[no-untyped-call]


def _annotator(named: str) -> str:
    """Who answers: the caller. Only where no tokens are asked for, or to an admin, may the request name another."""
    identity = auth.require("annotator")
    if named and named != identity.name and not identity.may("admin"):
        raise Denied(f"{identity.name} cannot answer as {named}")
    return named or identity.name


def _draft(project: str, draft: service_pb2.TaskDraft) -> Draft:
    if draft.key.project not in ("", project) or not draft.key.entity or not draft.key.moment_us:
        raise Invalid(f"a task needs the key of an example of {project}: entity and moment_us")
    return Draft(draft.key.entity, draft.key.moment_us, draft.payload.SerializeToString(), draft.priority)


def _task(task: Task) -> service_pb2.Task:
    return service_pb2.Task(
        task_id=task.task_id,
        key=common_pb2.ExampleKey(project=task.project, entity=task.entity, moment_us=task.moment_us),
        payload=common_pb2.Row.FromString(task.payload),
        state=task.state.value,
        lease_id=task.lease_id,
        lease_expires_us=task.lease_expires_us,
    )
