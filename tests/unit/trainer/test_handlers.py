"""Records become requests, counts and runs; nothing is lost or doubled by a repeat."""

from millrace.bus.events import Event, derive_id
from millrace.definitions.model import Clock
from millrace.runtime.definitions import Definition
from millrace.wire.labeling.v1.events_pb2 import Label
from millrace.wire.trainer.v1.events_pb2 import RunEvent, TrainingRequest

from services.trainer.handlers import look_again
from tests.unit.trainer.world import HOUR_US, MINUTE_US, START_US, World, definition_of, project

DAY_US = 24 * HOUR_US


async def test_a_request_waits_for_the_clock_and_then_becomes_a_queued_run(world):
    await world.ask(TrainingRequest.DRIFT, START_US, "drift-1")
    assert await world.run_events() == []
    assert world.runs.unfinished_runs == 0  # debounce is no work under way
    await world.beat(START_US + HOUR_US)
    [queued] = await world.run_events()
    assert (queued.state, queued.clock_us, list(queued.request_ids)) == (
        RunEvent.QUEUED, START_US + HOUR_US, ["drift-1"],
    )  # fmt: skip
    [event] = await world.published("training.runs")
    assert event.causation_id == "drift-1" and event.type == "millrace.trainer.run.queued.v1"
    assert event.subject == "pumps"
    assert world.runs.unfinished_runs == 1 and world.changed.is_set()


async def test_a_repeated_batch_changes_nothing(world):
    batch = await world.ask(TrainingRequest.MANUAL, START_US, "by-hand")
    labels = await world.labels([START_US] * 4)
    before = await world.run_events()
    await world.handle(batch)
    await world.handle(labels)
    assert await world.run_events() == before
    async with world.runs.read() as book:
        assert await book.count_labels("pumps", 0) == 0 or await book.count_labels("pumps", 0) == 4
        assert len(await book.newest_runs("pumps", 10, unfinished_only=False)) == 1


async def test_enough_new_labels_ask_by_an_event_whose_cause_is_the_label_that_crossed(world):
    times = [START_US + i * MINUTE_US for i in range(12)]
    await world.labels(times[::2], partition=0)
    await world.labels(times[1::2], partition=1)
    await world.beat(times[-1], 0)
    assert await world.published("training.requests") == []  # partition 1 may still bring earlier labels
    await world.beat(times[4], 1)
    assert await world.published("training.requests") == []
    await world.beat(times[-1], 1)
    [asked] = await world.published("training.requests")
    crossing = f"label-1-{times[9]}-4"
    assert asked.causation_id == crossing and asked.id == derive_id(crossing, "trainer.new_labels")
    request = TrainingRequest.FromString(asked.data)
    assert (request.trigger, request.asked_us) == (TrainingRequest.NEW_LABELS, times[9])
    await world.feed("training.requests", [asked])  # our own event comes back
    await world.beat(times[9] + HOUR_US)
    [queued] = await world.run_events()
    assert list(queued.request_ids) == [asked.id] and queued.clock_us == times[9] + HOUR_US


async def test_the_order_of_partitions_does_not_change_when_a_run_is_asked_for():
    asked = []
    for order in ((0, 1), (1, 0)):
        world = World(project())
        await world.start()
        for partition in order:
            await world.labels([START_US + (2 * i + partition) * MINUTE_US for i in range(9)], partition)
            await world.beat(START_US + DAY_US, partition)
        asked += [(e.id, e.causation_id) for e in await world.published("training.requests")]
        await world.stop()
    assert len(asked) == 2 and asked[0] == asked[1]


async def test_censored_labels_and_corrections_do_not_count(world):
    await world.labels([START_US] * 20, outcome=Label.CENSORED)
    await world.labels([START_US] * 20, revision=1)
    await world.beat(START_US + DAY_US)
    assert await world.published("training.requests") == []


async def test_labels_are_counted_afresh_after_a_run(world):
    await world.labels([START_US] * 15)
    await world.beat(START_US + HOUR_US)
    assert len(await world.published("training.requests")) == 1
    assert len(await world.run_events()) == 1
    await world.labels([START_US + 2 * HOUR_US] * 9)
    await world.beat(START_US + 3 * HOUR_US)
    assert len(await world.published("training.requests")) == 1
    await world.labels([START_US + 4 * HOUR_US])
    await world.beat(START_US + 5 * HOUR_US)
    assert len(await world.published("training.requests")) == 2


async def test_declined_requests_are_published_with_the_reason():
    world = World(project(on_drift=False))
    await world.start()
    await world.ask(TrainingRequest.DRIFT, START_US, "drift-1")
    [declined] = await world.run_events()
    assert declined.state == RunEvent.DECLINED and "drift" in declined.reason
    assert list(declined.request_ids) == ["drift-1"]
    await world.stop()


async def test_the_schedule_of_a_wall_clock_asks_at_its_turns():
    world = World(definition_of(Clock.WALL, every_us=DAY_US, debounce_us=0, cooldown_us=0))
    await world.start()
    await look_again(world.desk)
    assert await world.published("training.requests") == []  # the first turn is yet to come
    world.clocks.time_us += 3 * DAY_US
    await look_again(world.desk)
    await look_again(world.desk)
    [asked] = await world.published("training.requests")
    assert TrainingRequest.FromString(asked.data).trigger == TrainingRequest.SCHEDULE
    [queued] = await world.run_events()
    assert queued.clock_us == world.clocks.time_us
    await world.stop()


async def test_a_request_for_a_project_that_is_not_known_yet_waits_for_its_definition(world):
    known, world.definitions.projects = world.definitions.projects, {}
    await world.ask(TrainingRequest.MANUAL, START_US, "early")
    assert await world.run_events() == []
    world.definitions.projects = known
    await look_again(world.desk)
    assert [e.state for e in await world.run_events()] == [RunEvent.QUEUED]


async def test_what_cannot_be_read_goes_to_the_dead_letters_and_the_rest_is_handled(world):
    good = TrainingRequest(project="pumps", trigger=TrainingRequest.MANUAL, asked_us=START_US)
    none = TrainingRequest(trigger=TrainingRequest.MANUAL)
    events = [
        Event(f"e{i}", "t", "s", data)
        for i, data in enumerate((b"\xff\xff", none.SerializeToString(), good.SerializeToString()))
    ]
    await world.feed("training.requests", events)
    assert world.effects.rejected == 2
    assert len(await world.run_events()) == 1
    await world.feed("labels", [Event("bad", "t", "s", b"\xff\xff")])
    assert world.effects.rejected == 3


async def test_a_newer_definition_is_what_decides(world):
    await world.ask(TrainingRequest.DRIFT, START_US, "drift-1")
    world.definitions.projects = {"pumps": Definition(2, "sha256:e", project(on_drift=False))}
    await look_again(world.desk)
    assert [e.state for e in await world.run_events()] == [RunEvent.DECLINED]
