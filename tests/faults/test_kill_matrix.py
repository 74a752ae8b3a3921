"""Rooms are killed at seeded moments of a publish: nothing is lost, nothing doubled, online equals history."""

import asyncio
import random
from collections.abc import Sequence

import pytest
from millrace.client.replay import Progress

from tests.support.poll import until
from tests.support.stations import SLICES_PER_HOUR, Stations, running_stations

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

ROOMS = ("ingestion", "labeling", "feature_store", "registry", "inference", "monitor")
SEEDS = 10
HOURS = 24
SLICES = HOURS * SLICES_PER_HOUR
LATEST_DELAY_S = 0.2  # within about a slice: also between what a slice publishes and its move of the clock
BACK_S = 120.0


@pytest.fixture(scope="module")
def stations(tmp_path_factory):
    with running_stations(tmp_path_factory.mktemp("kills"), restart=True, days=80) as made:
        yield made


async def killed_while_publishing(stations: Stations, seed: int, rooms: Sequence[str]) -> dict[str, object]:
    """Kills each room once, at a seeded slice and a seeded moment in it, then counts everything."""
    seeded = random.Random(f"{seed} {' '.join(rooms)}")
    plan = {room: (seeded.randrange(2, SLICES - 8), seeded.uniform(0, LATEST_DELAY_S)) for room in rooms}
    before = await stations.pids()
    loop = asyncio.get_running_loop()
    slices_before = 0

    def kill_in_time(progress: Progress) -> None:
        nonlocal slices_before
        for room, (at_slice, delay_s) in plan.items():
            if slices_before < at_slice <= progress.slices:
                loop.call_later(delay_s, stations.platform.supervisor.kill, room)
        slices_before = progress.slices

    outcome = await stations.drive(HOURS, kill_in_time)
    await until(lambda: replaced(stations, before, rooms), BACK_S, what=f"{rooms} are started again")
    await stations.rest()
    figures = await stations.check(seed)
    return {"plan": plan, "asked": outcome.asked, "unanswered": len(outcome.failures), **figures}


async def replaced(stations: Stations, before: dict[str, int], rooms: Sequence[str]) -> bool:
    now = await stations.pids()
    assert set(now) == set(before), f"no answer from {sorted(set(before) - set(now))}"
    assert all(now[room] != before[room] for room in rooms), (before, now)
    assert all(now[room] == pid for room, pid in before.items() if room not in rooms), "nobody else died"
    return True


async def test_nothing_is_lost_or_doubled_when_two_rooms_are_killed(stations):
    await killed_while_publishing(stations, 1, random.Random(1).sample(ROOMS, 2))


@pytest.mark.prove
@pytest.mark.parametrize(("seed", "room"), [(seed, room) for seed in range(SEEDS) for room in ROOMS])
async def test_nothing_is_lost_or_doubled_whichever_room_is_killed(stations, seed, room, proof_figures):
    proof_figures |= await killed_while_publishing(stations, seed, [room])
