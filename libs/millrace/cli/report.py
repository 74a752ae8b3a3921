"""`millrace report RUN --markdown`: a run for a pull request; what it showed beside the champion, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace.cli.options import DEFAULT_HOME, AsJson, Home
from millrace.cli.runs import RunId, models_of, read_report, read_run, show, state_of

if TYPE_CHECKING:
    from millrace.wire.trainer.v1 import service_pb2

app = typer.Typer()

LONGEST_LABEL = 16  # characters below a bar
FEWEST_BARS = 2
SPECIAL = "\\`*_[]|#~"  # what begins markup inside a line


@app.command()
def report(
    run_id: RunId,
    home: Home = DEFAULT_HOME,
    markdown: Annotated[bool, typer.Option("--markdown", help="Text for a pull request instead of tables.")] = False,
    as_json: AsJson = False,
) -> None:
    """Report a run; with --markdown for a pull request: verdict, metrics, slices and curves beside the champion.

    Charts are drawn by whoever shows Mermaid in Markdown, as GitHub and GitLab do.

    Examples:

      millrace report 5e1c9a52-6f8e-5b0e-9d3a-2f6f3b1c7a10 --markdown > report.md
    """
    if as_json or not markdown:
        show(run_id, home, as_json)
        return
    run = read_run(home, run_id)
    typer.echo("\n".join(_lines(run, read_report(run))))


def _lines(run: service_pb2.Run, found: Mapping[str, Any]) -> Iterator[str]:
    made = run.candidate
    yield f"## {_text(run.project)}: {state_of(run)}"
    yield from ("", _text(run.reason), "")
    rows = ", ".join(f"{count:,} {name}" for name, count in found.get("rows", {}).items())
    facts = {
        "run": _code(run.run_id),
        "asked by": ", ".join(sorted(set(run.triggers))),
        "data": _code(run.snapshot_digest),
        "rows": rows,
        "template": _text(made.template),
        "code": _code(made.code_version),
        "model": _code(made.model_digest),
        "champion then": f"version {made.champion_version}" if made.champion_version else "",
    }
    yield from _table(("", ""), [(name, value) for name, value in facts.items() if value])
    if found.get("checks"):
        yield from ("### What the gate asked", "")
        asked = [("✅" if c["passed"] else "❌", _code(c["name"]), _text(c["reason"])) for c in found["checks"]]
        yield from _table(("", "question", "found"), asked)
    yield from _metrics(found)
    for by, parts in found.get("slices", {}).items():
        yield from _slices(str(found.get("metric", "")), by, parts)
    yield from _curve(run)
    yield from _data(found.get("data", {}))


def _metrics(found: Mapping[str, Any]) -> Iterator[str]:
    metrics: Mapping[str, Mapping[str, float]] = found.get("metrics", {})
    if not metrics:
        return
    models = models_of(metrics)
    names = sorted({name for values in metrics.values() for name in values})
    yield from ("### On the holdout", "")
    yield from _table(
        ("metric", *models), [(_text(name), *(_number(metrics[model].get(name)) for model in models)) for name in names]
    )


def _slices(metric: str, by: str, parts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from (f"### {_text(metric)} by {_text(by)}", "")
    rows = [
        (_text(part["value"] or "missing"), f"{part['rows']:,}", _number(part["candidate"]), _number(part["champion"]))
        for part in parts
    ]
    yield from _table(("value", "rows", "candidate", "champion"), rows)
    known = [part for part in parts if part["candidate"] is not None]
    if len(known) >= FEWEST_BARS:
        champion = [part["champion"] for part in known]
        series = {"bar": [part["candidate"] for part in known]}
        if None not in champion:
            series["line"] = champion
        title = f"{metric} by {by}: bars the candidate" + (", line the champion" if "line" in series else "")
        yield from _chart(title, [part["value"] or "missing" for part in known], series)


def _curve(run: service_pb2.Run) -> Iterator[str]:
    if len(run.curve) >= FEWEST_BARS:
        yield from ("### How it learned", "")
        losses = [point.validation_loss for point in run.curve]
        title = "loss by epoch: bars of the rows to fit, line of the rows to stop by"
        series = {"bar": [point.train_loss for point in run.curve], "line": losses}
        yield from _chart(title, [str(point.epoch) for point in run.curve], series)


def _data(data: Mapping[str, Any]) -> Iterator[str]:
    findings = [*data.get("findings", []), *data.get("carried", [])]
    if findings:
        yield from ("### Rows it did not learn from", "")
        rows = [(_code(one["column"]), f"{one['rows']:,}", _text(one["words"])) for one in findings]
        yield from _table(("column", "rows", "why"), rows)
    if data.get("drifted"):
        drifted = ", ".join(f"{_code(one['column'])} ({one['psi']:.2f})" for one in data["drifted"])
        yield from (f"Drifted since the last good run, by stability index: {drifted}", "")


def _chart(title: str, labels: Sequence[str], series: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """A Mermaid chart; a quotation mark would end its labels."""
    values = [value for one in series.values() for value in one]
    low, high = min(*values, 0.0), max(values)
    names = ", ".join(f'"{_plain(label)[:LONGEST_LABEL]}"' for label in labels)
    yield from ("```mermaid", "xychart-beta", f'  title "{_plain(title)}"', f"  x-axis [{names}]")
    yield f"  y-axis {low:.4g} --> {high:.4g}"
    for kind, one in series.items():
        yield f"  {kind} [{', '.join(f'{value:.5g}' for value in one)}]"
    yield from ("```", "")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for place, row in enumerate((head, *rows)):
        yield "| " + " | ".join(row) + " |"
        if not place:
            yield "|" + "---|" * len(head)
    yield ""


def _text(text: str) -> str:
    """Texts come from people and from data: nothing of them becomes markup."""
    escaped = "".join(f"\\{one}" if one in SPECIAL else one for one in " ".join(text.split()))
    return escaped.replace("<", "&lt;")


def _code(text: str) -> str:
    """A name as it is written; of nothing, nothing."""
    plain = " ".join(text.replace("`", "'").split()).replace("|", "\\|")
    return f"`{plain}`" if plain else ""


def _plain(text: str) -> str:
    return " ".join(text.replace('"', "'").replace("`", "'").split())


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
