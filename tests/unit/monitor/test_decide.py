"""When decisions are made: on the grid, in order, once, and only when everything before them is known."""

from dataclasses import dataclass, field

import pytest
from millrace.definitions.model import Clock
from millrace.runtime.errors import Unavailable

from services.monitor.handlers import decide
from services.monitor.handlers.decide import Cadence, Decider, Inputs


@dataclass
class Project:
    name: str = "p"
    clock: Clock = Clock.REPLAY


@dataclass
class State:
    committed: list = field(default_factory=list)
    fails: int = 0

    async def plans(self, project):
        if self.fails:
            self.fails -= 1
            raise Unavailable("the store is away")
        return []

    async def latest_alerts(self, project):
        return {}

    async def asked(self, project):
        return frozenset()

    async def commit(self, project, until_us, outcome):
        self.committed.append(until_us)


@dataclass
class Desk:
    state: State

    def wall_us(self):
        return 1


@dataclass
class World:
    now_us: int = 0
    labels_us: int = 0
    known_lag: int = 0
    lag: int = 0
    is_settled: bool = True
    clock: Clock = Clock.REPLAY

    def decider(self, decided=None, **more):
        async def settled():
            return self.is_settled

        async def lag():
            return self.lag

        project = Project(clock=self.clock)
        inputs = Inputs(
            projects=lambda: {"p": project},
            now_us=lambda _: self.now_us,
            labels_until=lambda _: self.labels_us,
            known_lag=lambda: self.known_lag,
            lag_records=lag,
            settled=settled,
        )
        state = State(**more)
        decider = Decider(Desk(state), inputs, Cadence(100, 10), dict(decided or {}))
        return decider, state


@pytest.fixture(autouse=True)
def no_watchers(monkeypatch):
    monkeypatch.setattr(decide, "WATCHERS", ())


async def test_a_replay_is_decided_at_every_step_in_order():
    world = World(now_us=450, labels_us=450)
    decider, state = world.decider({"p": 100})
    assert await decider.catch_up() is False
    assert state.committed == [200, 300, 400]
    assert decider.watermarks() == {"p": 450}
    await decider.catch_up()
    assert state.committed == [200, 300, 400]


@pytest.mark.parametrize("missing", [{"labels_us": 199}, {"known_lag": 1}, {"lag": 1}, {"is_settled": False}])
async def test_nothing_is_decided_before_all_is_known(missing):
    world = World(**{"now_us": 250, "labels_us": 250} | missing)
    decider, state = world.decider({"p": 100})
    assert await decider.catch_up() is True
    assert state.committed == []
    assert decider.watermarks()["p"] <= 199
    world.labels_us, world.known_lag, world.lag, world.is_settled = 250, 0, 0, True
    assert await decider.catch_up() is False
    assert state.committed == [200]


async def test_a_wall_clock_skips_what_it_slept_through():
    world = World(now_us=6_000_005, labels_us=6_000_005, lag=9, is_settled=False, clock=Clock.WALL)
    decider, state = world.decider({"p": 50})
    await decider.catch_up()
    assert state.committed == [1_000_000]  # the newest step that had its time to settle; requests never pause there


async def test_a_project_seen_first_is_decided_at_its_newest_step():
    world = World(now_us=450, labels_us=450)
    decider, state = world.decider()
    await decider.catch_up()
    assert state.committed == [400]
    silent = World(now_us=0)
    decider, state = silent.decider()
    assert await decider.catch_up() is False and state.committed == []


async def test_a_decision_that_fails_is_made_again():
    world = World(now_us=250, labels_us=250)
    decider, state = world.decider({"p": 100}, fails=1)
    with pytest.raises(Unavailable):
        await decider.catch_up()
    assert decider.busy == 0 and decider.decided == {"p": 100}
    await decider.catch_up()
    assert state.committed == [200]
