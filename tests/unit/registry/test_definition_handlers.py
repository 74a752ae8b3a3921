"""Apply: history, compare-and-swap, names, topics before words."""

from __future__ import annotations

import pytest
from millrace.definitions import from_canonical_json
from millrace.wire.registry.v1.events_pb2 import DefinitionPublished

from services.registry.errors import BadDefinition, NameTaken, StaleDefinition, UnknownThing
from services.registry.handlers import definitions
from tests.unit.registry.desk import PARCELS, Room

YAML = PARCELS.read_text()


async def test_a_new_project_gets_its_topics_and_is_published(room: Room):
    (record,) = room.bus.records("definitions")
    published = DefinitionPublished.FromString(record.data)
    assert (record.key, published.version, published.actor) == (b"parcels", 1, "ann")
    assert from_canonical_json(published.canonical_json).model.name == "late-delivery"
    assert {"raw.parcels.weather", "data.parcels.weather"} <= set(room.bus.broker.logs)


async def test_unchanged_content_keeps_its_version(room: Room):
    reply = await room.apply(based_on=0)
    assert (reply.version, reply.changed) == (1, False)
    assert len(room.bus.records("definitions")) == 1


async def test_a_change_says_what_it_touches(room: Room):
    reply = await room.apply(YAML.replace("cooldown: 5d", "cooldown: 6d"), based_on=1)
    assert (reply.version, reply.changed) == (2, True)
    assert reply.changes == ["training changed: acts from the next decision on"]


async def test_two_applies_cannot_race(room: Room):
    with pytest.raises(StaleDefinition, match="is at version 1, not 0"):
        await room.apply(YAML.replace("cooldown: 5d", "cooldown: 6d"), based_on=0)


async def test_a_plan_changes_nothing(room: Room):
    reply = await room.apply(YAML.replace("cooldown: 5d", "cooldown: 6d"), plan_only=True)
    assert reply.changed and reply.version == 1
    assert len(room.bus.records("definitions")) == 1


async def test_all_errors_come_at_once_with_lines(room: Room):
    broken = YAML.replace("clock: replay", "clock: replai").replace("horizon: 12h", "horizon: 12")
    with pytest.raises(BadDefinition) as caught:
        await room.apply(broken, based_on=1, file_name="mine.yaml")
    lines = str(caught.value).splitlines()
    horizon_line = 1 + YAML[: YAML.index("horizon")].count("\n")
    assert [line.split(" ")[0] for line in lines] == ["mine.yaml:4:", f"mine.yaml:{horizon_line}:"]
    assert (await definitions.get(room.desk, "parcels", 0)).version == 1


async def test_a_changed_view_must_be_a_new_version_for_ever(room: Room):
    edited = YAML.replace("windows: [1h, 3h]", "windows: [1h, 6h]").replace("delay_mean_3h", "delay_mean_6h")
    with pytest.raises(BadDefinition, match="name the changed view origin_dispatches@2"):
        await room.apply(edited, based_on=1)
    second = edited.replace("origin_dispatches@1", "origin_dispatches@2")
    assert (await room.apply(second, based_on=1)).version == 2
    with pytest.raises(BadDefinition, match="origin_dispatches@3"):
        await room.apply(edited, based_on=2)


async def test_a_model_name_belongs_to_one_project(room: Room):
    with pytest.raises(NameTaken, match="belongs to project parcels"):
        await room.apply(YAML.replace("project: parcels", "project: other"))


async def test_old_versions_stay_readable(room: Room):
    await room.apply(YAML.replace("cooldown: 5d", "cooldown: 6d"), based_on=1)
    assert (await definitions.get(room.desk, "parcels", 1)).version == 1
    assert [p.version for p in await definitions.projects(room.desk)] == [2]
    with pytest.raises(UnknownThing):
        await definitions.get(room.desk, "parcels", 3)
    with pytest.raises(UnknownThing):
        await definitions.get(room.desk, "other", 0)
