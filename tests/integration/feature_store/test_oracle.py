"""Training sets of the room as a process, on real Kafka and ClickHouse, against the reference of twenty lines.

The spine is a user's own table, read through the SDK: ties, events that come twice, late ones, nulls, and moments at
the edges of TTLs, windows, hops and visible times; features of the entity itself and of views joined through it.
"""

import math
import uuid
from collections import Counter

import grpc
import numpy as np
import pyarrow as pa
import pytest
from millrace.bus.events import Event, Message, new_id
from millrace.bus.kafka import KafkaBus
from millrace.bus.topics import data_topic
from millrace.client.features import Features

from services.feature_store.domain.values import Status
from services.feature_store.domain.views import CompiledView
from tests.integration.feature_store.test_process import beats, publish_definition, room, settled
from tests.support.poll import until
from tests.unit.feature_store.reference import Row, expected, is_same
from tests.unit.feature_store.world import HOUR_US, MINUTE_US, START_US, event, shop

__all__ = ["room"]
pytestmark = pytest.mark.stack
ORDERS, CUSTOMERS, CHANNELS = 40, ["ann", "bob", "cyd", None], ["c0", "c1", None]
EVENTS = 300  # of each source
SPAN_US = 72 * HOUR_US
EDGES_US = [48 * HOUR_US, 5 * HOUR_US, 3 * HOUR_US, HOUR_US, 10 * MINUTE_US, 0]
END_US = START_US + 2 * SPAN_US


def made(project: str, rng: np.random.Generator) -> tuple[dict[str, list[Row]], list]:
    """Rows of each source with the offsets that they will have, and their messages; every tenth is sent twice."""
    rows: dict[str, list[Row]] = {"orders": [], "payments": []}
    messages = []
    for source, found in rows.items():
        ends = Counter()
        steps = rng.integers(0, 3, EVENTS).cumsum()  # of ten minutes: ties, and windows that hold some ten
        late = rng.choice([1, 1, 2, MINUTE_US, HOUR_US, 5 * HOUR_US], EVENTS)
        drawn = [(START_US + int(s) * 10 * MINUTE_US + int(o), int(d))
                 for s, o, d in zip(steps, rng.integers(-1, 2, EVENTS), late, strict=True)]  # fmt: skip
        for n, (event_us, delay_us) in enumerate(sorted(drawn, key=sum)):
            values, times = values_of(source, event_us, rng), 2 if n % 10 == 0 else 1
            partition = int(rng.integers(0, 2))
            found.append(Row(values, event_us, event_us + delay_us, ends[partition], partition))
            ends[partition] += times
            known = {name: value for name, value in values.items() if value is not None}
            topic, visible_us = data_topic(project, source), event_us + delay_us
            one = event(topic, f"{source}-{n}", known, event_us, visible_us, partition=partition)
            messages += [(visible_us, one)] * times
    return rows, [message for _, message in sorted(messages, key=lambda pair: pair[0])]


def values_of(source: str, event_us: int, rng: np.random.Generator) -> dict:
    number = None if rng.random() < 0.2 else round(float(rng.normal()), 3)
    common = {
        "order_id": f"o{int(rng.integers(0, ORDERS))}",
        "customer": CUSTOMERS[int(rng.integers(0, 4 if source == "orders" else 3))],
        "channel": CHANNELS[int(rng.integers(0, 3))],
    }
    if source == "orders":
        return common | {"placed_at": event_us, "amount": number, "express": None if number is None else number > 0}
    return common | {"paid_at": event_us, "delay": number}


def spine_of(rows: dict[str, list[Row]], size: int, rng: np.random.Generator) -> tuple[list[str], list[int]]:
    """Orders, one of which nobody knows, and moments an edge (and a microsecond) from what happened or was seen."""
    every = [r for found in rows.values() for r in found]
    entities, moments = [], []
    for _ in range(size):
        anchor = every[int(rng.integers(0, len(every)))]
        at_us = anchor.event_us if rng.random() < 0.5 else anchor.visible_us
        moments.append(at_us + EDGES_US[int(rng.integers(0, len(EDGES_US)))] + int(rng.integers(-1, 2)))
        entities.append(f"o{int(rng.integers(0, ORDERS + 1))}")
    return entities, moments


class Reference:
    """The model's inputs of an example, joined by hand."""

    def __init__(self, rows: dict[str, list[Row]], happened: bool) -> None:
        self._rows, self._happened = rows, happened
        self._views = {view.name: CompiledView(view, HOUR_US) for view in shop().views}
        self._known: dict[tuple, list[tuple]] = {}

    def cells(self, entity: str, at_us: int) -> list[tuple[CompiledView, int, tuple]]:
        """(view, column, (value, status, age)) in the order of the inputs."""
        order = self._say("order", entity, at_us)
        columns = self._views["order"].view.columns
        customer, channel = (order[columns.index(name)][0] for name in ("customer", "channel"))
        wanted = [("order", columns.index(name), order) for name in ("customer", "amount", "express", "hour")]
        both = None if customer is None or channel is None else f"{customer}|{channel}"
        for name, key in (("habits", customer), ("channel_habits", both)):
            said = self._say(name, key, at_us)
            wanted += [(name, i, said) for i in range(len(said))]
        return [(self._views[name], i, said[i]) for name, i, said in wanted]

    def _say(self, name: str, key: str | None, at_us: int) -> list[tuple]:
        view = self._views[name]
        if key is None:
            return [(None, Status.MISSING, -1)] * len(view.view.columns)
        asked = (name, key, at_us)
        if asked not in self._known:
            self._known[asked] = expected(view, self._rows[view.view.source], key, at_us, self._happened)
        return self._known[asked]


def compare(table: pa.Table, entities: list[str], moments: list[int], reference: Reference, scale: float) -> Counter:
    """Cells by what they say. Raises at the first that differs."""
    counted: Counter[str] = Counter()
    assert table["entity"].to_pylist() == entities and table["moment_us"].to_pylist() == moments
    features = [(name, table[name].to_pylist()) for name in table.column_names[2:]]
    for n, (entity, at_us) in enumerate(zip(entities, moments, strict=True)):
        cells = reference.cells(entity, at_us)
        for (name, values), (view, column, wanted) in zip(features, cells, strict=True):
            assert name.endswith(view.view.columns[column]), (name, view.view.columns[column])
            same = is_same(view, column, (values[n], *wanted[1:]), wanted, scale)
            assert same, (name, entity, at_us, values[n], wanted)
            counted["null" if values[n] is None else "value"] += 1
    return counted


async def hold_against_the_reference(stack, room, start: int, examples: int) -> dict[str, Counter]:
    process, _ = room
    rng = np.random.default_rng(start)
    project = shop(f"shop{uuid.uuid4().hex[:8]}")
    rows, messages = made(project.name, rng)
    entities, moments = spine_of(rows, examples, rng)
    spine = pa.table({"entity": entities, "moment": pa.array(moments, pa.int64())})
    scale = math.fsum(abs(r.values["delay"] or 0.0) for r in rows["payments"])
    bus = KafkaBus(stack.kafka, "feature-store-test")
    try:
        await publish_definition(bus, project)
        await bus.publish(messages)
        await bus.publish(beats(project.name, END_US))
    finally:
        await bus.stop()
    async with grpc.aio.insecure_channel(process.address) as channel:
        await until(lambda: settled(channel, project.name, END_US), 60, what="the room is quiet")
    counted = {}
    async with Features(process.address, project.name) as features:
        for happened in (False, True):
            found = await features.training_set(spine=spine, as_happened=happened, as_of=END_US)
            reference = Reference(rows, happened)
            mode = "as happened" if happened else "as known"
            counted[mode] = compare(await found.to_arrow(), entities, moments, reference, scale)
    await forget_definition(stack, project.name)
    return counted


async def forget_definition(stack, project: str) -> None:
    """The project is gone: the rooms of later tests on this stack need not read its events, nor ask about them."""
    bus = KafkaBus(stack.kafka, "feature-store-test")
    gone = Event(new_id(), "millrace.registry.definition.published.v1", "tests", b"")
    await bus.publish([Message("definitions", gone, key=project.encode())])
    await bus.stop()


async def test_a_training_set_says_what_the_reference_says(stack, room):
    for counted in (await hold_against_the_reference(stack, room, 2013, 400)).values():
        assert counted["value"] > 3_000 and counted["null"] > 1_000


@pytest.mark.prove
@pytest.mark.parametrize("start", range(3))
async def test_no_cell_of_a_hundred_thousand_of_a_training_set_differs(stack, room, start, proof_figures):
    counted = await hold_against_the_reference(stack, room, start, 4_000)
    proof_figures |= {"cells": {mode: dict(sorted(c.items())) for mode, c in counted.items()}, "differing": 0}
    assert all(c.total() >= 100_000 for c in counted.values())
