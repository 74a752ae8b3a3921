"""What one group read is there for the others of the process: whole, without gaps, bounded, and not for ever."""

import asyncio
import random
from collections.abc import Callable

import pytest
from millrace.bus.events import Batch, Record
from millrace.bus.sharing import LEADS_S, RECORD_BYTES, Pages, Share

PLACE = ("data.p.readings", 0)
TOPIC = PLACE[0]
PAYLOAD = b"x" * 100
ANYWHERE = 10**9
ONE = RECORD_BYTES + len(PAYLOAD)


def record(offset: int, partition: int = 0) -> Record:
    return Record(TOPIC, partition, offset, None, (), PAYLOAD, 0)


def batch(first: int, count: int, partition: int = 0) -> Batch:
    return Batch(TOPIC, partition, tuple(record(offset, partition) for offset in range(first, first + count)))


def offsets(taken: Batch) -> list[int]:
    return [one.offset for one in taken.records]


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pages(clock: Clock) -> Pages:
    return Pages(most_bytes=100 * ONE, keep_s=2.0, now_s=clock)


def member(pages: Pages, at: int = 0, *, follows: bool = False) -> Share:
    share = pages.share(follows=follows)
    share.subscribes([TOPIC])
    share.goes(PLACE, at)
    share.polls({PLACE})
    return share


def test_a_large_page_comes_as_the_very_batch_that_the_other_group_had(pages: Pages) -> None:
    one, other = member(pages), member(pages)
    read = batch(0, 50)
    one.read(read, end=70)
    assert not one.finds(PLACE, ANYWHERE)
    assert other.finds(PLACE, ANYWHERE)
    taken, end = other.take(PLACE, 50)
    assert taken is read
    assert end == 70
    assert not other.finds(PLACE, ANYWHERE)
    assert pages.bytes == 0  # everybody has it


def test_small_pages_come_together_and_no_more_than_wanted(pages: Pages) -> None:
    one, other = member(pages), member(pages)
    for first in range(0, 30, 3):
        one.read(batch(first, 3), end=30)
    taken, _ = other.take(PLACE, 20)
    assert offsets(taken) == list(range(12))  # half of what was wanted is large enough
    taken, _ = other.take(PLACE, 5)
    assert offsets(taken) == list(range(12, 15))
    one.read(batch(30, 30), end=60)
    taken, _ = other.take(PLACE, 32)
    assert offsets(taken) == list(range(15, 47))
    taken, _ = other.take(PLACE, 32)
    assert offsets(taken) == list(range(47, 60))
    assert pages.bytes == 0


def test_who_stands_inside_a_page_gets_what_is_left_of_it(pages: Pages) -> None:
    one, other = member(pages), member(pages, at=4)
    one.read(batch(0, 10), end=10)
    taken, _ = other.take(PLACE, 3)
    assert offsets(taken) == [4, 5, 6]
    taken, _ = other.take(PLACE, 100)
    assert offsets(taken) == [7, 8, 9]


def test_nothing_is_kept_for_who_is_elsewhere(pages: Pages) -> None:
    one, behind = member(pages, at=50), member(pages, at=10)
    one.read(batch(50, 10), end=60)
    assert pages.bytes == 0
    behind.read(batch(10, 40), end=60)  # catches up
    one.read(batch(60, 5), end=65)
    assert pages.bytes == 0
    behind.read(batch(50, 10), end=65)
    one.read(batch(65, 5), end=70)
    assert not behind.finds(PLACE, ANYWHERE)  # 60 to 65 were read by the one alone
    behind.read(batch(60, 10), end=70)
    one.read(batch(70, 5), end=75)
    assert behind.finds(PLACE, ANYWHERE)


def test_a_hole_between_two_pages_is_never_stepped_over(pages: Pages) -> None:
    one, other = member(pages), member(pages)
    one.read(batch(0, 5), end=20)
    one.goes(PLACE, 10)
    one.read(batch(10, 5), end=20)
    taken, _ = other.take(PLACE, 100)
    assert offsets(taken) == [0, 1, 2, 3, 4]
    assert not other.finds(PLACE, ANYWHERE)
    other.goes(PLACE, 12)
    assert not other.finds(PLACE, ANYWHERE)


def test_a_group_that_joins_is_waited_for_and_the_partitions_of_others_are_not(pages: Pages) -> None:
    one, joining = member(pages), pages.share()
    joining.subscribes([TOPIC])
    one.read(batch(0, 5), end=5)
    one.read(batch(0, 5, partition=1), end=5)
    assert pages.bytes == 10 * ONE
    joining.goes(PLACE, 0)
    joining.polls({PLACE})
    assert pages.bytes == 5 * ONE
    assert joining.finds(PLACE, ANYWHERE)
    joining.leave()
    assert pages.bytes == 0


def test_what_nobody_came_for_in_time_is_gone_and_who_did_not_come_reads_for_itself(pages: Pages, clock: Clock) -> None:
    one, stuck = member(pages), member(pages)
    one.read(batch(0, 50), end=300)
    clock.now_s = 2.0
    assert not stuck.finds(PLACE, ANYWHERE)
    one.read(batch(50, 50), end=300)
    assert pages.bytes == 0  # it is out of reach
    stuck.read(batch(0, 100), end=300)
    one.read(batch(100, 50), end=300)
    assert stuck.finds(PLACE, ANYWHERE)


def test_who_follows_lets_the_others_read_first_but_not_for_long(pages: Pages, clock: Clock) -> None:
    leads, follows, too = member(pages), member(pages, follows=True), member(pages, follows=True)
    assert follows.is_led(PLACE)
    assert not leads.is_led(PLACE)
    leads.read(batch(0, 10), end=20)
    assert not follows.is_led(PLACE)  # it finds what was read
    follows.take(PLACE, 10)
    assert follows.is_led(PLACE)
    clock.now_s = LEADS_S
    assert not follows.is_led(PLACE), "the other stands still"
    leads.goes(("another", 0), 7)
    assert follows.is_led(PLACE), "it was busy elsewhere"
    follows.read(batch(10, 10), end=30)
    assert not follows.is_led(PLACE), "the other is behind"
    leads.leave()
    too.goes(PLACE, 20)
    assert not follows.is_led(PLACE), "two that follow would wait for each other"


def test_who_joins_may_lead(pages: Pages, clock: Clock) -> None:
    follows, joining = member(pages, follows=True), pages.share()
    assert not follows.is_led(PLACE)
    joining.subscribes([TOPIC])
    assert follows.is_led(PLACE)
    assert not follows.is_led(("another", 0))
    clock.now_s = 2.0
    follows.goes(PLACE, 5)
    assert not follows.is_led(PLACE), "it takes too long to join"


def test_a_topic_made_anew_is_not_read_from_what_the_old_one_held(pages: Pages, clock: Clock) -> None:
    one, other = member(pages), member(pages)
    one.read(batch(0, 10), end=10)
    other.dealt()
    clock.now_s = 2.0
    other.goes(PLACE, 0)
    other.polls({PLACE})
    assert not other.finds(PLACE, ANYWHERE)


def test_a_log_that_was_made_anew_under_a_group_is_not_read_from_the_old_ones_pages(pages: Pages) -> None:
    one, other = member(pages, at=1_000), member(pages, at=1_000)
    one.read(batch(1_000, 10), end=1_010)
    assert other.finds(PLACE, at_most=1_000)
    assert not other.finds(PLACE, at_most=0)  # its consumer went back to the beginning


def test_what_somebody_follows_stays_when_there_is_no_room_for_more(clock: Clock) -> None:
    """Pages of a size that does not divide the bound."""
    pages = Pages(most_bytes=100 * ONE, keep_s=2.0, now_s=clock)
    ahead, behind = member(pages), member(pages)
    for first in range(0, 210, 7):
        ahead.read(batch(first, 7), end=1_000)
        assert pages.bytes <= 100 * ONE
    seen = 0
    while behind.finds(PLACE, ANYWHERE):
        taken, _ = behind.take(PLACE, 7)
        assert offsets(taken) == list(range(seen, seen + 7))
        seen += 7
    assert seen == 98  # as much as there was room for
    assert pages.bytes == 0


async def test_who_waits_for_a_page_is_woken_by_it(pages: Pages) -> None:
    one, other = member(pages), member(pages, follows=True)
    waiting = asyncio.ensure_future(pages.offered(60.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    one.read(batch(0, 5), end=5)
    await waiting
    assert other.finds(PLACE, ANYWHERE)
    await pages.offered(0.001)  # and by nothing else


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_groups_do_each_sees_the_log_without_gaps(seed: int, pages: Pages, clock: Clock) -> None:
    chance = random.Random(seed)
    groups = [member(pages) for _ in range(3)]
    at = [0, 0, 0]
    found = 0

    def seek(i: int) -> None:
        at[i] = max(0, chance.choice(at) + chance.randint(-10, 10))
        groups[i].goes(PLACE, at[i])

    def deal(i: int) -> None:
        groups[i].dealt()
        if chance.random() < 0.7:
            groups[i].goes(PLACE, at[i])
            groups[i].polls({PLACE})

    def wait(i: int) -> None:
        clock.now_s += chance.random() * 1.5

    def step(i: int) -> None:
        nonlocal found
        most = chance.randint(1, 40)
        if groups[i].finds(PLACE, ANYWHERE):
            taken, _ = groups[i].take(PLACE, most)
            found += 1
        else:
            taken = batch(at[i], most)
            groups[i].read(taken, end=at[i] + most)
        assert offsets(taken) == list(range(at[i], at[i] + len(taken.records)))
        assert 1 <= len(taken.records) <= most
        at[i] = taken.last_offset + 1

    doings: list[Callable[[int], None]] = [seek, deal, wait]
    for _ in range(600):
        do = chance.choice(doings) if chance.random() < 0.1 else step
        do(chance.randrange(3))
        assert 0 <= pages.bytes <= 100 * ONE
    assert found > 10
