"""Data records in, labels out: one transaction per batch, then as many more as the advance needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
from millrace.bus.effects import Effects
from millrace.bus.events import Batch, Record, TopicPartition
from millrace.bus.topics import data_topic
from millrace.runtime.forgotten import Forgotten

from services.labeling.domain.maturity import in_order, revisions
from services.labeling.domain.reading import BadRow, Reading, Stamp
from services.labeling.domain.values import Example, Truth
from services.labeling.errors import BadRecord
from services.labeling.handlers.messages import DATA_CLOCK_TYPE, LABELS, heartbeats, label_message
from services.labeling.ports import LabelBook, LabelTransaction, PartitionState, Projects

_decode_row = msgspec.json.Decoder(dict).decode


@dataclass(frozen=True, slots=True)
class Step:
    """What a batch says, and where its partition then stands."""

    examples: list[Example]
    truths: list[Truth]
    state: PartitionState


class DataHandler:
    """Consumes `data.<project>.<source>`."""

    def __init__(
        self, book: LabelBook, projects: Projects, *, most_examples: int, forgotten: Forgotten | None = None
    ) -> None:
        self._forgotten = forgotten if forgotten is not None else Forgotten()
        self._book = book
        self._projects = projects
        self._most_examples = most_examples
        self.watermarks_us: dict[str, int] = {}

    async def start(self) -> None:
        """Remember where the watermarks were."""
        self.watermarks_us.update(await self._book.watermarks())

    async def handle(self, batch: Batch, effects: Effects) -> None:
        """Take in one batch. Raises BadRecord, with nothing kept, when it holds a record that cannot be read."""
        found = self._projects.of_topic(batch.topic)
        if found is None:
            return
        reading, source = found
        project = reading.project.name
        async with self._book.transaction() as transaction:
            watermark_us = await transaction.lock(project)
            state = await transaction.partition(batch.topic, batch.partition, batch.position_topic)
            step = read_batch(batch, reading, source, state, watermark_us, self._forgotten)
            await transaction.add_examples(project, step.examples)
            await transaction.add_truths(project, step.truths)
            await transaction.advance_partition(project, batch.topic, batch.partition, batch.position_topic, step.state)
            more = await self._advance(transaction, reading, watermark_us, batch.records[-1].event.id)
        if more:
            await self.catch_up(project)

    async def catch_up(self, project: str) -> None:
        """Bring the project's watermark to where its partitions are."""
        reading = self._projects.reading(project)
        more = True
        while more:
            async with self._book.transaction() as transaction:
                more = await self._advance(transaction, reading, await transaction.lock(project), "")

    async def _advance(self, transaction: LabelTransaction, reading: Reading, previous_us: int, cause_id: str) -> bool:
        """Move the watermark on, as far as one transaction should; whether there is further to go."""
        project = reading.project.name
        self.watermarks_us[project] = previous_us
        goal_us = await self._goal(transaction, reading)
        if goal_us <= previous_us:
            return False
        stop_us = await transaction.next_stop(project, goal_us, self._most_examples)
        maturing = await transaction.maturing(project, previous_us, stop_us)
        labels = in_order(
            [
                label
                for example in maturing.examples
                for label in revisions(
                    example, maturing.truths.get(example.entity, ()), reading.verdict, previous_us, stop_us
                )
            ]
        )
        await transaction.advance(project, stop_us, labels)
        await transaction.publish([label_message(project, label) for label in labels])
        await transaction.publish(heartbeats(project, stop_us, self._projects.partitions(LABELS), cause_id))
        self.watermarks_us[project] = stop_us
        return stop_us < goal_us

    async def _goal(self, transaction: LabelTransaction, reading: Reading) -> int:
        """The time that every partition of the project's sources has closed; -1 while one was never heard of."""
        topics = [data_topic(reading.project.name, source) for source in reading.sources]
        closed = await transaction.closed(topics)
        places = [(topic, p) for topic in topics for p in self._projects.partitions(topic)]
        return min((closed.get(place, -1) for place in places), default=-1)


def read_batch(
    batch: Batch, reading: Reading, source: str, state: PartitionState, watermark_us: int, forgotten: Forgotten
) -> Step:
    """Examples and truths of the records not yet taken in. Raises BadRecord.

    A heartbeat closes its time; a data record closes the time before its own, since others may share its stamp. A
    record stamped within closed time counts as visible just after it, and so does one handed back from the dead
    letters: what was said about the past stays said.
    """
    examples: list[Example] = []
    truths: list[Truth] = []
    closed_us, handed_back = state.closed_us, bool(batch.via)
    for record in batch.records:
        if record.offset < state.next_offset:
            continue
        visible_us = _number(record, "visible_us")
        if record.event.type == DATA_CLOCK_TYPE:
            closed_us = max(closed_us, visible_us)
            continue
        stamped_us, visible_us = visible_us, max(visible_us, (watermark_us if handed_back else closed_us) + 1)
        closed_us = max(closed_us, visible_us - 1)
        if forgotten.has_rows_of(reading.project.name, source) and _is_forgotten(
            record, reading.project.name, source, stamped_us, forgotten
        ):
            continue
        example, truth = _read(record, reading, source, visible_us)
        if example is not None:
            examples.append(example)
        if truth is not None:
            truths.append(truth)
    next_offset = max(state.next_offset, batch.last_offset + 1)
    return Step(examples, truths, PartitionState(next_offset, state.closed_us if handed_back else closed_us))


def starts(
    known: Mapping[TopicPartition, int], fresh: Sequence[TopicPartition], retry: str
) -> dict[TopicPartition, int]:
    """Where fresh partitions begin: where this state stands, so a lost or restored database is rebuilt by itself."""
    return {place: known.get(place, 0) for place in fresh if place[0] != retry}


def _read(record: Record, reading: Reading, source: str, visible_us: int) -> tuple[Example | None, Truth | None]:
    try:
        row = _decode_row(record.data)
        stamp = Stamp(record.event.id, _number(record, "event_us"), visible_us)
        return reading.example(source, row, stamp), reading.truth(source, row, stamp)
    except (msgspec.DecodeError, BadRow) as error:
        raise BadRecord(f"{record.topic}:{record.partition}:{record.offset}: {error}") from error


def _is_forgotten(record: Record, project: str, source: str, visible_us: int, forgotten: Forgotten) -> bool:
    try:
        row = _decode_row(record.data)
    except msgspec.DecodeError:
        return False  # it is refused by name
    return forgotten.is_row(project, source, row, visible_us)


def _number(record: Record, header: str) -> int:
    text = record.event.extensions.get(header, "")
    try:
        return int(text)
    except ValueError:
        if record.event.type == DATA_CLOCK_TYPE and header == "visible_us":
            return _clock_body(record)
        raise BadRecord(
            f"{record.topic}:{record.partition}:{record.offset}: header {header} is {text!r}, not microseconds"
        ) from None


def _clock_body(record: Record) -> int:
    try:
        return int(_decode_row(record.data)["visible_us"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        raise BadRecord(f"{record.topic}:{record.partition}:{record.offset}: heartbeat without a time") from error
