"""Release state: runs, commands, serving status and guards. Each decision is written in one SQL transaction."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from millrace.bus.errors import MalformedEvent
from millrace.bus.events import Record, new_id
from millrace.definitions import Project
from millrace.stores.objects import Objects
from millrace.stores.sql import Transaction
from millrace.wire.inference.v1.events_pb2 import ServingStatus
from millrace.wire.registry.v1 import service_pb2
from millrace.wire.registry.v1.events_pb2 import ModelCommand
from millrace.wire.trainer.v1.events_pb2 import RunEvent

from services.registry.adapters.definitions_sql import Definitions, read_project
from services.registry.adapters.events_wire import Cause, Subject, Told, command_message, leading_event_id
from services.registry.adapters.releases_sql import Releases
from services.registry.adapters.replicas_sql import Loading, Replicas
from services.registry.domain import decisions
from services.registry.domain.state import Candidate, Decision, Evidence, ReleaseState, Rollout, Step
from services.registry.errors import BadModel, UnknownThing
from services.registry.handlers.desk import Desk

log = logging.getLogger(__name__)
AnyMessage = TypeVar("AnyMessage", bound=Message)


async def on_run(desk: Desk, transaction: Transaction, record: Record) -> None:
    """A run ended at its gate: its version is registered, and goes as far as its evidence and the rollout say."""
    run = parse(RunEvent, record)
    if run.state not in (RunEvent.PASSED, RunEvent.REFUSED):
        return
    subject, project = await subject_of(transaction, run.project, run.candidate.definition_version)
    passed = run.state == RunEvent.PASSED
    if passed:
        await _check_artifacts(desk.objects, run)
    now_us = max(desk.clock.now_us(project), run.clock_us)
    releases = desk.releases(transaction)
    before = await _state(releases, subject.model, run.run_id)
    decision = decisions.decide_candidate(before, _candidate(run, passed), rollout_of(project), now_us)
    cause = Cause(record.event.id, record.event.actor, desk.wall_us(), now_us, record.event.traceparent)
    await conclude(releases, subject, before, decision, cause)


async def on_command(desk: Desk, transaction: Transaction, record: Record) -> None:
    """Somebody asks for a move. One that came by gRPC was obeyed before it was published."""
    command = parse(ModelCommand, record)
    if await _obeyed(transaction, record.event.id):
        return
    actor = command.actor or record.event.actor
    cause = Cause(record.event.id, actor, desk.wall_us(), 0, record.event.traceparent)
    await obey(desk, transaction, command, cause)


async def on_status(desk: Desk, transaction: Transaction, record: Record) -> None:
    """A replica says which versions it loads. A version that no replica can load gives way."""
    status = parse(ServingStatus, record)
    replicas, releases = Replicas(transaction), desk.releases(transaction)
    changed = await replicas.report(status)
    before = await releases.load(status.model) if changed else None
    if before is None or before.epoch != status.epoch:
        return
    subject, project = await subject_of(transaction, await releases.owner(status.model), 0)
    subject = replace(subject, model=status.model)
    now_us = desk.clock.now_us(project)
    for version in changed:
        loading = await replicas.loading(status.model, version, status.epoch)
        decision = _judge_loading(before, version, loading, now_us)
        if decision is None:
            continue
        cause = Cause(record.event.id, "", desk.wall_us(), now_us, record.event.traceparent, scope=str(version))
        await conclude(releases, subject, before, decision, cause)
        before = decision.state
        if decision.cause:
            return


def _judge_loading(state: ReleaseState, number: int, loading: Loading, now_us: int) -> Decision | None:
    version = state.versions.get(number)
    if version is None:
        return None
    if loading.ready and version.broken:
        return Decision(state.with_version(replace(version, broken=False)))
    if loading.failed and not loading.ready and not loading.pending:
        return decisions.decide_unloadable(state, number, loading.reason, now_us)
    return None


async def command(desk: Desk, request: ModelCommand, actor: str, traceparent: str) -> service_pb2.CommandReply:
    """The same as `on_command`, for gRPC: obeyed first, then told on the topic under the id that its moves name."""
    event_id = new_id()
    cause = Cause(event_id, actor, desk.wall_us(), 0, traceparent)
    async with desk.database.transaction() as transaction:
        await transaction.publish(command_message(request, event_id, replace(cause, event_id="")))
        return await obey(desk, transaction, request, cause)


async def obey(desk: Desk, transaction: Transaction, request: ModelCommand, cause: Cause) -> service_pb2.CommandReply:
    """Decides about one command, writes what follows and remembers the answer; `cause` gets its clock here."""
    releases = desk.releases(transaction)
    owner = await releases.owner(request.model)
    if not owner or request.project not in ("", owner):
        raise UnknownThing(f"there is no model {request.model} in project {request.project}")
    subject, project = await subject_of(transaction, owner, 0)
    subject = replace(subject, model=request.model)
    cause = replace(cause, clock_us=desk.clock.now_us(project))
    before = await _state(releases, request.model)
    for number in (request.version, request.target_version):
        before = await releases.add(request.model, before, number)
    decision = _decide_command(before, request, rollout_of(project), cause.clock_us)
    told = await conclude(releases, subject, before, decision, cause)
    reply = service_pb2.CommandReply(
        accepted=not decision.refusal,
        reason=decision.refusal or (decision.moves[-1].reason if decision.moves else ""),
        epoch=decision.state.epoch,
        event_id=leading_event_id(decision, told.moves),
    )
    await _remember(transaction, request, reply, cause)
    return reply


def _decide_command(state: ReleaseState, request: ModelCommand, rollout: Rollout, now_us: int) -> Decision:
    match request.verb:
        case ModelCommand.ADVANCE:
            return decisions.decide_advance(state, request.version, rollout, now_us, request.reason)
        case ModelCommand.HOLD:
            return decisions.decide_hold(state, request.version, request.reason)
        case ModelCommand.ROLLBACK:
            return decisions.decide_rollback(
                state, request.version, request.target_version, request.incident_id, request.reason, now_us
            )
        case ModelCommand.PROMOTE:
            return decisions.decide_promote(state, request.version, now_us, request.reason)
        case ModelCommand.RETIRE:
            return decisions.decide_retire(state, request.version, request.reason)
        case _:
            return decisions.refuse(state, f"unknown verb {request.verb}")


async def expire_guards(desk: Desk, project: str = "") -> None:
    """Warm targets whose guard is over on their project's clock leave the plan; of one project, or of all."""
    async with desk.database.read() as transaction:
        waiting = await desk.releases(transaction).guarded(project)
    for owner, model in waiting:
        async with desk.database.transaction() as transaction:
            subject, declared = await subject_of(transaction, owner, 0)
            now = desk.clock.now_us(declared)
            releases = desk.releases(transaction)
            before = await _state(releases, model)
            decision = decisions.decide_guard(before, rollout_of(declared), now)
            if not decision.refusal:
                cause = Cause("", "", desk.wall_us(), now, seed=f"guard/{model}/{before.epoch}")
                await conclude(releases, replace(subject, model=model), before, decision, cause)


async def conclude(
    releases: Releases, subject: Subject, before: ReleaseState, decision: Decision, cause: Cause
) -> Told:
    """Writes and publishes what a decision says; a refusal is logged."""
    if decision.refusal:
        log.info("%s: nothing changed: %s", subject.model, decision.refusal)
    for move in decision.moves:
        log.info("%s version %d: %s: %s", subject.model, move.version, move.kind, move.reason)
    return await releases.save(subject, before, decision, cause)


async def subject_of(transaction: Transaction, project: str, definition_version: int) -> tuple[Subject, Project]:
    """The model of a project's definition (0: the current one), and the current definition; raises UnknownThing."""
    definitions = Definitions(transaction)
    current = await definitions.current(project)
    if current is None:
        raise UnknownThing(f"there is no project {project}")
    declared = read_project(current.canonical_json)
    model = declared.model.name
    if definition_version and definition_version != current.version:
        older = await definitions.version(project, definition_version)
        if older is None:
            raise UnknownThing(f"project {project} has no definition version {definition_version}")
        model = read_project(older.canonical_json).model.name
    return Subject(project, model, current.version), declared


def rollout_of(project: Project) -> Rollout:
    """The declared rollout, as the rules want it."""
    declared = project.rollout
    steps = () if declared.strategy == "direct" else tuple(Step(step.weight) for step in declared.steps)
    return Rollout(steps, declared.guard_us)


def parse(kind: type[AnyMessage], record: Record) -> AnyMessage:
    """The record's payload; raises MalformedEvent."""
    try:
        return kind.FromString(record.data)
    except DecodeError as error:
        raise MalformedEvent(f"{record.topic}:{record.offset} is no {kind.DESCRIPTOR.name}: {error}") from error


async def _state(releases: Releases, model: str, run_id: str = "") -> ReleaseState:
    state = await releases.load(model, run_id)
    if state is None:
        raise UnknownThing(f"there is no model {model}")
    return state


async def _check_artifacts(objects: Objects, run: RunEvent) -> None:
    for name in ("model_digest", "bundle_digest"):
        digest = getattr(run.candidate, name)
        if not digest or not await objects.has(digest):
            raise BadModel(f"run {run.run_id}: {name} {digest or 'is empty'}: these bytes were never put here")


def _candidate(run: RunEvent, passed: bool) -> Candidate:
    found = run.candidate
    return Candidate(
        run_id=run.run_id,
        model_digest=found.model_digest,
        bundle_digest=found.bundle_digest,
        evidence=Evidence(found.champion_version, found.gate_report_digest),
        passed=passed,
        reason=run.reason,
        snapshot_digest=found.snapshot_digest,
        definition_version=found.definition_version,
        clock_us=run.clock_us,
        metrics=dict(found.metrics),
    )


async def _obeyed(transaction: Transaction, event_id: str) -> bool:
    query = "SELECT event_id FROM commands WHERE event_id = :event_id"
    return await transaction.row(query, {"event_id": event_id}) is not None


async def _remember(
    transaction: Transaction, request: ModelCommand, reply: service_pb2.CommandReply, cause: Cause
) -> None:
    await transaction.execute(
        "INSERT INTO commands (event_id, model, accepted, reason, epoch, reply_id, actor, handled_us)"
        " VALUES (:event_id, :model, :accepted, :reason, :epoch, :reply_id, :actor, :handled_us)",
        {
            "event_id": cause.event_id,
            "model": request.model,
            "accepted": int(reply.accepted),
            "reason": reply.reason,
            "epoch": reply.epoch,
            "reply_id": reply.event_id,
            "actor": cause.actor,
            "handled_us": cause.wall_us,
        },
    )
