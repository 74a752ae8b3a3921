"""publish, predict."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from millrace.definitions.cells import cell_value
from millrace.wire.inference.v1 import service_pb2 as inference_wire
from millrace.wire.ingestion.v1 import service_pb2 as ingestion_wire

from tests.unit.cli.conftest import FakeRooms, Refused

Run = Callable[..., Any]


def accept_all(request: Any) -> Any:
    return ingestion_wire.PublishReply(accepted=len(request.events))


def test_lines_go_out_in_bounded_batches(rooms: FakeRooms, millrace: Run, tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    file.write_text("".join(f'{{"n": {n}}}\n\n' for n in range(1201)))
    rooms.on["Ingestion.Publish"] = accept_all
    result = millrace("publish", "pumps", "readings", str(file))
    assert (result.exit_code, result.stdout) == (0, "1,201 rows: 1,201 accepted, 0 duplicates, 0 quarantined\n")
    requests = rooms.asked("Ingestion.Publish")
    assert [len(request.events) for request in requests] == [500, 500, 201]
    assert json.loads(requests[2].events[-1].json) == {"n": 1200}


def test_quarantine_is_shown_and_fails_unless_allowed(rooms: FakeRooms, millrace: Run) -> None:
    verdict = ingestion_wire.Verdict(
        id="e1", outcome=ingestion_wire.Verdict.QUARANTINED, field="speed", reason="-5 is below 0"
    )
    rooms.on["Ingestion.Publish"] = lambda _: ingestion_wire.PublishReply(accepted=1, quarantined=1, verdicts=[verdict])
    result = millrace("publish", "pumps", "readings", "-", text='{"speed": -5}\n{"speed": 5}\n')
    assert result.exit_code == 1
    assert "quarantined row 1 (e1): speed: -5 is below 0" in result.stderr
    allowed = millrace("publish", "pumps", "readings", "-", "--allow-quarantine", "--json", text="{}")
    assert allowed.exit_code == 0
    assert json.loads(allowed.stdout)["verdicts"] == [
        {"row": 1, "id": "e1", "field": "speed", "reason": "-5 is below 0"}
    ]


def test_a_full_room_is_asked_again_when_it_says(rooms: FakeRooms, millrace: Run) -> None:
    answers: list[Any] = [Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", (("retry-after-ms", "1"),))] * 2

    def busy(request: Any) -> Any:
        if answers:
            raise answers.pop()
        return accept_all(request)

    rooms.on["Ingestion.Publish"] = busy
    assert millrace("publish", "pumps", "readings", "-", text="{}").exit_code == 0
    assert len(rooms.asked("Ingestion.Publish")) == 3


def test_a_token_of_the_environment_is_shown(rooms: FakeRooms, millrace: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_TOKEN", "secret")
    rooms.on["Ingestion.Publish"] = accept_all
    millrace("publish", "pumps", "readings", "-", text="{}")
    assert rooms.metadata["authorization"] == "Bearer secret"


def test_a_refusal_is_one_line(rooms: FakeRooms, millrace: Run) -> None:
    def refuse(_: Any) -> Any:
        raise Refused(grpc.StatusCode.NOT_FOUND, "no source tremors in pumps")

    rooms.on["Ingestion.Publish"] = refuse
    result = millrace("publish", "pumps", "tremors", "-", text="{}")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: publish to pumps/tremors: NOT_FOUND: no source tremors in pumps\n",
    )


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("", "number", None),
        ("1.5", "number", 1.5),
        ("NaN?", "number", "NaN?"),
        ("7", "integer", 7),
        ("True", "boolean", True),
        ("maybe", "boolean", "maybe"),
        ("0012", "string", "0012"),
        ("1372636800000000", "timestamp", 1372636800000000),
        ("2013-07-01T00:00:00Z", "timestamp", "2013-07-01T00:00:00Z"),
    ],
)
def test_csv_cells_take_their_declared_type(text: str, kind: str, value: Any) -> None:
    assert cell_value(text, kind) == value


def test_predict_answers_in_order_with_moment_and_columns(rooms: FakeRooms, millrace: Run) -> None:
    rooms.on["Inference.Predict"] = lambda request: inference_wire.PredictReply(
        answers=[
            inference_wire.Answer(entity=item.entity, value=0.25, model="wear", version=2, variant="champion")
            for item in request.items
        ]
    )
    result = millrace(
        "predict",
        "pumps",
        "p1",
        "p2",
        "--moment",
        "1970-01-01T00:00:01",
        "--set",
        "load=0.5",
        "--set",
        "site=A",
        "--json",
    )
    assert [answer["entity"] for answer in json.loads(result.stdout)["answers"]] == ["p1", "p2"]
    (request,) = rooms.asked("Inference.Predict")
    assert request.items[0].moment_us == 1_000_000
    assert request.items[0].request.columns["load"].number == 0.5
    assert request.items[0].request.columns["site"].text == "A"
    assert "0.25" in millrace("predict", "pumps", "p1").stdout


def test_an_entity_without_an_answer_fails(rooms: FakeRooms, millrace: Run) -> None:
    answer = inference_wire.Answer(entity="p1", error="no features yet")
    rooms.on["Inference.Predict"] = lambda _: inference_wire.PredictReply(answers=[answer])
    result = millrace("predict", "pumps", "p1")
    assert result.exit_code == 1
    assert "no features yet" in result.stdout


@pytest.mark.parametrize(("option", "value"), [("--moment", "noon"), ("--set", "load")])
def test_options_that_make_no_sense(rooms: FakeRooms, millrace: Run, option: str, value: str) -> None:
    result = millrace("predict", "pumps", "p1", option, value)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {option} {value}:")
