"""The projects of the topic `definitions`, made ready: expressions parsed, topics there, partitions counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from millrace.bus.ports import Bus
from millrace.bus.topics import TopicTable, data_topic
from millrace.runtime.definitions import Definition

from services.labeling.domain.reading import Reading, reading_of
from services.labeling.errors import UnknownProject

OnTopics = Callable[[Iterable[str]], Awaitable[None]]
LABELS = "labels"


class BookProjects:
    """A Projects. `learn` is the listener of a DefinitionBook; `topics_changed` is told what to consume."""

    def __init__(self, bus: Bus, table: TopicTable, topics_changed: OnTopics) -> None:
        self._bus = bus
        self._table = table
        self._topics_changed = topics_changed
        self._readings: dict[str, Reading] = {}
        self._topics: dict[str, tuple[str, str]] = {}
        self._partitions: dict[str, list[int]] = {}

    @property
    def names(self) -> list[str]:
        """Projects known."""
        return sorted(self._readings)

    async def learn(self, name: str, definition: Definition | None) -> None:
        """A project is new, changed or gone. Raises BusUnavailable, after which it is told again."""
        if definition is None:
            self._readings.pop(name, None)
        else:
            reading = reading_of(definition.project, definition.version)
            await self._bus.ensure_topics(self._table.for_project(name, reading.sources))
            for topic in (LABELS, *topics_of(reading)):
                self._partitions[topic] = await self._bus.partitions(topic)
            self._readings[name] = reading
        self._topics = {
            data_topic(project, source): (project, source)
            for project, reading in self._readings.items()
            for source in reading.sources
        }
        await self._topics_changed(self._topics)

    def reading(self, project: str) -> Reading:
        """As `Projects.reading`."""
        if project not in self._readings:
            raise UnknownProject(f"there is no project {project!r}")
        return self._readings[project]

    def of_topic(self, topic: str) -> tuple[Reading, str] | None:
        """As `Projects.of_topic`."""
        if topic not in self._topics:
            return None
        project, source = self._topics[topic]
        return self._readings[project], source

    def partitions(self, topic: str) -> Sequence[int]:
        """As `Projects.partitions`."""
        return self._partitions.get(topic, ())


def topics_of(reading: Reading) -> list[str]:
    """The data topics that decide a project's watermark."""
    return [data_topic(reading.project.name, source) for source in reading.sources]
