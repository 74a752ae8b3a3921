"""Kafka, Valkey and ClickHouse are killed under seven running rooms: the rooms stay, say so, and catch up."""

import asyncio
import time

import pytest
from millrace.client.addresses import ROOMS

from infra.embedded.platform import probe_room
from infra.embedded.stack import PARTS
from tests.support.poll import until
from tests.support.stations import Stations, in_thread, running_stations

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

SAY_SO_S = 60.0
MOST_SAID = 120  # characters of a reason that are kept with the proof
TROUBLED = {
    "kafka": set(ROOMS),
    "valkey": {"feature_store"},
    "clickhouse": {"labeling", "feature_store", "monitor"},
}
"""Who cannot do its work without the part, and has to say so."""
ROUNDS = 5


@pytest.fixture(scope="module")
def stations(tmp_path_factory):
    # Nothing is started again by itself: the part stays away as long as the test wants, and a room that died is seen.
    with running_stations(tmp_path_factory.mktemp("parts"), restart=False, days=40) as made:
        yield made


async def gone_and_back(stations: Stations, part: str, seed: int = 0) -> dict[str, object]:
    """Events before, while `part` is away, and after; then everything is counted."""
    control = stations.platform.stack
    await stations.drive(24)
    await stations.rest()
    rooms = await stations.pids()
    assert len(rooms) == 7
    await in_thread(control.kill_part, part)
    gone_at = time.monotonic()
    meanwhile = asyncio.create_task(stations.drive(8))  # without Kafka the producer repeats until it is back
    try:
        said = await until(lambda: complaints(stations, TROUBLED[part]), SAY_SO_S, what=f"rooms miss {part}")
        said_after_s = round(time.monotonic() - gone_at, 1)
        await until(lambda: out_of_rotation(stations, "feature_store"), SAY_SO_S, what=f"/readyz misses {part}")
    finally:
        await in_thread(control.start_part, part)
        await meanwhile
    await stations.drive(4)
    await stations.rest()
    await until(lambda: no_complaints(stations, TROUBLED[part]), SAY_SO_S, what=f"rooms are content with {part}")
    assert await stations.pids() == rooms, "no room died of it"
    return {"said_after_s": said_after_s, "said": said, **await stations.check(seed)}


async def complaints(stations: Stations, rooms: set[str]) -> dict[str, list[str]]:
    """What each room says that it lacks, once all of `rooms` say something."""
    seen = {room: list(status.reasons) for room, status in (await stations.look()).items() if status is not None}
    silent = {room for room in rooms if not any("starting" not in reason for reason in seen.get(room, []))}
    assert not silent, f"{sorted(silent)} say nothing; others: {seen}"
    return {room: [reason[:MOST_SAID] for reason in reasons] for room, reasons in seen.items() if reasons}


async def out_of_rotation(stations: Stations, room: str) -> bool:
    """A room may say first what only degrades it; a probe has to see, too, that it cannot do its work."""
    assert await asyncio.to_thread(probe_room, f"http://{stations.addresses.http(room)}"), (
        f"{room} says that it is ready"
    )
    return True


async def no_complaints(stations: Stations, rooms: set[str]) -> bool:
    seen = await stations.look()
    still = {room: list(seen[room].reasons) if seen[room] else ["does not answer"] for room in rooms}
    assert not any(still.values()), still
    return True


@pytest.mark.parametrize("part", PARTS)
async def test_rooms_say_that_a_part_is_gone_and_catch_up(stations, part):
    await gone_and_back(stations, part)


@pytest.mark.prove
@pytest.mark.parametrize(("turn", "part"), [(turn, part) for turn in range(ROUNDS) for part in PARTS])
async def test_rooms_survive_the_loss_of_any_part_again_and_again(stations, turn, part, proof_figures):
    proof_figures |= await gone_and_back(stations, part, seed=turn)
