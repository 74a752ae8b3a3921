"""What `millrace features consistency` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from millrace.wire.feature_store.v1.service_pb2 import ConsistencyReply, FeatureCell

OUTCOMES = ("equal", "ahead", "mismatch", "missing", "extra")
COLUMNS = ("feature", "day", "compared", *OUTCOMES, "largest_difference")


def show_report(project: str, reply: ConsistencyReply, *, as_json: bool) -> bool:
    """Prints it; whether any value differs."""
    from millrace.cli.output import console, emit_json, show_table, table

    rows: list[dict[str, Any]] = [{name: getattr(row, name) for name in COLUMNS} for row in reply.rows]
    bad = sum(int(row[name]) for row in rows for name in ("mismatch", "missing", "extra"))
    reads = {name: getattr(reply, f"{name}_reads") for name in ("checked", "pending", "skipped", "dropped")}
    examples = [_example(example) for example in reply.examples]
    if as_json:
        emit_json({"differing": bad, "reads": reads, "share": reply.share, "rows": rows, "examples": examples})
        return bad > 0
    empty = f"no read of {project} was compared yet: {reply.share:.0%} of the entity keys are sampled"
    show_table(COLUMNS, [[_text(row[name]) for name in COLUMNS] for row in rows], empty=empty)
    typer.echo("reads: " + ", ".join(f"{count} {name}" for name, count in reads.items()))
    if bad:
        names = ("feature", "entity", "as_of_us", "outcome", "online", "offline")
        body = [[_text(example[name]) for name in names] for example in examples]
        console().print(table(names, body, title=f"{bad} values differ"))
    return bad > 0


def _example(example: Any) -> dict[str, Any]:
    return {
        "feature": example.feature,
        "entity": example.entity,
        "as_of_us": example.as_of_us,
        "outcome": example.outcome,
        "online": _value(example.online),
        "offline": _value(example.offline),
    }


def _value(cell: FeatureCell) -> dict[str, Any]:
    from millrace.wire.feature_store.v1.service_pb2 import FeatureStatus

    value = getattr(cell.value, cell.value.WhichOneof("kind") or "", None)
    age_us = None if cell.age_us < 0 else cell.age_us
    return {"value": value, "status": FeatureStatus.Name(cell.status), "age_us": age_us}


def _text(value: Any) -> Any:
    if isinstance(value, dict):
        return f"{value['value']!r}" if value["status"] == "PRESENT" else value["status"]
    return f"{value:.3g}" if isinstance(value, float) else value
