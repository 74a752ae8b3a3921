"""What the benchmarks are made of: their events, their projects, their loops."""

import asyncio
import json
from collections import Counter

import grpc
import pytest
from millrace.definitions.load import load_text
from millrace.wire.feature_store.v1 import service_pb2

from bench import online_client, stream
from bench.bare import Case, bare, method
from bench.latency import at_once, in_turn, percentile_ms
from bench.projects import FEATURES, VIEWS, latest_project, stream_project, windowed_project
from bench.readings import DISTRIBUTIONS, EVENT_BYTES, FIRST_US, KEYS, MOST_BEHIND_US, NOW_US, SPAN_US, readings
from tests.support.columns import columns


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_readings_have_200_bytes_and_come_by_visible_time(distribution):
    events = list(readings(5_000, distribution, seed=1))
    assert {len(event.body) for event in events} == {EVENT_BYTES}
    assert len({event.id for event in events}) == 5_000
    visible = [event.visible_us for event in events]
    assert visible == sorted(visible)
    assert FIRST_US <= min(visible) <= max(visible) <= FIRST_US + SPAN_US < NOW_US
    assert all(0 < event.visible_us - event.event_us <= MOST_BEHIND_US for event in events)
    rows = [json.loads(event.body) for event in events]
    assert [(row["sensor"].encode(), row["at"], row["reading_id"]) for row in rows] == [
        (event.key, event.event_us, event.id) for event in events
    ]


def test_readings_are_seeded():
    assert list(readings(100, "zipf", 3)) == list(readings(100, "zipf", 3))
    assert list(readings(100, "zipf", 3)) != list(readings(100, "zipf", 4))


def test_zipf_has_a_few_keys_with_much_and_uniform_has_none():
    most = {d: Counter(e.key for e in readings(20_000, d)).most_common(1)[0][1] for d in DISTRIBUTIONS}
    assert most["uniform"] < 20
    assert most["zipf"] > 1_000


def test_the_projects_are_what_their_tables_say():
    for text in (latest_project("a"), windowed_project("a")):
        project = load_text(text)
        assert len(project.views) == VIEWS
        assert len(project.model.inputs) == VIEWS * FEATURES
    (view,) = load_text(stream_project("a")).views
    assert (len(view.windows_us), len(view.aggregates)) == (3, 4)
    both = load_text(stream_project("a", "wall", with_latest=True))
    assert [v.name for v in both.views] == ["activity", "last"]
    assert "last.value" in [i.name for i in both.model.inputs]


async def test_loops_make_exactly_the_calls_asked_for():
    asked = []

    async def call(request: bytes) -> None:
        asked.append(request)
        await asyncio.sleep(0)

    assert len(await in_turn(call, [b"a", b"b"], 5)) == 5
    assert Counter(asked) == {b"a": 3, b"b": 2}
    asked.clear()
    rate, seconds = await at_once([call, call], [b"a"], clients=7, count=50)
    assert len(asked) == len(seconds) == 50
    assert rate > 0


def test_a_percentile_is_one_of_the_values():
    seconds = [i / 1000 for i in range(1, 101)]
    assert percentile_ms(seconds, 50) in (50.0, 51.0)
    assert percentile_ms(seconds, 99) == 100.0
    assert percentile_ms([0.002], 99) == 2.0


def test_a_peer_s_pace_is_its_median_here_by_what_it_did_where_the_bars_were_set():
    taken = stream.Taken()
    for share in (0.5, 0.4, 2.0):
        taken.add(stream.PEERS[0].name, "uniform", events=int(stream.PEERS[0].there), wall_s=1 / share, cpu_s=1.0)
    assert taken.paces() == {stream.PEERS[0].name: pytest.approx(0.5)}


async def test_the_parts_alone_answer_with_the_bytes_they_were_given(tmp_path):
    cases = {"one": Case(b"first"), "two": Case(bytes(range(256)))}
    async with bare(tmp_path / "cases.json", cases) as (_, address), grpc.aio.insecure_channel(address) as channel:
        assert [await method(channel, name)(b"?") for name in cases] == [case.reply for case in cases.values()]


def test_keys_of_the_readings_are_those_that_are_counted():
    assert max(int(event.key[1:]) for event in readings(2_000, "uniform")) < KEYS


def test_the_client_reads_values_by_name_and_counts_what_is_present():
    present, expired = service_pb2.PRESENT, service_pb2.EXPIRED
    made = columns([[(1.5, present, 0), (2.0, present, 0)], [(None, expired, 9), (None, service_pb2.MISSING, -1)]])
    reply = service_pb2.GetOnlineReply(features=["v.a", "v.b"], columns=made)
    answer = online_client.decoded(reply.SerializeToString())
    assert online_client.values(answer, "v.a") == [1.5, 2.0]
    assert online_client.values(answer, "v.b") == [None, None]
    assert online_client.present(answer) == 2
    asked = service_pb2.GetOnlineRequest.FromString(online_client.request("p", ["e"], ["v.a"], 7))
    assert (asked.project, list(asked.entities), list(asked.features), asked.not_before_us) == ("p", ["e"], ["v.a"], 7)
