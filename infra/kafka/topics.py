"""Makes the topics that need no project, from the one table beside this file."""

import asyncio
from pathlib import Path

ROOMS = ("ingestion", "labeling", "feature_store", "trainer", "registry", "inference", "monitor")
TABLE = Path(__file__).with_name("topics.yaml")


def make_topics(bootstrap: str, security: dict[str, str] | None = None) -> list[str]:
    """Creates what is missing of the static topics, dead letters and ways back. Returns all names.

    Raises millrace.bus.errors.BusUnavailable when Kafka does not answer or refuses.
    """
    from millrace.bus.kafka import KafkaBus
    from millrace.bus.topics import load_topics

    table = load_topics(TABLE)
    topics = [*table.static(), *(topic for room in ROOMS for topic in table.for_room(room))]

    async def make() -> None:
        bus = KafkaBus(bootstrap, "millrace-topics", security)
        await bus.start()
        try:
            await bus.ensure_topics(topics)
        finally:
            await bus.stop()

    asyncio.run(make())
    return [topic.name for topic in topics]
