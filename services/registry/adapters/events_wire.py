"""Decisions and definitions as messages on the bus; ids are derived from their cause: a repeat is recognised."""

from __future__ import annotations

from dataclasses import dataclass

from millrace.bus.events import Event, Message, derive_id, event_type, new_id
from millrace.wire.registry.v1 import events_pb2
from millrace.wire.trainer.v1 import events_pb2 as trainer_pb2

from services.registry.domain.plan import Role, salt_of, variants_of
from services.registry.domain.state import Candidate, Decision, Kind, Move, ReleaseState, Version

SOURCE = "millrace/registry"
_ROLES = {
    Role.CHAMPION: events_pb2.Variant.CHAMPION,
    Role.CANARY: events_pb2.Variant.CANARY,
    Role.SHADOW: events_pb2.Variant.SHADOW,
}


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something is about to be written: the event (empty id: none), who, and when by both clocks.

    `scope` tells apart several decisions that follow from one event. `seed` stands in for the event where none is the
    cause, but the same thing must get the same ids when it is done again.
    """

    event_id: str
    actor: str
    wall_us: int
    clock_us: int
    traceparent: str = ""
    scope: str = ""
    seed: str = ""

    def id_of(self, what: str, ordinal: int = 0) -> str:
        """The id of an event that follows from this cause."""
        seed = self.event_id or self.seed
        return derive_id(seed, f"registry.{what}/{self.scope}", ordinal) if seed else new_id()


@dataclass(frozen=True, slots=True)
class Subject:
    """The model that a decision is about, and the definition that is current."""

    project: str
    model: str
    definition_version: int


@dataclass(frozen=True, slots=True)
class Told:
    """The messages of a decision: its moves, its plan (None: unchanged), a request for a new gate (or None)."""

    moves: tuple[tuple[Move, Message], ...]
    plan: Message | None
    request: Message | None

    @property
    def all(self) -> list[Message]:
        """In the order in which they are to be read."""
        return [message for _, message in self.moves] + [m for m in (self.plan, self.request) if m is not None]


def tell(subject: Subject, decision: Decision, cause: Cause) -> Told:
    """Everything that the world is told about a decision."""
    moves = tuple(
        (move, _move_message(subject, decision.state, move, cause, ordinal))
        for ordinal, move in enumerate(decision.moves)
    )
    leading = leading_event_id(decision, moves)
    plan = _plan_message(subject, decision, cause, leading) if decision.cause else None
    request = _gate_again(subject, decision.regate, cause, leading) if decision.regate else None
    return Told(moves, plan, request)


def leading_event_id(decision: Decision, moves: tuple[tuple[Move, Message], ...]) -> str:
    """Id of the move that the decision is about: the one of the plan's cause, else the last."""
    for move, message in moves:
        if decision.cause and move.kind == decision.cause:
            return message.event.id
    return moves[-1][1].event.id if moves else ""


def plan_of(subject: Subject, state: ReleaseState, cause: str) -> events_pb2.ServingPlan:
    """The serving plan of a state."""
    return events_pb2.ServingPlan(
        project=subject.project,
        model=subject.model,
        epoch=state.epoch,
        salt=salt_of(subject.project, subject.model),
        definition_version=subject.definition_version,
        cause=cause,
        variants=[_variant(state.versions[v.version], v.role, v.weight, v.fallback) for v in variants_of(state)],
    )


def definition_message(published: events_pb2.DefinitionPublished, cause: Cause) -> Message:
    """A definition for the topic `definitions`."""
    event = _event(new_id(), "definition", "published", published.SerializeToString(), published.project, "", cause)
    return Message("definitions", event, key=published.project.encode())


def command_message(command: events_pb2.ModelCommand, event_id: str, cause: Cause) -> Message:
    """A command that came by gRPC, for the record on its topic."""
    event = _event(event_id, "model", "commanded", command.SerializeToString(), command.model, "", cause)
    return Message("models.commands", event, key=command.model.encode())


def _variant(version: Version, role: Role, weight: float, fallback: bool) -> events_pb2.Variant:
    return events_pb2.Variant(
        version=version.number,
        model_digest=version.candidate.model_digest,
        bundle_digest=version.candidate.bundle_digest,
        role=_ROLES[role],
        weight=weight,
        fallback=fallback,
        definition_version=version.candidate.definition_version,
    )


def _move_message(subject: Subject, state: ReleaseState, move: Move, cause: Cause, ordinal: int) -> Message:
    candidate: Candidate = state.versions[move.version].candidate
    body = events_pb2.ModelEvent(
        project=subject.project,
        model=subject.model,
        version=move.version,
        from_state=move.source,
        to_state=move.target,
        kind=move.kind,
        reason=move.reason,
        actor=cause.actor,
        run_id=candidate.run_id,
        snapshot_digest=candidate.snapshot_digest,
        gate_report_digest=candidate.evidence.gate_report_digest,
        other_version=move.other_version,
        clock_us=cause.clock_us,
        epoch=state.epoch,
    )
    verb = "rolled_back" if move.kind is Kind.ROLLED_BACK else str(move.kind)
    event = _event(
        cause.id_of("move", ordinal), "model", verb, body.SerializeToString(), subject.model, cause.event_id, cause
    )
    return Message("models.events", event, key=subject.model.encode())


def _plan_message(subject: Subject, decision: Decision, cause: Cause, leading: str) -> Message:
    plan = plan_of(subject, decision.state, decision.cause)
    event = _event(cause.id_of("plan"), "plan", "published", plan.SerializeToString(), subject.model, leading, cause)
    return Message("models.releases", event, key=subject.model.encode())


def _gate_again(subject: Subject, run_id: str, cause: Cause, leading: str) -> Message:
    body = trainer_pb2.TrainingRequest(
        project=subject.project,
        trigger=trainer_pb2.TrainingRequest.STALE_GATE,
        reason=f"the champion of {subject.model} changed since run {run_id} met its gate",
        asked_us=cause.clock_us,
        run_id=run_id,
    )
    event = _event(
        cause.id_of("request"), "training", "requested", body.SerializeToString(), subject.project, leading, cause
    )
    return Message("training.requests", event, key=subject.project.encode())


def _event(event_id: str, noun: str, verb: str, data: bytes, subject: str, causation: str, cause: Cause) -> Event:
    return Event(
        id=event_id,
        type=event_type("registry", noun, verb),
        source=SOURCE,
        data=data,
        subject=subject,
        time_us=cause.wall_us,
        causation_id=causation,
        actor=cause.actor,
        traceparent=cause.traceparent,
    )
