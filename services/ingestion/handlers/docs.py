"""What the data docs tell of a source: its fields as they are declared, one day as it was seen, the days before it."""

from __future__ import annotations

from dataclasses import dataclass

from millrace.definitions.model import Field, Pii, Source

from services.ingestion.domain.daily import Day
from services.ingestion.domain.expectations import Finding
from services.ingestion.errors import UnknownSource
from services.ingestion.handlers.lanes import Lane
from services.ingestion.handlers.notes import Notes, day_start_us
from services.ingestion.handlers.plane import Ingestion
from services.ingestion.ports import DayRow

MAX_DAYS = 400


@dataclass(frozen=True, slots=True)
class SourceDocs:
    """One source's page. `day` is None when nothing came on the day that was asked for."""

    project: str
    source: Source
    version: int  # of the definition that declares it so
    window_us: int
    newest_us: int  # when the last event was accepted since this room started; 0: none
    findings: tuple[Finding, ...]  # of the newest window that ended since
    day: Day | None
    days: list[DayRow]  # oldest first


class DataDocs:
    """Answers for every project's sources."""

    def __init__(self, plane: Ingestion, notes: Notes) -> None:
        self._plane = plane
        self._notes = notes

    async def source(self, project: str, name: str, day_us: int = 0, days: int = 30) -> SourceDocs:
        """The docs of one source, with the day that holds `day_us` (0: the newest). Raises UnknownProject,
        UnknownSource."""
        lane = self._lane(project, name)
        rows = await self._notes.days(lane, max(1, min(days, MAX_DAYS)))
        wanted_us = day_start_us(day_us) if day_us else rows[-1].start_us if rows else 0
        return SourceDocs(
            project=project,
            source=lane.contract.source,
            version=lane.contract.version,
            window_us=lane.window_width_us,
            newest_us=lane.watch.newest_us,
            findings=lane.watch.last_findings,
            day=await self._notes.day(lane, wanted_us) if wanted_us else None,
            days=rows,
        )

    async def all(self, days: int = 30) -> list[SourceDocs]:
        """Every source with its newest days, by project and name."""
        places = sorted((project, lane.name) for project in self._plane.versions() for lane in self._lanes(project))
        return [await self.source(project, name, days=days) for project, name in places]

    def _lanes(self, project: str) -> list[Lane]:
        return self._plane.lanes_of(project)

    def _lane(self, project: str, name: str) -> Lane:
        self._plane.now_us(project)  # says so where there is no such project
        lanes = {lane.name: lane for lane in self._lanes(project)}
        if name not in lanes:
            raise UnknownSource(f"project {project} declares no source {name} (sources: {', '.join(sorted(lanes))})")
        return lanes[name]


def expectations_of(field: Field, source: Source) -> list[str]:
    """What is expected of a field, in words."""
    said = {
        "the key": field.name == source.key,
        "the event time": field.name == source.event_time,
        "required": field.required,
        "no value twice in a window": field.unique,
    }
    words = [text for text, is_so in said.items() if is_so]
    if field.range is not None:
        words.append(f"from {field.range[0]:g} to {field.range[1]:g}")
    if field.set is not None:
        words.append(f"one of {', '.join(field.set)}")
    if field.regex is not None:
        words.append(f"wholly {field.regex}")
    if field.max_null_share is not None:
        words.append(f"null in at most {field.max_null_share * 100:g} % of a window's events")
    if field.references is not None:
        words.append(f"known from {field.references.source}.{field.references.field}")
    if field.pii is not Pii.KEEP:
        words.append(f"personal: {field.pii}")
    return words
