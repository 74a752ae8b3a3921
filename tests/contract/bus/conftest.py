"""One suite, two buses: the twin in memory and real Kafka (marked `stack`)."""

import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from millrace.bus.events import Event, Message, new_id
from millrace.bus.kafka import KafkaBus
from millrace.bus.memory import MemoryBroker, MemoryBus
from millrace.bus.ports import Bus, TopicSpec


@dataclass
class Fabric:
    """A broker of either kind, and names that no other test uses."""

    connect: Callable[[], Bus]
    tag: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    buses: list[Bus] = field(default_factory=list)

    def bus(self) -> Bus:
        self.buses.append(self.connect())
        return self.buses[-1]

    def name(self, stem: str) -> str:
        return f"{stem}-{self.tag}"

    @property
    def room(self) -> str:
        return self.name("room")

    async def topic(self, bus: Bus, stem: str = "events", partitions: int = 1, compact: bool = False) -> str:
        await bus.ensure_topics([TopicSpec(self.name(stem), partitions, compact=compact)])
        return self.name(stem)


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.stack)])
async def fabric(request: pytest.FixtureRequest) -> AsyncIterator[Fabric]:
    if request.param == "memory":
        broker = MemoryBroker()
        made = Fabric(lambda: MemoryBus(broker))
    else:
        address = request.getfixturevalue("stack").kafka
        made = Fabric(lambda: KafkaBus(address, "contract"))
    yield made
    for bus in made.buses:
        await bus.stop()


def message(topic: str, text: str, *, key: str = "k", partition: int | None = None, cause: str = "") -> Message:
    event = Event(
        id=new_id(), type="millrace.test.thing.happened.v1", source="tests", data=text.encode(), causation_id=cause
    )
    return Message(topic, event, key=key.encode(), partition=partition)
