"""A judge of events: the contracts of a project file, as ingestion reads them."""

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import pytest
from millrace.client.replay import ReplayEvent
from millrace.definitions import load_text

from services.ingestion.domain.contracts import Contract, Refusal

EXAMPLES = Path(__file__).parents[3] / "examples"
Refusals = Callable[[str, Iterable[ReplayEvent]], list[tuple[str, Refusal]]]


@pytest.fixture(scope="session")
def refusals() -> Refusals:
    """`refusals(example, events)`: the events that break a contract of examples/<example>/project.yaml."""

    def judge(example: str, events: Iterable[ReplayEvent]) -> list[tuple[str, Refusal]]:
        project = load_text((EXAMPLES / example / "project.yaml").read_text())
        contracts = {source.name: Contract(source, b"secret") for source in project.sources}
        found = []
        for event in events:
            verdict = contracts[event.source].check(msgspec.json.decode(event.json), event.available_us)
            if isinstance(verdict, Refusal):
                found.append((event.id, verdict))
        return found

    return judge
