"""runs list, show, compare, rerun."""

import json
from collections.abc import Callable
from typing import Any

import grpc
from millrace.wire.trainer.v1 import events_pb2, service_pb2

from tests.unit.cli.conftest import FakeRooms, Refused

Run = Callable[..., Any]
DAY_US = 86_400_000_000
FINDING = {
    "column": "last.pressure", "rule": "stuck", "from_us": 20_000 * DAY_US, "to_us": 20_001 * DAY_US, "rows": 40,
    "of": 500, "was": 0.0, "now": 0.08, "value": -1.0, "words": "last.pressure is -1 in 8% of 500 rows",
}  # fmt: skip


def report(**changes: Any) -> dict[str, Any]:
    """As the trainer's job writes it."""
    column = {"name": "last.pressure", "is_text": False, "missing": 0.25, "quantiles": [1.0, 2.0, 3.5], "top": []}
    return {
        "rows": {"fit": 800, "validation": 100, "holdout": 160},
        "environment": {"digest": "sha256:env", "threads": 1, "packages": {"torch": "2.9"}},
        "checks": [{"name": "floor:auc", "passed": False, "reason": "auc 0.51 misses the floor 0.6"}],
        "metrics": {"candidate": {"auc": 0.51}, "constant": {"auc": 0.5}, "champion": {"auc": 0.52, "ece": 0.01}},
        "data": {
            "reference": "r0", "accepted": False, "new_rows": 700, "left_out": 40, "stay_out": 5,
            "findings": [FINDING], "carried": [],
            "drifted": [{"column": "last.kind", "psi": 0.31}], "profile": {"columns": [column]},
        },
    } | changes  # fmt: skip


def run_of(run_id: str, seed: int = 7, **changes: Any) -> service_pb2.Run:
    run = service_pb2.Run(
        run_id=run_id, project="pumps", state=events_pb2.RunEvent.REFUSED, reason="auc 0.51 misses the floor 0.6",
        requests=3, triggers=["drift", "new_labels", "drift"], gate_report_json=json.dumps(report(**changes)),
    )  # fmt: skip
    run.candidate.seed = seed
    run.candidate.metrics["auc"] = 0.51
    return run


def test_a_run_is_shown_with_what_it_left_out_and_what_the_gate_asked(rooms: FakeRooms, millrace: Run) -> None:
    rooms.on["Trainer.GetRun"] = lambda asked: run_of(asked.run_id)
    said = millrace("runs", "show", "r1").stdout
    for words in (
        "pumps: REFUSED",
        "drift, new_labels (3 requests)",
        "fit 800, validation 100, holdout 160",
        "700 new rows held against run r0: 40 left out; 5 older ones stay left out",
        "last.pressure is -1 in 8% of 500 rows",
        "2024-10-04 00:00:00",
        "last.kind",
        "auc 0.51 misses the floor 0.6",
    ):
        assert words in said, said
    header = next(line for line in said.splitlines() if "metric on the holdout" in line)
    assert header.split()[-3:] == ["candidate", "champion", "constant"]
    told = json.loads(millrace("runs", "show", "r1", "--json").stdout)
    assert told["gate_report"] == report() and told["state"] == "REFUSED"


def test_a_run_without_a_report_is_shown_as_far_as_it_is(rooms: FakeRooms, millrace: Run) -> None:
    queued = service_pb2.Run(run_id="r1", project="pumps", state=events_pb2.RunEvent.QUEUED, reason="asked by hand")
    rooms.on["Trainer.GetRun"] = lambda _: queued
    assert "pumps: QUEUED\nasked by hand" in millrace("runs", "show", "r1").stdout
    declined = {"data": report()["data"] | {"accepted": True, "reference": "", "profile": {}}}
    queued.gate_report_json = json.dumps(declined)
    said = millrace("runs", "show", "r1").stdout
    assert (
        "700 new rows, the first to be looked at: 40 left out; 5 older ones stay left out; accepted as they are" in said
    )
    queued.gate_report_json = "{"
    broken = millrace("runs", "show", "r1")
    assert broken.exit_code == 1 and "the report of run r1 is not JSON" in broken.stderr


def test_a_run_that_is_not_there(rooms: FakeRooms, millrace: Run) -> None:
    def refuse(asked: service_pb2.GetRunRequest) -> service_pb2.Run:
        raise Refused(grpc.StatusCode.NOT_FOUND, f"no run {asked.run_id}")

    rooms.on["Trainer.GetRun"] = refuse
    result = millrace("runs", "show", "nothing")
    assert result.exit_code == 1 and "no run nothing" in result.stderr


def test_two_runs_are_compared_by_what_differs(rooms: FakeRooms, millrace: Run) -> None:
    other = {"environment": {"digest": "sha256:other", "threads": 2, "packages": {"torch": "2.9"}}}
    runs = {"a": run_of("a"), "b": run_of("b", seed=8, **other), "c": run_of("c")}
    rooms.on["Trainer.GetRun"] = lambda asked: runs[asked.run_id]
    told = json.loads(millrace("runs", "compare", "a", "b", "--json").stdout)
    assert told["differ"] == {
        "seed": [7, 8],
        "environment": ["sha256:env", "sha256:other"],
        "environment: digest": ["sha256:env", "sha256:other"],
        "environment: threads": [1, 2],
    }
    assert "environment: threads" in millrace("runs", "compare", "a", "b").stdout
    assert "nothing that was kept of these runs differs" in millrace("runs", "compare", "a", "c").stdout
    runs["c"].candidate.metrics["auc"] = 0.6
    runs["c"].gate_report_json = json.dumps(report(data=report()["data"] | {"left_out": 0}))
    differ = json.loads(millrace("runs", "compare", "a", "c", "--json").stdout)["differ"]
    assert differ == {"metric auc": [0.51, 0.6], "rows left out": [45, 5]}


def test_a_run_made_once_more_ends_well_only_when_it_came_out_as_recorded(rooms: FakeRooms, millrace: Run) -> None:
    lines = [
        service_pb2.RerunLine(what="model", before="sha256:a", now="sha256:a", same=True, decides=True),
        service_pb2.RerunLine(what="code", before="1.0", now="2.0", same=False, decides=False),
    ]

    def answer(same: bool) -> None:
        reply = service_pb2.RerunReply(same=same, lines=lines, note="its kept rows were read")
        steps = [service_pb2.RerunProgress(step="making", share=0.1), service_pb2.RerunProgress(share=1, reply=reply)]
        rooms.on["Trainer.Rerun"] = lambda _: iter(steps)

    answer(same=True)
    good = millrace("runs", "rerun", "r1")
    assert good.exit_code == 0 and "came out as recorded" in good.stdout and "its kept rows were read" in good.stdout
    lines.append(service_pb2.RerunLine(what="auc of candidate", before="0.5", now="0.6", same=False, decides=True))
    answer(same=False)
    bad = millrace("runs", "rerun", "r1")
    assert bad.exit_code == 1 and "did NOT come out as recorded" in bad.stdout and "NO" in bad.stdout
    told = millrace("runs", "rerun", "r1", "--json")
    assert told.exit_code == 1 and json.loads(told.stdout)["lines"][2]["now"] == "0.6"


def test_a_run_is_written_for_a_pull_request(rooms: FakeRooms, millrace: Run) -> None:
    parts = [
        {"value": "a|b", "rows": 1200, "candidate": 0.7, "champion": 0.6},
        {"value": '<i>"c"</i>', "rows": 300, "candidate": 0.65, "champion": 0.66},
        {"value": "", "rows": 4, "candidate": None, "champion": None},
    ]

    def answer(asked: service_pb2.GetRunRequest) -> service_pb2.Run:
        run = run_of(asked.run_id, metric="auc", slices={"kind": parts})
        for epoch, loss in ((1, 0.9), (2, 0.5)):
            run.curve.add(epoch=epoch, train_loss=loss, validation_loss=loss + 0.1)
        return run

    rooms.on["Trainer.GetRun"] = answer
    said = millrace("report", "r1", "--markdown").stdout
    for line in (
        "## pumps: REFUSED",
        "| ❌ | `floor:auc` | auc 0.51 misses the floor 0.6 |",
        "| metric | candidate | champion | constant |",
        "| auc | 0.51 | 0.52 | 0.5 |",
        "| a\\|b | 1,200 | 0.7 | 0.6 |",
        '| &lt;i>"c"&lt;/i> | 300 | 0.65 | 0.66 |',
        "| missing | 4 | – | – |",
        '  x-axis ["a|b", "<i>\'c\'</i>"]',
        "  bar [0.7, 0.65]",
        "  line [0.6, 0.66]",
        "  y-axis 0 --> 0.7",
        "  line [1, 0.6]",
        "| `last.pressure` | 40 | last.pressure is -1 in 8% of 500 rows |",
        "Drifted since the last good run, by stability index: `last.kind` (0.31)",
    ):
        assert line in said.splitlines(), f"{line}\n---\n{said}"
    assert said.count("```") == 4
    assert "the gate asked" in millrace("report", "r1").stdout
    assert json.loads(millrace("report", "r1", "--json").stdout)["gate_report"]["metric"] == "auc"


def test_a_run_without_a_verdict_is_written_as_far_as_it_is(rooms: FakeRooms, millrace: Run) -> None:
    rooms.on["Trainer.GetRun"] = lambda asked: service_pb2.Run(run_id=asked.run_id, project="pumps", reason="waits")
    said = millrace("report", "r1", "--markdown").stdout
    assert said.startswith("## pumps: ") and "waits" in said and "```" not in said and "What the gate asked" not in said


def test_texts_of_people_and_data_become_no_markup(rooms: FakeRooms, millrace: Run) -> None:
    asked = {"name": "behaviour:a `b` | c", "passed": True, "reason": "*loud* _x_ [l](http://x) `c`"}

    def answer(wanted: service_pb2.GetRunRequest) -> service_pb2.Run:
        return run_of(wanted.run_id, checks=[asked])

    rooms.on["Trainer.GetRun"] = answer
    lines = millrace("report", "r1", "--markdown").stdout.splitlines()
    row = r"| ✅ | `behaviour:a 'b' \| c` | \*loud\* \_x\_ \[l\](http://x) \`c\` |"
    assert row in lines
