"""Feature_store processes die, are stopped and lose what they stand on, exactly between two steps: nothing is lost or
doubled."""

import asyncio
import os
import random
import signal
from collections import Counter
from dataclasses import dataclass

import pytest

from tests.faults.workers import Workers, running_workers
from tests.support.poll import until
from tests.support.proxies import Hold, Proxy, containing, kafka_request, owner_of

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1800)]

CLIENT = b"millrace-feature_store"
ZOMBIE_S = 15.0  # beyond the session timeout: others take the partitions over
HELD_S = 25.0  # a rebalance after a kill lasts as long as a session
PRODUCE, COMMIT = kafka_request(0, CLIENT), kafka_request(8, CLIENT)
SWAP, READ, INSERT = containing(b"EVALSHA", b"EVAL"), containing(b"MGET"), containing(b"INSERT")
# Every place between two steps: where (proxy), which message, and whether the server has had it already.
STEPS = {
    "rows read, nothing swapped": ("redis", READ, True),
    "before the swap": ("redis", SWAP, False),
    "swapped, not known": ("redis", SWAP, True),
    "before the insert": ("clickhouse", INSERT, False),
    "inserted, not known": ("clickhouse", INSERT, True),
    "effects done, before produce": ("kafka", PRODUCE, False),
    "produced, not known": ("kafka", PRODUCE, True),
    "produced, before commit": ("kafka", COMMIT, False),
    "committed, not known": ("kafka", COMMIT, True),
}
SIGNALS = {"TERM": signal.SIGTERM, "KILL": signal.SIGKILL, "STOP": signal.SIGSTOP}
ENDED_BEFORE = "of a process that the other fault had ended"
SAMPLE_SEED = 46
OUTAGES = ("broker restart", "Redis restart", "ClickHouse reply cut")


@dataclass(frozen=True)
class Fault:
    """What is done: a signal at a step, or an outage."""

    kind: str
    step: str = ""


def plan(seed: int, rounds: int) -> list[list[Fault]]:
    """Two signals a round, at different steps, all steps in turn; every fifth round an outage instead of one."""
    seeded = random.Random(seed)
    turn: list[str] = []
    made = []
    for number in range(rounds):
        while len(turn) < 2:
            turn += seeded.sample(sorted(STEPS), len(STEPS))
        kinds = seeded.choices(sorted(SIGNALS), weights=(6, 1, 3), k=2)  # KILL, STOP, TERM
        faults = [Fault(kind, turn.pop()) for kind in kinds]
        if number % 5 == seed % 5:
            faults[1] = Fault(OUTAGES[(number // 5 + seed) % len(OUTAGES)])
        made.append(faults)
    return made


async def disturbed(workers: Workers, seed: int, rounds: int) -> dict[str, object]:
    """The plan of one seed, while records come; then everything is counted."""
    seeded, done = random.Random(f"events {seed}"), Counter[str]()
    for faults in plan(seed, rounds):
        publishing = asyncio.create_task(keep_publishing(workers, seeded))
        try:
            done.update(await asyncio.gather(*(inflict(workers, fault, seeded) for fault in faults)))
        finally:
            publishing.cancel()
            await asyncio.wait([publishing])
        assert publishing.cancelled(), publishing.exception()
    await workers.drained()
    kills = sum(count for name, count in done.items() if name.split()[0] in SIGNALS and ENDED_BEFORE not in name)
    assert kills >= rounds, done  # of two faults a round one may have come too late, or be an outage
    return {"seed": seed, "kills": kills, "faults": dict(sorted(done.items())), **await workers.check()}


async def keep_publishing(workers: Workers, seeded: random.Random) -> None:
    """A little every tenth of a second; what is being published is finished first."""
    while True:
        await asyncio.shield(workers.publish(seeded))
        await until_passed(0.15)


async def inflict(workers: Workers, fault: Fault, seeded: random.Random) -> str:
    """Does it; says what it was."""
    control = workers.stack
    if fault.kind == "broker restart":
        await asyncio.to_thread(control.kill_part, "kafka")
        await asyncio.to_thread(control.start_part, "kafka")
    elif fault.kind == "Redis restart":
        await asyncio.to_thread(control.kill_part, "valkey")
        await asyncio.to_thread(control.start_part, "valkey")
    elif fault.kind == "ClickHouse reply cut":
        hold = workers.proxies["clickhouse"].hold(INSERT, reply=True)
        came = await is_held(hold)
        hold.cut()
        return fault.kind if came else f"{fault.kind}: none came"
    else:
        return await at_step(workers, fault, seeded)
    return fault.kind


async def at_step(workers: Workers, fault: Fault, seeded: random.Random) -> str:
    """The signal, to whoever came to the step; a step that nobody came to is said so."""
    where, match, reply = STEPS[fault.step]
    proxy: Proxy = workers.proxies[where]
    hold = proxy.hold(match, reply=reply)
    came = await is_held(hold)
    pids = list(workers.pids().values())
    pid = owner_of(hold.client_port, pids) if came else 0
    if not pid:
        pid = seeded.choice(pids)
    try:
        os.kill(pid, SIGNALS[fault.kind])
        if fault.kind == "KILL":
            await workers.ended(pid)
        elif fault.kind == "TERM":
            hold.release()
            await workers.ended(pid)
        else:
            hold.release()  # what it waits for is there when it wakes up
            await until_passed(ZOMBIE_S)
            os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return f"{fault.kind} {ENDED_BEFORE}"
    finally:
        hold.release()
    return f"{fault.kind} {fault.step if came else 'anywhere'}"


async def is_held(hold: Hold) -> bool:
    """Whether the message came within the time."""
    try:
        await until(hold.held.is_set, HELD_S)
    except AssertionError:
        hold.release()
        return False
    return True


async def until_passed(seconds: float) -> None:
    """The time, on the loop's clock."""
    end = asyncio.get_running_loop().time() + seconds
    await until(lambda: asyncio.get_running_loop().time() >= end, seconds + 30)


async def test_nothing_is_lost_or_doubled_between_two_steps(tmp_path):
    """A kill between effects and produce, a term, a zombie and a restart of Redis."""
    async with running_workers(tmp_path) as workers:
        figures = await disturbed(workers, SAMPLE_SEED, 2)
    assert figures["kills"] == 3


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(12))
async def test_nothing_is_lost_or_doubled_in_two_hundred_kills(tmp_path, seed, proof_figures):
    async with running_workers(tmp_path) as workers:
        proof_figures |= await disturbed(workers, seed, 10)
