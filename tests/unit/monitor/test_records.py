"""Records as rows: every topic has a handler, nulls stay nulls, and a payload that is none is refused."""

import asyncio
import math

import pytest
from millrace.bus.effects import Effects
from millrace.bus.events import Batch, Event, Message
from millrace.bus.memory import MemoryBus
from millrace.bus.ports import TopicSpec
from millrace.bus.topics import load_topics
from millrace.wire.common.v1.common_pb2 import ExampleKey, Value
from millrace.wire.inference.v1.events_pb2 import Prediction, ServingStatus, VariantStatus
from millrace.wire.labeling.v1.events_pb2 import Label, LabelHeartbeat
from millrace.wire.registry.v1.events_pb2 import ModelEvent, ServingPlan, Variant

from services.monitor.entrypoints.consumer import workers
from services.monitor.errors import BadEvent
from services.monitor.handlers import HANDLERS, records
from services.monitor.handlers.sinks import Sinks, plan_of
from tests.support.poll import until


async def batch(topic, *bodies, kind="millrace.test.thing.happened.v1"):
    bus = MemoryBus()
    for i, body in enumerate(bodies):
        data = body if isinstance(body, bytes) else body.SerializeToString()
        await bus.publish([Message(topic, Event(f"id-{i}", kind, "test", data), key=b"k")])
    found = tuple(bus.records(topic))
    return Batch(topic, found[0].partition, found)


class Recorder:
    """A port that remembers its calls."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        async def call(*args):
            self.calls.append((name, args))

        return call


@pytest.fixture
def sinks():
    return Sinks(Recorder(), Recorder(), Recorder(), lambda project: 7, lambda: 1000, lambda: None)


def test_every_topic_of_the_monitor_has_a_handler():
    read = {row.pattern for row in load_topics().rows if "monitor" in row.readers}
    followed = {"clocks", "data.forget"}
    assert set(HANDLERS) == read - followed


async def test_a_prediction_keeps_its_nulls():
    body = Prediction(
        prediction_id="a", key=ExampleKey(project="p", entity="e", moment_us=5), model="m", version=2,
        outputs=[0.25], inputs={"n": Value(number=3), "t": Value(text="x"), "gone": Value(), "flag": Value(flag=True)},
    )  # fmt: skip
    columns = records.prediction_columns((await batch("predictions", body, Prediction(prediction_id="b"))).records)
    assert columns["output"][0] == 0.25 and math.isnan(columns["output"][1])
    numbers, texts = dict(columns["numbers"][0]), dict(columns["texts"][0])
    assert numbers["n"] == 3 and numbers["flag"] == 1 and math.isnan(numbers["gone"])
    assert texts == {"t": "x", "gone": ""}


async def test_labels_and_heartbeats_go_their_ways(sinks):
    label = Label(key=ExampleKey(project="p", entity="e", moment_us=5), outcome=Label.CENSORED, value=1)
    await HANDLERS["labels"](sinks, await batch("labels", label), Effects("monitor", lambda: 0))
    ((name, (columns, _)),) = sinks.log.calls
    assert name == "add_labels" and math.isnan(columns["value"][0]) and columns["outcome"] == ["CENSORED"]
    beat = await batch("labels", LabelHeartbeat(project="p", visible_us=9), kind=records.LABEL_HEARTBEAT)
    await HANDLERS["labels"](sinks, beat, Effects("monitor", lambda: 0))
    assert sinks.state.calls == [("heartbeat", ({("p", beat.partition): 9},))]
    assert sinks.labels_until == {("p", beat.partition): 9}


async def test_a_payload_that_is_none_is_refused(sinks):
    with pytest.raises(BadEvent, match=r"predictions:.*is no Prediction"):
        await HANDLERS["predictions"](sinks, await batch("predictions", b"\xff\xff"), Effects("monitor", lambda: 0))


async def test_a_replica_that_repeats_itself_is_no_news(sinks):
    status = ServingStatus(replica="r", model="m", epoch=1, variants=[VariantStatus(version=1, state="ready")])
    await HANDLERS["serving.status"](
        sinks, await batch("serving.status", status, status), Effects("monitor", lambda: 0)
    )
    status.epoch = 2
    await HANDLERS["serving.status"](sinks, await batch("serving.status", status), Effects("monitor", lambda: 0))
    assert [len(args[0]["event_id"]) for _, args in sinks.index.calls] == [1, 1]


async def test_events_get_one_line_for_a_person():
    event = ModelEvent(model="m", version=3, from_state="canary", to_state="champion", kind="promoted", reason="good")
    assert records.describe_model(event).summary == "m v3 promoted (canary → champion): good"
    plan = ServingPlan(
        model="m", epoch=4,
        variants=[Variant(version=3, role=Variant.CHAMPION), Variant(version=2, role=Variant.SHADOW, fallback=True)],
    )  # fmt: skip
    assert records.describe_plan(plan).summary == "m epoch 4: v3 champion, v2 shadow (warm)"
    assert plan_of(plan, "e", 1).target.version == 2
    assert "nothing serves" in records.describe_plan(ServingPlan()).summary


async def test_a_prediction_that_fails_by_itself_does_not_hold_up_the_log_and_comes_later():
    """Its insert has a token of its own: one that named the topic's own offsets would be dropped as a repeat."""
    bus, recorder = MemoryBus(), Recorder()
    stuck = True

    class Log:
        async def add_predictions(self, columns, token):
            if stuck and "p3" in columns["prediction_id"]:
                raise OSError("no row can be made of it")
            await recorder.add_predictions(list(columns["prediction_id"]), token)

    sinks = Sinks(Log(), Recorder(), Recorder(), lambda project: 7, lambda: 1000, lambda: None)
    by_group = workers(bus, sinks, 100)
    worker = by_group["monitor.predictions"]
    await bus.ensure_topics([TopicSpec("predictions", 1)])
    for n in range(5):
        body = Prediction(prediction_id=f"p{n}")
        await bus.publish([Message("predictions", Event(f"e{n}", "t", "s", body.SerializeToString()), key=b"k")])
    running = asyncio.ensure_future(worker.run())
    try:
        await until(lambda: worker.report().tally.delayed["predictions"] == 1, 20)
        stuck = False
        await until(lambda: sum(len(ids) for _, (ids, _) in recorder.calls) == 5, 20)
        assert worker.dead_letters == 0
    finally:
        running.cancel()
        await asyncio.wait([running])
    tokens = {token: ids for _, (ids, token) in recorder.calls}
    assert tokens["delayed.monitor:0:0:0"] == ["p3"]
    assert len(tokens) == len(recorder.calls)
