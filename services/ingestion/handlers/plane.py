"""One plane behind every door: events are judged, led into their lane, and answered for one by one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from millrace.bus.effects import Effects
from millrace.bus.events import Batch, Record
from millrace.bus.ports import Bus
from millrace.bus.topics import TopicTable, raw_topic
from millrace.definitions.model import Clock, hours_kept
from millrace.runtime.definitions import Definition
from millrace.runtime.forgotten import Forgotten

from services.ingestion.domain.contracts import Contract, Refusal, Violation
from services.ingestion.domain.identity import stored_names
from services.ingestion.domain.personal import project_key
from services.ingestion.domain.times import latest_us, reference_us
from services.ingestion.domain.versions import SCHEME
from services.ingestion.errors import TooLarge, UnknownProject, WallClock
from services.ingestion.handlers import messages
from services.ingestion.handlers.clocks import ClockDesk, Origin, open_windows, publish_closed_windows
from services.ingestion.handlers.judge import MAX_ID_CHARACTERS, Incoming, Judged, content_id, judge, misnamed
from services.ingestion.handlers.lanes import (
    QUARANTINED,
    Count,
    CountFindings,
    Flow,
    Lane,
    MostWaiting,
    Outcome,
    no_count,
    no_findings,
)
from services.ingestion.handlers.notes import Notes
from services.ingestion.handlers.sealing import seal
from services.ingestion.handlers.versions import VersionDesk
from services.ingestion.ports import ClockRow, Keys, Ledger, Tails

log = logging.getLogger(__name__)

JUDGED_AT_ONCE = 200  # about 2 ms of checking before other calls get their turn
_RAW_HEADERS = frozenset({"ce_id", "available_us", "schema_version", "ce_dataschema"})
IDLE_HEARTBEAT_US = 1_000_000  # `clock: wall`: partitions without events are told the time this often


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of this room; the settings say why."""

    recent_ids: int = 100_000
    max_request_events: int = 10_000
    max_waiting_events: int = 20_000
    max_waiting_bytes: int = 64 * 1024 * 1024
    max_ahead_us: int = 86_400_000_000
    max_lease_ms: int = 600_000
    max_definition_wait_us: int = 60_000_000


@dataclass(frozen=True, slots=True)
class Outside:
    """What the plane needs of the outside."""

    bus: Bus
    ledger: Ledger
    tails: Tails
    topics: TopicTable
    notes: Notes
    keys: Keys
    count: Count = no_count
    count_findings: CountFindings = no_findings


class Ingestion:
    """Every project's sources. `follow_definition` opens lanes; nothing is accepted for a project before."""

    def __init__(self, outside: Outside, limits: Limits, wall_us: Callable[[], int]) -> None:
        self._outside = outside
        self._limits = limits
        self._secret = b""
        self._wall_us = wall_us
        self._definitions: dict[str, Definition] = {}
        self._lanes: dict[str, dict[str, Lane]] = {}
        self._kept_windows: dict[tuple[str, str], Mapping[str, object]] = {}
        self.busy_requests = 0
        self._schemas = VersionDesk(limits.max_definition_wait_us, wall_us)
        self.forgotten = Forgotten()
        self.clocks = ClockDesk(outside.bus, outside.ledger, self.lanes_of, wall_us)

    async def open(self, secret: bytes) -> None:
        """Reads what was kept: clocks, leases, open windows. Each project's key of hashed fields comes of `secret`."""
        self._secret = secret
        self._outside.notes.open(secret)
        await self.clocks.open()
        self._kept_windows = dict(await self._outside.ledger.windows())

    async def close(self) -> None:
        """Ends every lane after its waiting work, and keeps the open windows."""
        lanes = list(self.all_lanes())
        await asyncio.gather(*(lane.close() for lane in lanes))
        await self._outside.ledger.save_windows(open_windows(lanes))
        await self._outside.notes.close()

    def versions(self) -> dict[str, int]:
        """Project to the version of the definition whose lanes are open."""
        return {name: definition.version for name, definition in self._definitions.items()}

    def watermarks_us(self) -> dict[str, int]:
        """Project to its clock."""
        return {name: self.now_us(name) for name in self._definitions}

    def now_us(self, project: str) -> int:
        """The project's clock; 0 for a replayed one that never moved. Raises UnknownProject."""
        return self._wall_us() if self._clock_of(project) is Clock.WALL else self.clocks.now_us(project)

    def definition(self, project: str) -> Definition:
        """The definition whose lanes are open. Raises UnknownProject."""
        self._clock_of(project)
        return self._definitions[project]

    def lanes_of(self, project: str) -> list[Lane]:
        """The project's lanes."""
        return list(self._lanes.get(project, {}).values())

    def all_lanes(self) -> Iterable[Lane]:
        """Every lane."""
        return [lane for lanes in self._lanes.values() for lane in lanes.values()]

    def raw_topics(self) -> list[str]:
        """The topics that producers may write to directly."""
        return [raw_topic(project, source) for project, lanes in self._lanes.items() for source in lanes]

    async def follow_definition(self, name: str, definition: Definition | None) -> None:
        """Opens, changes and closes lanes as the new definition says. Raises BusUnavailable: to be repeated."""
        old = self._lanes.get(name, {})
        if definition is None:
            self._definitions.pop(name, None)
            self._lanes.pop(name, None)
            await asyncio.gather(*(lane.close() for lane in old.values()))
            await self._outside.notes.leave(name)
            return
        project = definition.project
        sources = [source.name for source in project.sources]
        kept = {source.name: hours_kept(source) for source in project.sources if source.retention_us}
        topics = self._outside.topics.for_project(name, sources, kept)
        await self._outside.bus.ensure_topics(topics)
        await self._outside.bus.retain(topics)
        hashing = project_key(self._secret, name, "hash")
        contracts = {source.name: Contract(source, hashing, definition.version) for source in project.sources}
        lanes = {source: lane for source, lane in old.items() if source in contracts}
        lanes |= await self._open_lanes(name, [c for source, c in contracts.items() if source not in old])
        for source, contract in contracts.items():
            lanes[source].contract = contract
            lanes[source].window_width_us = project.monitors.data_quality.window_us
        await self._outside.notes.follow(project, lanes.values())
        self._lanes[name], self._definitions[name] = lanes, definition
        await self._catch_up(name)
        await asyncio.gather(*(lane.close() for source, lane in old.items() if source not in lanes))

    async def publish(
        self, project: str, source: str, events: Sequence[Incoming], origin: Origin = ("", "")
    ) -> list[Outcome]:
        """Outcomes in the order of `events`; when this returns all are acknowledged by the broker.

        Raises UnknownProject, TooLarge, LaneFull, DefinitionOnItsWay, BusUnavailable.
        """
        return await (await self.begin(project, source, events, origin))

    async def begin(
        self,
        project: str,
        source: str,
        events: Sequence[Incoming],
        origin: Origin = ("", ""),
        flow: Flow | None = None,
    ) -> asyncio.Future[list[Outcome]]:
        """As `publish`, answered later: when this returns, what is begun next for the same source comes behind it.
        After a failure in the same `flow` nothing more of it is appended."""
        self._require_bounded(len(events))
        clock = self._clock_of(project)
        self.busy_requests += 1
        try:
            lane = self._lanes[project].get(source)
            if lane is None:
                refusing = self._refuse_unknown_source(project, source, events, origin)
                answer: asyncio.Future[list[Outcome]] = asyncio.ensure_future(refusing)
            else:
                answer = lane.submit(await self._judge_all(project, lane.contract, clock, events), origin, flow)
        except BaseException:
            self.busy_requests -= 1
            raise
        answer.add_done_callback(self._answered)
        return answer

    def _answered(self, answer: asyncio.Future[list[Outcome]]) -> None:
        self.busy_requests -= 1
        if not answer.cancelled():
            answer.exception()  # whoever asked may have gone away

    async def play(
        self,
        project: str,
        lease_id: str,
        now_us: int,
        arrivals: Mapping[str, Sequence[Incoming]],
        origin: Origin = ("", ""),
    ) -> tuple[ClockRow, list[list[Outcome]]]:
        """Publishes what became available by `now_us`, source by source, and moves the clock; outcomes in the order of
        `arrivals`. After a failure the same call may be repeated.

        Raises UnknownProject, TooLarge, LaneFull, DefinitionOnItsWay, BusUnavailable, NoSuchLease, ClockMovedBack.
        """
        self._require_bounded(sum(map(len, arrivals.values())))
        clock = self._clock_of(project)
        self.busy_requests += 1
        try:
            lanes = self._lanes[project]
            judged = {
                source: await self._judge_all(project, lanes[source].contract, clock, events)
                for source, events in arrivals.items()
                if source in lanes
            }
            row, outcomes = await self.clocks.play(project, lease_id, now_us, judged, origin)
            for source, events in arrivals.items():
                if source not in judged:
                    outcomes[source] = await self._refuse_unknown_source(project, source, events, origin)
            return row, [outcomes[source] for source in arrivals]
        finally:
            self.busy_requests -= 1

    def _require_bounded(self, events: int) -> None:
        if events > self._limits.max_request_events:
            most = self._limits.max_request_events
            raise TooLarge(f"{events} events in one request; {most} are allowed: cut it into several")

    async def acquire_clock(self, project: str, holder: str, ttl_ms: int) -> ClockRow:
        """The lease on a replayed project's clock. Raises UnknownProject, WallClock, ClockHeld."""
        if self._clock_of(project) is Clock.WALL:
            raise WallClock(f"{project} runs on the wall clock; nobody drives it")
        return await self.clocks.acquire(project, holder, max(1, min(ttl_ms or 30_000, self._limits.max_lease_ms)))

    async def beat(self) -> None:
        """One beat: on the wall clock idle partitions are told the time and windows that ended closed; everywhere the
        notes that changed are kept."""
        for project, definition in self._definitions.items():
            if definition.project.clock is not Clock.WALL:
                continue
            now_us = self._wall_us()
            lanes = self.lanes_of(project)
            for lane in lanes:
                lane.roll(now_us)
            await asyncio.gather(*(lane.heartbeat(now_us, now_us - IDLE_HEARTBEAT_US) for lane in lanes))
            await publish_closed_windows(self._outside.bus, lanes)
            await self._outside.ledger.save_windows(open_windows(lanes))
        await self._outside.notes.save()

    async def _judge_all(
        self, project: str, contract: Contract, clock: Clock, events: Sequence[Incoming]
    ) -> list[Judged]:
        now_us, wall_us = self.now_us(project), self._wall_us()
        allowance_us = contract.source.max_future_us
        judged = []
        named = {event.schema for event in events if event.schema}
        refused = self._schemas.refusals(project, contract.source.name, contract.version, named) if named else {}
        for i, event in enumerate(events, start=1):
            wanted_us = reference_us(clock, now_us, event.available_us, wall_us, self._limits.max_ahead_us)
            if refused and event.schema in refused:
                judged.append(misnamed(contract, event, refused[event.schema], wanted_us))
            else:
                judged.append(judge(contract, event, wanted_us, latest_us(wanted_us, allowance_us)))
            if i % JUDGED_AT_ONCE == 0:
                await asyncio.sleep(0)
        if contract.sealed:
            await seal(self._outside.keys, project, contract, events, judged)
        return judged

    async def _refuse_unknown_source(
        self, project: str, source: str, events: Sequence[Incoming], origin: Origin
    ) -> list[Outcome]:
        source = source[:MAX_ID_CHARACTERS]  # whatever its length, it is told in a letter
        refusal = Refusal((Violation("", "unknown_source", f"project {project} declares no source {source}"),))
        now_us = self.now_us(project)
        outcomes, letters = [], []
        for event in events:
            event_id = event.id[:MAX_ID_CHARACTERS] or content_id(source, event.json)
            judged = Judged(event_id, refusal, event.json, None, now_us)
            letters.append(messages.quarantined(project, source, judged, refusal, now_us, origin))
            outcomes.append(Outcome(judged.id, QUARANTINED, "", refusal.violations[0].reason))
        await self._outside.bus.publish(letters)
        return outcomes

    async def _open_lanes(self, project: str, contracts: Sequence[Contract]) -> dict[str, Lane]:
        """All of them or none."""
        opened = await asyncio.gather(*(self._open_lane(project, c) for c in contracts), return_exceptions=True)
        lanes = [lane for lane in opened if isinstance(lane, Lane)]
        failures = [failure for failure in opened if isinstance(failure, BaseException)]
        if failures:
            await asyncio.gather(*(lane.close() for lane in lanes))
            raise failures[0]
        return {lane.name: lane for lane in lanes}

    async def _open_lane(self, project: str, contract: Contract) -> Lane:
        limits, outside = self._limits, self._outside
        most = MostWaiting(limits.max_waiting_events, limits.max_waiting_bytes)
        lane = Lane(project, contract, outside.bus, outside.tails, limits.recent_ids, most)
        lane.count, lane.count_findings = outside.count, outside.count_findings
        kept = self._kept_windows.get((project, lane.name))
        if kept is not None:
            lane.resume_window(kept)
        await lane.open()
        self._kept_windows.pop((project, lane.name), None)
        return lane

    async def _catch_up(self, project: str) -> None:
        """Tells the kept clock to partitions that never heard of it: new ones, or after a crash in the middle."""
        now_us = self.clocks.now_us(project)
        if now_us and self._clock_of(project) is Clock.REPLAY:
            await asyncio.gather(
                *(lane.heartbeat(now_us, now_us) for lane in self.lanes_of(project) if lane.behind(now_us))
            )

    def _clock_of(self, project: str) -> Clock:
        try:
            return self._definitions[project].project.clock
        except KeyError:
            raise UnknownProject(f"no project {project} is known here") from None

    async def on_raw(self, batch: Batch, effects: Effects) -> None:
        """Events that a producer wrote to `raw.<project>.<source>`; refused ones are in quarantine afterwards."""
        project, source = batch.topic.split(".", 2)[1:]
        records = self._let_in(project, source, batch.records)
        await self.publish(project, source, [_from_record(record) for record in records], ("", ""))

    def _let_in(self, project: str, source: str, records: Sequence[Record]) -> Sequence[Record]:
        """Without what was sent of an entity before it was forgotten."""
        if not self.forgotten.has_rows_of(project, source):
            return records
        declared = self.definition(project).project.source(source)
        hashing = project_key(self._secret, project, "hash")
        return [
            record
            for record in records
            if not self.forgotten.is_raw(
                project, source, stored_names(declared, record.data, hashing), _sent_us(record)
            )
        ]


def _sent_us(record: Record) -> int:
    """When it was sent (wall); what comes back from the dead letters was sent long ago."""
    return 0 if record.via else record.timestamp_ms * 1000


def _from_record(record: Record) -> Incoming:
    headers = {name: value for name, value in record.headers if name in _RAW_HEADERS}
    # Without an id of its producer's the coordinates are the id: a second reading of the same record is then known.
    event_id = (
        headers.get("ce_id", b"").decode(errors="replace") or f"{record.topic}:{record.partition}:{record.offset}"
    )
    available = headers.get("available_us", b"")
    schema = headers.get("schema_version", b"") or _schema_uri(headers.get("ce_dataschema", b""))
    available_us = int(available) if available.isdigit() else 0
    return Incoming(record.data, event_id, available_us, schema=schema.decode(errors="replace"))


def _schema_uri(uri: bytes) -> bytes:
    """A schema of ours; those of other registries say nothing here."""
    return uri if uri.startswith(SCHEME.encode()) else b""
