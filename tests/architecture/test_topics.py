"""The table of topics against the code that reads them, the wire and the contract cards."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.architecture.test_rules import ROOMS, ROOT

TABLE: dict[str, Any] = yaml.safe_load((ROOT / "infra" / "kafka" / "topics.yaml").read_text())["topics"]
# What a room reads beside its HANDLERS: code that stands for a subscription, wherever in the room it is.
READS_BY_CODE = {
    "DefinitionBook(": "definitions",
    "ClockBook(": "clocks",
    "ForgetBook(": "data.forget",
    "BusTails(": "data.{project}.{source}",
    "Worker(": "retry.{room}",
    "Delays(": "delayed.{room}",
}


def source_of(room: str) -> str:
    return "\n".join(path.read_text() for path in sorted((ROOT / "services" / room).rglob("*.py")))


def topics_read(room: str) -> set[str]:
    """Rows of the table that the room's code subscribes to."""
    handled = importlib.import_module(f"services.{room}.handlers").HANDLERS
    topics = {key for key in handled if not key.startswith("rpc ")}
    assert not topics - set(TABLE), f"{room} handles what is no topic: {sorted(topics - set(TABLE))}"
    source = source_of(room)
    by_code = {topic for code, topic in READS_BY_CODE.items() if re.search(rf"(?<![\w.]){re.escape(code)}", source)}
    by_stream = set(re.findall(r"app\.topic\(\"([^\"]+)\"", source))
    return topics | by_code | by_stream


def card_row(room: str, name: str) -> str:
    rows = (ROOT / "services" / room / "README.md").read_text().splitlines()
    return next(row for row in rows if row.lower().replace("*", "").startswith(f"| {name} |"))


def spelled(topic: str, room: str) -> str:
    """As contract cards write it."""
    return f"`{topic.replace('{project}', '<project>').replace('{source}', '<source>').replace('{room}', room)}`"


def test_each_topic_has_one_owner_and_a_reader():
    for name, row in TABLE.items():
        assert row["owner"] in (*ROOMS, "room"), name
        assert row["readers"], f"nobody reads {name}"
        assert row["key"], name
        assert row["payload"], name


def test_readers_are_the_rooms_whose_code_reads():
    read = {room: topics_read(room) for room in ROOMS}
    for topic, row in TABLE.items():
        rooms = [room for room in ROOMS if topic in read[room]]
        if topic in ("retry.{room}", "delayed.{room}"):
            rooms = ["room"]  # each room that has a worker its own
        assert row["readers"] == (rooms or ["cli"]), topic


@pytest.mark.parametrize("place", ["services.registry.bootstrap", "services.monitor.entrypoints.consumer"])
def test_groups_take_every_handled_topic_once(place):
    grouped = [topic for topics in importlib.import_module(place).GROUPS.values() for topic in topics]
    handled = importlib.import_module(f"{'.'.join(place.split('.')[:2])}.handlers").HANDLERS
    assert sorted(grouped) == sorted(handled)


@pytest.mark.parametrize("room", ROOMS)
def test_a_contract_card_names_the_topics_and_the_service(room):
    read = topics_read(room)
    owned = {topic for topic, row in TABLE.items() if row["owner"] == room}
    owned.discard("raw.{project}.{source}")  # outsiders write it
    if "retry.{room}" in read:
        owned.add("deadletter.{room}")  # what a worker cannot handle
    if "delayed.{room}" in read:
        owned.add("delayed.{room}")  # what a worker tries again later
    consumes, produces = card_row(room, "consumes"), card_row(room, "produces")
    assert not [topic for topic in sorted(read) if spelled(topic, room) not in consumes]
    assert not [topic for topic in sorted(owned) if spelled(topic, room) not in produces]
    (service,) = re.findall(r"^service (\w+)", proto_of(room).read_text(), re.M)
    assert f"`millrace.wire.{room}.v1.{service}`" in card_row(room, "serves")


@pytest.mark.parametrize("room", ROOMS)
def test_a_contract_card_names_no_method_that_is_not_served(room):
    served = {
        name for proto in (ROOT / "proto").rglob("*.proto") for name in re.findall(r"rpc (\w+)", proto.read_text())
    }
    named = re.findall(r"`(?:Room\.)?([A-Z]\w+)`", card_row(room, "serves"))
    assert not set(named) - served


def proto_of(room: str) -> Path:
    return ROOT / "proto" / "millrace" / "wire" / room / "v1" / "service.proto"


def test_topic_payloads_exist_on_the_wire():
    declared = set()
    for proto in (ROOT / "proto").rglob("*.proto"):
        text = proto.read_text()
        if package := re.search(r"^package ([\w.]+);", text, re.M):
            declared |= {f"{package.group(1)}.{name}" for name in re.findall(r"^message (\w+)", text, re.M)}
    payloads = [row["payload"] for row in TABLE.values() if row["payload"].startswith("millrace.")]
    assert not [payload for payload in payloads if payload not in declared]
