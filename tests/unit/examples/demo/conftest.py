"""A loop that closed, as the topics would show it; tests take links out of it."""

import io
from dataclasses import dataclass, field
from typing import Any

import pytest
from millrace.bus.memory import MemoryBus
from millrace.wire.inference.v1 import events_pb2 as inference
from millrace.wire.labeling.v1 import events_pb2 as labeling
from millrace.wire.monitor.v1 import events_pb2 as monitor
from millrace.wire.registry.v1 import events_pb2 as registry
from millrace.wire.trainer.v1 import events_pb2 as trainer
from rich.console import Console

from examples.flights.demo.bars import Bars
from examples.flights.demo.faults import BAD_RELEASE, DELAYS_IN_SECONDS, Fault
from examples.flights.demo.witness import Bulk, Seen, Witness

DAY_US = 86_400_000_000
T0 = 1_375_920_000_000_000  # a boundary of days and of weeks
BAD, GOOD = 3, 1
FAULTS = (Fault(BAD_RELEASE, T0, T0 + DAY_US), Fault(DELAYS_IN_SECONDS, T0 + 19 * DAY_US, T0 + 20 * DAY_US))


def alert(event_id: str, rule: str, start_us: int = 0, end_us: int = 0, **more: Any) -> Seen:
    """An alert about [start, end), in the words of the monitor."""
    query = f"project = 'flights' AND answered = 1 AND moment_us >= {start_us} AND moment_us < {end_us}"
    if rule == "label_drift":
        query = f"labels of flights with moment_us in [{start_us}, {end_us})"
    facts = {"alert_id": f"of {event_id}", "state": "firing", "evidence_query": query, "clock_us": end_us} | more
    return Seen("monitor.alerts", event_id, "", "", monitor.AlertEvent(project="flights", rule=rule, **facts))


def plan(epoch: int, *variants: tuple[int, int], cause: str = "released") -> Seen:
    """A serving plan of (version, role)s; a version's model has the digest `sha256:v<version>`."""
    listed = [registry.Variant(version=v, role=role, weight=1.0, model_digest=f"sha256:v{v}") for v, role in variants]
    body = registry.ServingPlan(project="flights", epoch=epoch, cause=cause, variants=listed)
    return Seen("models.releases", f"plan{epoch}", "", "", body)


def moved(kind: str, version: int, other: int = 0, clock_us: int = T0) -> Seen:
    """An event of the registry about a version."""
    body = registry.ModelEvent(project="flights", version=version, kind=kind, other_version=other, clock_us=clock_us)
    return Seen("models.events", f"{kind}{version}", "", "", body)


def run(run_id: str, state: int, *request_ids: str) -> Seen:
    """Where a run stands."""
    body = trainer.RunEvent(project="flights", run_id=run_id, state=state, request_ids=request_ids, clock_us=T0)
    return Seen("training.runs", f"{run_id} {state}", "", "", body)


def request(event_id: str, cause: str, trigger: int = trainer.TrainingRequest.DRIFT) -> Seen:
    """A training request with its cause."""
    return Seen("training.requests", event_id, cause, "", trainer.TrainingRequest(project="flights", trigger=trigger))


def ready(version: int) -> Seen:
    """Inference has loaded a version."""
    body = inference.ServingStatus(
        project="flights", variants=[inference.VariantStatus(version=version, state="ready")]
    )
    return Seen("serving.status", f"ready{version}", "", "", body)


def label(value: float, outcome: int = labeling.Label.OBSERVED) -> labeling.Label:
    """What came true."""
    return labeling.Label(value=value, outcome=outcome)


def prediction(entity: str, moment_us: int, output: float, **more: Any) -> inference.Prediction:
    """An answer on the topic."""
    made = inference.Prediction(prediction_id=f"{entity}@{moment_us}", outputs=[output], version=GOOD, answered=True)
    made.key.entity, made.key.moment_us = entity, moment_us
    for name, value in more.items():
        setattr(made, name, value)
    return made


@dataclass
class Loop:
    """Everything that `missing_links` looks at."""

    witness: Witness
    bulk: Bulk
    facts: dict[str, Any]
    faults: tuple[Fault, ...] = field(default=FAULTS)

    def drop(self, *event_ids: str) -> None:
        """These events were never seen."""
        assert set(event_ids) <= {s.event_id for s in self.witness.seen}
        self.witness.seen = [s for s in self.witness.seen if s.event_id not in event_ids]


@pytest.fixture
def witness() -> Witness:
    """One that has seen nothing yet."""
    return Witness(MemoryBus(), "flights", lambda seen: None)


@pytest.fixture
def loop(witness: Witness) -> Loop:
    """Released, pushed by force, rolled back, quarantined, drifted, retrained."""
    world = alert("label drift", "label_drift", T0 + 7 * DAY_US, T0 + 14 * DAY_US)
    witness.seen = [
        run("first", trainer.RunEvent.PASSED),
        plan(1, (GOOD, registry.Variant.CHAMPION)),
        ready(GOOD),
        moved("released", GOOD),
        moved("forced", BAD),
        alert("bad release", "release", subject=f"late-arrival/v{BAD}"),
        moved("rolled_back", BAD, GOOD, T0 + DAY_US),
        world,
        request("retrain", world.event_id),
        run("second", trainer.RunEvent.REFUSED, "retrain"),
        alert("broken", "data_quality", subject="departures"),
    ]
    bulk = Bulk()
    bulk.counts["quarantine"] = 5
    bulk.labels["f1", T0] = label(1.0)
    bulk.predictions["f1"] = prediction("f1", T0, 0.4)
    facts = {
        "input_rows": 9,
        "events": {"data.flights.departures": 4, "data.flights.arrivals": 5},
        "predictions": {"in_clickhouse": 1},
        "bad_version": BAD,
        "rollback": {"event_id": "rolled_back3"},
        "chain_complete": True,
        "failed_requests": 0,
        "logged_failures": 0,
    }
    return Loop(witness, bulk, facts)


@pytest.fixture
def screen() -> io.StringIO:
    """What the terminal of `bars` shows."""
    return io.StringIO()


@pytest.fixture
def bars(screen: io.StringIO) -> Bars:
    """Rows drawn into `screen`."""
    return Bars(Console(file=screen, width=160, highlight=False))
