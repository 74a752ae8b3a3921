"""infra/kubernetes says of each room what docker-compose.yml says."""

from typing import Any

import pytest
import yaml

from tests.contract.compose.compose import ROOMS, ROOT, services

FOLDER = ROOT / "infra" / "kubernetes"


def documents() -> list[dict[str, Any]]:
    names = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    return [document for name in names for document in yaml.safe_load_all((FOLDER / name).read_text())]


def one(kinds: tuple[str, ...], name: str) -> dict[str, Any]:
    (found,) = [d for d in documents() if d["kind"] in kinds and d["metadata"]["name"] == name]
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_deployed_as_in_compose(room: str) -> None:
    name = room.replace("_", "-")
    workload = one(("Deployment", "StatefulSet"), name)
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    composed = services()[room]
    assert container["command"] == composed["command"]
    ports = {port["containerPort"] for port in container["ports"]}
    assert ports == {7000, 8000} == {port["port"] for port in one(("Service",), name)["spec"]["ports"]}
    assert (workload["kind"] == "StatefulSet") == ("volumes" in composed)
    own = {entry["name"] for entry in container.get("env", [])}
    shared = {"MILLRACE_SQL_URL", "MILLRACE_OBJECTS_URL"} & set(composed["environment"])
    assert shared == own & {"MILLRACE_SQL_URL", "MILLRACE_OBJECTS_URL"}
    assert container["resources"]["limits"]
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)


def test_labels_join_services_workloads_and_scalers() -> None:
    for document in documents():
        if document["kind"] == "Service":
            name = document["spec"]["selector"]["app.kubernetes.io/name"]
            template = one(("Deployment", "StatefulSet"), name)["spec"]["template"]
            assert template["metadata"]["labels"]["app.kubernetes.io/name"] == name
        if document["kind"] == "HorizontalPodAutoscaler":
            target = document["spec"]["scaleTargetRef"]
            assert one((target["kind"],), target["name"])


def test_every_room_is_addressed_by_its_service() -> None:
    shared = one(("ConfigMap",), "millrace")["data"]
    for room in ROOMS:
        assert shared[f"MILLRACE_{room.upper()}_ADDRESS"] == f"{room.replace('_', '-')}:7000"
