"""docker-compose.yml against the specification's schema and against our own rules."""

import importlib
import importlib.util
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from infra.kafka.topics import ROOMS as TOPIC_ROOMS
from tests.contract.compose.compose import JOBS, ROOMS, ROOT, document, services

# Read by code that is not a settings class.
OTHER_VARIABLES = {"MILLRACE_TOPICS"}


def compose_schema() -> Path:
    """The specification's own schema, as the package check-jsonschema ships it."""
    package = importlib.util.find_spec("check_jsonschema")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "builtin_schemas" / "vendor" / "compose-spec.json"


def test_the_file_is_valid_by_the_compose_specification() -> None:
    schema = json.loads(compose_schema().read_text())
    validator = jsonschema.validators.validator_for(schema)
    validator.check_schema(schema)
    raw = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    for content in (raw, document()):
        problems = [f"{'.'.join(map(str, e.path))}: {e.message}" for e in validator(schema).iter_errors(content)]
        assert not problems


def test_the_seven_rooms_are_there_and_come_from_one_image() -> None:
    assert set(ROOMS) == set(TOPIC_ROOMS)
    for room in ROOMS:
        definition = services()[room]
        assert definition["command"] == ["python", "-m", f"services.{room}"]
        assert definition["image"] == services()["topics"]["image"]
        assert (ROOT / definition["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("name", sorted(services()))
def test_every_service_is_bounded_pinned_and_watched(name: str) -> None:
    definition = services()[name]
    limits = definition["deploy"]["resources"]["limits"]
    assert float(limits["cpus"]) > 0
    assert re.fullmatch(r"\d+[MG]", limits["memory"])
    assert ":" in definition["image"]
    assert not definition["image"].endswith(":latest")
    assert definition["restart"] in ("unless-stopped", "on-failure:5")
    if name not in JOBS:
        assert definition["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")


def test_ports_are_published_on_the_loopback_only_and_once() -> None:
    published = [port for definition in services().values() for port in definition.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)
    hosts = [port.split(":")[1] for port in published]
    assert len(set(hosts)) == len(hosts)


def test_everything_waited_for_is_there_and_can_be_healthy() -> None:
    for definition in services().values():
        for other, how in definition.get("depends_on", {}).items():
            job = how["condition"] == "service_completed_successfully"
            assert (other in JOBS) == job
            assert other in services()


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_given_only_settings_that_it_knows(room: str) -> None:
    settings = importlib.import_module(f"services.{room}.settings").Settings
    known = {f"MILLRACE_{name.upper()}" for name in settings.model_fields}
    given = {name for name in services()[room]["environment"] if name.startswith("MILLRACE_")}
    assert not given - known - OTHER_VARIABLES


def test_mounted_files_and_volumes_exist() -> None:
    for definition in services().values():
        for volume in definition.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith("./") else source in document()["volumes"]
        for config in definition.get("configs", []):
            assert config["source"] in document()["configs"]


def test_kafka_is_the_version_of_the_embedded_broker() -> None:
    from infra.embedded.jars import kafka_version

    assert services()["kafka"]["image"] == f"apache/kafka:{kafka_version()}"


def test_no_secret_is_written_down() -> None:
    raw = (ROOT / "docker-compose.yml").read_text()
    secrets = re.findall(r"^\s*\w*(?:PASSWORD|SECRET|TOKEN):\s*(\S.*)$", raw, re.MULTILINE)
    assert secrets
    assert all(value.startswith("${") for value in secrets)
