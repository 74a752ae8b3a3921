"""models, rollback."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from millrace.wire.registry.v1 import events_pb2, service_pb2

from tests.unit.cli.conftest import FakeRooms

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def known(rooms: FakeRooms) -> None:
    """One project with one model."""
    published = events_pb2.DefinitionPublished(project="pumps", version=1, canonical_json='{"model": {"name": "wear"}}')
    rooms.on["Registry.ListProjects"] = lambda _: service_pb2.ListProjectsReply(projects=[published])


def version(number: int, **fields: Any) -> service_pb2.ModelVersion:
    return service_pb2.ModelVersion(project="pumps", model="wear", version=number, **fields)


def test_list_shows_versions_of_every_project(rooms: FakeRooms, millrace: Run) -> None:
    rooms.on["Registry.ListVersions"] = lambda _: service_pb2.ListVersionsReply(
        versions=[version(2, state="champion", aliases=["champion"], metrics={"mae": 1.25})]
    )
    shown = millrace("models", "list").stdout
    assert "champion" in shown
    assert "mae=1.25" in shown
    (said,) = json.loads(millrace("models", "list", "wear", "--json").stdout)
    assert (said["version"], said["metrics"]) == (2, {"mae": 1.25})


def test_a_model_that_nobody_knows(rooms: FakeRooms, millrace: Run) -> None:
    result = millrace("models", "show", "tear", "1")
    assert (result.exit_code, result.stderr) == (1, "error: no model or project is called tear (known: wear)\n")


def test_a_push_without_force_says_that_it_serves_nobody_and_what_to_do(
    rooms: FakeRooms, millrace: Run, tmp_path: Path
) -> None:
    file = tmp_path / "m.onnx"
    file.write_bytes(b"x")
    rooms.on["Registry.PutArtifact"] = lambda chunks: service_pb2.Artifact(digest=f"sha256:{len(list(chunks))}")
    rooms.on["Registry.RegisterVersion"] = lambda _: version(3, state="registered", model_digest="sha256:1")
    result = millrace("models", "push", "wear", str(file), "--reason", "outside")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "wear version 3: registered (sha256:1)",
        "it serves nobody and cannot be promoted: there is no gate for a model from outside",
        f'to release it: millrace models push wear {file} --force --reason "..."',
    ]
    explained = " ".join(millrace("models", "push", "--help").stdout.split())
    assert "better.onnx --force" in explained
    assert "`promote` refuses it" in explained


def test_push_sends_bytes_before_the_version(rooms: FakeRooms, millrace: Run, tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    file.write_bytes(b"x" * 2_500_000)
    sizes: list[int] = []

    def take(chunks: Iterator[Any]) -> Any:
        sizes.extend(len(chunk.data) for chunk in chunks)
        return service_pb2.Artifact(digest="sha256:abc")

    rooms.on["Registry.PutArtifact"] = take
    rooms.on["Registry.RegisterVersion"] = lambda r: version(3, state="champion", model_digest=r.model_digest)
    result = millrace("models", "push", "wear", str(file), "--reason", "outside", "--force")
    assert (result.exit_code, result.stdout) == (0, "wear version 3: champion (sha256:abc)\n")
    assert sum(sizes) == 2_500_000
    assert [name for name, _ in rooms.calls][-2:] == ["Registry.PutArtifact", "Registry.RegisterVersion"]
    assert rooms.asked("Registry.RegisterVersion")[0].force


def test_rollback_is_about_the_champion_of_now(rooms: FakeRooms, millrace: Run) -> None:
    variants = [
        events_pb2.Variant(version=2, role=events_pb2.Variant.SHADOW),
        events_pb2.Variant(version=3, role=events_pb2.Variant.CHAMPION),
    ]
    rooms.on["Registry.GetPlan"] = lambda _: events_pb2.ServingPlan(variants=variants)
    rooms.on["Registry.Command"] = lambda _: service_pb2.CommandReply(accepted=True, epoch=7, event_id="e")
    result = millrace("rollback", "pumps", "--to", "2", "--reason", "wrong by noon", "--actor", "ada")
    assert (result.exit_code, result.stdout) == (0, "done: epoch 7, event e\n")
    (command,) = rooms.asked("Registry.Command")
    assert (command.verb, command.version, command.target_version) == (events_pb2.ModelCommand.ROLLBACK, 3, 2)
    assert (command.project, command.model, command.actor) == ("pumps", "wear", "ada")


def test_a_refused_command_fails(rooms: FakeRooms, millrace: Run) -> None:
    rooms.on["Registry.Command"] = lambda _: service_pb2.CommandReply(accepted=False, reason="version 9 does not load")
    result = millrace("models", "promote", "wear", "9", "--reason", "x")
    assert (result.exit_code, result.stderr) == (1, "error: the registry refused: version 9 does not load\n")


def test_lineage_goes_back_to_the_snapshot(rooms: FakeRooms, millrace: Run) -> None:
    event = events_pb2.ModelEvent(kind="promoted", from_state="canary", to_state="champion", actor="registry")
    rooms.on["Registry.Lineage"] = lambda _: service_pb2.LineageReply(
        version=version(3, run_id="r1", snapshot_digest="sha256:s"), events=[event]
    )
    shown = millrace("models", "lineage", "wear", "3").stdout
    assert "wear version 3 ← run r1 ← snapshot sha256:s" in shown
    assert "canary → champion" in shown
