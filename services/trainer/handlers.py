"""Records become requests and counts; requests become runs. Every handler writes state, position and events in one
transaction, so a repeat changes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from google.protobuf.message import DecodeError
from millrace.bus.effects import Effects
from millrace.bus.events import Batch, Event, Message, Record, derive_id, event_type, new_id
from millrace.definitions.model import Clock
from millrace.runtime.definitions import Definition
from millrace.wire.labeling.v1.events_pb2 import Label, LabelHeartbeat
from millrace.wire.trainer.v1.events_pb2 import Candidate, RunEvent, TrainingRequest, TrainingSwitch

from services.trainer.domain.job import GATE
from services.trainer.domain.runs import CandidateModel, Run, State
from services.trainer.domain.scheduler import (
    Decline,
    GateAgain,
    LabelBucket,
    Request,
    Situation,
    Start,
    Trigger,
    Wait,
    bucket_end,
    decide,
    label_crossing,
    schedule_due,
)
from services.trainer.domain.switches import ALL, Switch
from services.trainer.ports import Book, Clocks, Definitions, Marks, Runs

ROOM = "trainer"
REQUESTS, LABELS, RUNS, SWITCHES = "training.requests", "labels", "training.runs", "training.switches"
HEARTBEAT = event_type("labeling", "clock", "advanced")
MOST_TOLD = 1_000  # requests that an event of a run names; the record has all
_VERBS = {State.RUNNING: "started"}  # the past tense of the others is their name


@dataclass(frozen=True, slots=True)
class Desk:
    """What handlers work with. `work_changed` wakes whoever does the runs."""

    runs: Runs
    definitions: Definitions
    clocks: Clocks
    wall_us: Callable[[], int]
    work_changed: Callable[[], None]


async def on_requests(desk: Desk, batch: Batch, effects: Effects) -> None:
    """Somebody asks for training: record it, then decide."""
    async with desk.runs.transaction() as book:
        projects = set()
        for record, is_new in await _with_novelty(book, batch):
            request = _request(record, effects)
            if request is not None and is_new:
                asked_us = request.asked_us or await project_now(desk, book, request.project)
                await book.add_request(replace(request, asked_us=asked_us))
                projects.add(request.project)
        await book.mark(batch.position_topic, batch.partition, batch.last_offset)
        for project in sorted(projects):
            await consider(desk, book, project)
    desk.work_changed()


async def on_labels(desk: Desk, batch: Batch, effects: Effects) -> None:
    """Count labels that matured; a heartbeat says up to when the count is complete."""
    async with desk.runs.transaction() as book:
        labels: dict[str, dict[int, LabelBucket]] = {}
        heard: dict[str, int] = {}
        for record, is_new in await _with_novelty(book, batch):
            _read_label(record, effects, labels if is_new else {}, heard if is_new else {})
        for project, buckets in labels.items():
            await book.add_labels(project, list(buckets.values()))
        for project, visible_us in heard.items():
            await book.advance_labels(project, batch.partition, visible_us)
        await book.mark(batch.position_topic, batch.partition, batch.last_offset)
        for project in sorted(labels.keys() | heard.keys()):
            await consider(desk, book, project)
    desk.work_changed()


async def look_again(desk: Desk) -> None:
    """Time has passed or a definition came: consider every project."""
    for project in sorted(desk.definitions.projects):
        async with desk.runs.transaction() as book:
            await consider(desk, book, project)
    desk.work_changed()


async def consider(desk: Desk, book: Book, project: str) -> None:
    """Lets the triggers ask, then the scheduler decide, by the project's clock of now."""
    definition = desk.definitions.projects.get(project)
    if definition is None:
        return  # considered when its definition arrives
    now_us = await project_now(desk, book, project)
    await _ask(desk, book, definition, now_us)
    for decision in decide(definition.project.training, await _situation(book, definition, now_us)):
        if isinstance(decision, Start):
            await _start(desk, book, project, decision)
        elif isinstance(decision, Decline):
            await _decline(desk, book, project, decision)
        elif isinstance(decision, GateAgain):
            await _gate_again(desk, book, decision)


async def waiting(desk: Desk, book: Book, project: str) -> list[tuple[Request, str]]:
    """Requests that no run has taken yet, oldest first, each with what it waits for."""
    definition = desk.definitions.projects.get(project)
    if definition is None:
        return []
    situation = await _situation(book, definition, await project_now(desk, book, project))
    decisions = decide(definition.project.training, situation)
    why = next((d.reason for d in decisions if isinstance(d, Wait)), "it is looked at next")
    return [(request, why) for request in situation.pending]


async def _situation(book: Book, definition: Definition, now_us: int) -> Situation:
    project = definition.project.name
    runs = tuple(await book.past_runs(project))
    marks, off = await book.marks(project) or Marks(), await book.off(project)
    return Situation(
        now_us=now_us,
        replayed=definition.project.clock is Clock.REPLAY,
        pending=tuple(await book.pending(project)),
        runs=runs,
        labels_since_run=await book.count_labels(project, max((run.as_of_us for run in runs), default=0)),
        off=off.words if off else "",
        resumed_us=marks.resumed_us,
    )


async def switch(desk: Desk, book: Book, change: Switch) -> None:
    """Switches training off or on, and says so; what waited for it is considered at once, as asked for now."""
    concerned = [name for name in sorted(desk.definitions.projects) if change.project in (ALL, name)]
    await book.put_switch(change)
    event = Event(
        id=new_id(),
        type=event_type(ROOM, "training", "switched"),
        source=f"millrace/{ROOM}",
        data=switch_message(change).SerializeToString(),
        subject=change.project,
        time_us=change.switched_us,
        actor=change.actor,
    )
    await book.publish(Message(SWITCHES, event, key=change.project.encode()))
    for project in concerned:
        if not change.off:
            marks = await book.marks(project) or Marks()
            await book.put_marks(project, replace(marks, resumed_us=await project_now(desk, book, project)))
        await consider(desk, book, project)


async def project_now(desk: Desk, book: Book, project: str) -> int:
    """The project's clock. A replayed one is read from the labels' watermark where there is one: what is decided at
    a time then does not depend on how fast the labels travelled."""
    definition = desk.definitions.projects.get(project)
    if definition is not None and definition.project.clock is Clock.REPLAY:
        return await book.label_watermark(project) or desk.clocks.now_us(project)
    return desk.clocks.now_us(project)


async def ask(book: Book, request: Request, causation_id: str, wall_us: int) -> None:
    """Records a request of our own or of a door, and publishes it."""
    if not await book.add_request(request):
        return
    payload = TrainingRequest(
        project=request.project,
        trigger=request.trigger.name,
        reason=request.reason,
        asked_us=request.asked_us,
        run_id=request.run_id,
        accept_data=request.accept_data,
    )
    event = Event(
        id=request.request_id,
        type=event_type(ROOM, "training", "requested"),
        source=f"millrace/{ROOM}",
        data=payload.SerializeToString(),
        subject=request.project,
        time_us=wall_us,
        causation_id=causation_id,
        actor=request.actor,
    )
    await book.publish(Message(REQUESTS, event, key=request.project.encode()))


def run_message(run: Run, requests: Sequence[Request], clock_us: int, wall_us: int) -> Message:
    """The event that says where a run stands; its cause is the last request."""
    payload = RunEvent(
        project=run.project,
        run_id=run.run_id,
        state=run.state.name,
        reason=run.reason,
        request_ids=[request.request_id for request in to_tell(requests, MOST_TOLD)],
        requests=len(requests),
        clock_us=clock_us,
    )
    if run.candidate is not None and run.state in (State.PASSED, State.REFUSED):
        payload.candidate.CopyFrom(candidate_message(run.candidate))
    event = Event(
        id=derive_id(run.run_id, f"trainer.run.{run.state.value}.{run.turn}", run.attempt),
        type=event_type(ROOM, "run", _VERBS.get(run.state, run.state.value.lower())),
        source=f"millrace/{ROOM}",
        data=payload.SerializeToString(),
        subject=run.project,
        time_us=wall_us,
        causation_id=run.cause_id,
        actor=next((r.actor for r in requests if r.request_id == run.cause_id), ""),
    )
    return Message(RUNS, event, key=run.project.encode())


def switch_message(change: Switch) -> TrainingSwitch:
    """A switch as the wire has it."""
    return TrainingSwitch(
        project=change.project, off=change.off, reason=change.reason, actor=change.actor, switched_us=change.switched_us
    )


def to_tell(requests: Sequence[Request], most: int) -> Sequence[Request]:
    """Those of a run's requests that are named where not all can be: a message has a largest size, a storm has none.
    People's first, then the newest; in their order."""
    if len(requests) <= most:
        return requests
    named = sorted(requests, key=lambda r: (r.trigger is not Trigger.MANUAL, -r.asked_us))[:most]
    chosen = {request.request_id for request in named}
    return [request for request in requests if request.request_id in chosen]


def candidate_message(candidate: CandidateModel) -> Candidate:
    """A candidate as the wire has it."""
    return Candidate(
        model_digest=candidate.model_digest,
        gate_report_digest=candidate.report_digest,
        snapshot_digest=candidate.snapshot_digest,
        definition_version=candidate.definition_version,
        champion_version=candidate.champion_version,
        code_version=candidate.code_version,
        seed=candidate.seed,
        metrics=dict(candidate.metrics),
        template=candidate.template,
        bundle_digest=candidate.bundle_digest,
    )


async def record_run(desk: Desk, book: Book, run: Run) -> None:
    """Writes a run and publishes where it stands, in the transaction of `book`."""
    await book.put_run(run)
    definition = desk.definitions.projects.get(run.project)
    replayed = definition is None or definition.project.clock is Clock.REPLAY
    clock_us = run.asked_us if replayed else max(run.asked_us, desk.clocks.now_us(run.project))
    await book.publish(run_message(run, await book.requests_of(run.run_id), clock_us, desk.wall_us()))


async def _ask(desk: Desk, book: Book, definition: Definition, now_us: int) -> None:
    """The triggers of our own: enough new labels, and the schedule."""
    project, policy = definition.project.name, definition.project.training
    marks = await book.marks(project)
    if marks is None:
        first_turn_us = now_us - now_us % policy.every_us if policy.every_us else 0
        marks = Marks(schedule_us=first_turn_us)
        await book.put_marks(project, marks)
    waiting = {request.trigger for request in await book.pending(project)}
    if Trigger.NEW_LABELS not in waiting:
        await _ask_for_labels(desk, book, project, policy.new_labels, marks.consumed_us)
    turn_us = schedule_due(policy.every_us, marks.schedule_us, now_us)
    if turn_us:
        await book.put_marks(project, replace(marks, schedule_us=turn_us))
        request_id = derive_id(project, "trainer.schedule", turn_us)
        request = Request(request_id, project, Trigger.SCHEDULE, turn_us, "its turn in the schedule")
        await ask(book, request, "", desk.wall_us())


async def _ask_for_labels(desk: Desk, book: Book, project: str, threshold: int, consumed_us: int) -> None:
    """Asks when the threshold was crossed; the label that crossed it is the cause."""
    if not threshold or await book.count_labels(project, consumed_us) < threshold:
        return
    buckets = await book.label_buckets(project, consumed_us)
    crossing = label_crossing(threshold, buckets, await book.label_watermark(project))
    if crossing is None:
        return
    request_id = derive_id(crossing.event_id, "trainer.new_labels")
    reason = f"{threshold} new labels have matured"
    request = Request(request_id, project, Trigger.NEW_LABELS, crossing.end_us, reason)
    await ask(book, request, crossing.event_id, desk.wall_us())


async def _start(desk: Desk, book: Book, project: str, decision: Start) -> None:
    cause = _cause(decision.requests)
    run_id = derive_id(cause.request_id, "trainer.run")
    run = Run(
        run_id=run_id,
        project=project,
        as_of_us=decision.as_of_us,
        asked_us=decision.as_of_us,
        cause_id=cause.request_id,
        reason=cause.reason,
        queued_us=desk.wall_us(),
        accept_data=any(request.accept_data for request in decision.requests),
    )
    await book.answer(decision.requests, run_id)
    await book.forget_labels(project, decision.as_of_us)
    await _consume(book, project, decision.as_of_us)
    await record_run(desk, book, run)


async def _decline(desk: Desk, book: Book, project: str, decision: Decline) -> None:
    cause = _cause(decision.requests)
    now_us = desk.wall_us()
    run = Run(
        run_id=derive_id(cause.request_id, "trainer.declined"),
        project=project,
        as_of_us=decision.as_of_us,
        asked_us=decision.as_of_us,
        cause_id=cause.request_id,
        state=State.DECLINED,
        reason=decision.reason,
        queued_us=now_us,
        finished_us=now_us,
    )
    await book.answer(decision.requests, run.run_id)
    labels_us = [r.asked_us for r in decision.requests if r.trigger is Trigger.NEW_LABELS]
    await _consume(book, project, max(labels_us, default=0))
    await record_run(desk, book, run)


async def _gate_again(desk: Desk, book: Book, decision: GateAgain) -> None:
    run = await book.run(decision.run_id)
    if run is None:
        return
    await book.answer([decision.request], run.run_id)
    again = replace(
        run,
        mode=GATE,
        state=State.QUEUED,
        reason=decision.request.reason,
        turn=run.turn + 1,
        asked_us=max(run.asked_us, decision.request.asked_us),
        cause_id=decision.request.request_id,
        queued_us=desk.wall_us(),
        finished_us=0,
    )
    await record_run(desk, book, again)


async def _consume(book: Book, project: str, until_us: int) -> None:
    """Labels up to `until_us` have led to a decision; the trigger counts from there."""
    marks = await book.marks(project) or Marks()
    await book.put_marks(project, replace(marks, consumed_us=max(marks.consumed_us, until_us)))


def _cause(requests: Sequence[Request]) -> Request:
    return max(requests, key=lambda r: (r.asked_us, r.request_id))


async def _with_novelty(book: Book, batch: Batch) -> list[tuple[Record, bool]]:
    """Each record, and whether it has not taken effect yet."""
    place = (batch.position_topic, batch.partition)
    if not await book.seen(*place, batch.records[0].offset):
        return [(record, True) for record in batch.records]
    return [(record, not await book.seen(*place, record.offset)) for record in batch.records]


def _request(record: Record, effects: Effects) -> Request | None:
    """The request in a record; a record that holds none goes to the dead letters."""
    try:
        payload = TrainingRequest.FromString(record.data)
    except DecodeError as error:
        effects.reject(record, "DecodeError", f"not a TrainingRequest: {error}")
        return None
    if not payload.project or payload.trigger == TrainingRequest.TRIGGER_UNSPECIFIED:
        effects.reject(record, "BadRequest", "project or trigger is missing")
        return None
    try:
        trigger = Trigger(TrainingRequest.Trigger.Name(payload.trigger).lower())
    except ValueError:
        effects.reject(record, "BadRequest", f"trigger {payload.trigger} is not known here")
        return None
    event = record.event
    asked_us, reason, accepts = payload.asked_us, payload.reason, payload.accept_data
    return Request(event.id, payload.project, trigger, asked_us, reason, payload.run_id, event.actor, accepts)


def _read_label(
    record: Record, effects: Effects, labels: dict[str, dict[int, LabelBucket]], heard: dict[str, int]
) -> None:
    """Adds the label in a record to `labels`, or its heartbeat to `heard`."""
    try:
        if record.event.type == HEARTBEAT:
            beat = LabelHeartbeat.FromString(record.data)
            heard[beat.project] = max(beat.visible_us, heard.get(beat.project, 0))
            return
        label = Label.FromString(record.data)
    except DecodeError as error:
        effects.reject(record, "DecodeError", f"not a Label: {error}")
        return
    if label.outcome != Label.OBSERVED or label.revision:
        return  # censored rows teach nothing, and a correction is no new label
    end_us = bucket_end(max(label.visible_us, label.matured_us))
    buckets = labels.setdefault(label.key.project, {})
    known = buckets.get(end_us, LabelBucket(end_us, 0, ""))
    buckets[end_us] = LabelBucket(end_us, known.labels + 1, max(known.event_id, record.event.id))


Handler = Callable[[Desk, Batch, Effects], Awaitable[None]]

HANDLERS: Mapping[str, Handler] = {
    REQUESTS: on_requests,
    LABELS: on_labels,
}
