"""How measurements are printed and kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.benchmark import Runs, Section, spread

RESULTS = Path(__file__).with_name("results.json")
MARKS = {
    "reached": "green",
    "by the median": "yellow",
    "at the peers' pace": "yellow",
    "not by the parts alone": "yellow",
    "not reached": "red",
    "not measured": "red",
}


def show(console: Console, section: Section) -> None:
    """The table, the bars, what is to be known of them, and who is absent."""
    console.print(_table(section))
    for target in section.targets:
        verdict = target.verdict()
        measured = _on_a_line(target.runs) if target.runs else "no run"
        alone = f", the parts alone {_on_a_line(target.parts)}" if target.parts else ""
        pace = f", at the peers' pace {target.at_their_pace:,.4g}" if target.pace and target.runs else ""
        console.print(f"  {target.what}: {measured}{alone}{pace}, bar {target.bound}: [{MARKS[verdict]}]{verdict}[/]")
    for note in section.notes:
        console.print(f"  {note}", markup=False)
    for peer, reason in section.absent.items():
        console.print(f"  absent: {peer} ({reason})", markup=False, style="red")


def cell(runs: Runs, form: str) -> str:
    """Median, and below it lowest and highest; one run stands alone."""
    middle, low, high = spread(runs)
    return f"{middle:{form}}" + (f"\n({low:{form}} – {high:{form}})" if len(runs) > 1 else "")


def _on_a_line(runs: Runs) -> str:
    return cell(runs, ",.4g").replace("\n", " ")


def keep(name: str, entry: Mapping[str, Any], file: Path) -> None:
    """Replaces the entry of one benchmark; those of the others stay as they were measured last."""
    try:
        known = json.loads(file.read_text())["benchmarks"]
    except (OSError, ValueError, KeyError):
        known = {}
    known[name] = entry
    file.write_text(json.dumps({"benchmarks": dict(sorted(known.items()))}, indent=1, ensure_ascii=False) + "\n")


def as_facts(sections: Iterable[Section]) -> list[dict[str, Any]]:
    """Sections as results.json holds them: every run of everything."""
    return [
        {
            "title": section.title,
            "rows": [{"name": row.name, "note": row.note, "runs": _rounded(row.runs)} for row in section.rows],
            "targets": [
                {
                    "what": t.what,
                    "bar": t.bound,
                    "verdict": t.verdict(),
                    "runs": [_short(v) for v in t.runs],
                    "parts alone": [_short(v) for v in t.parts],
                    "pace": _short(t.pace),
                }
                for t in section.targets
            ],
            "notes": list(section.notes),
            "absent": dict(section.absent),
            "facts": dict(section.facts),
        }
        for section in sections
    ]


def _table(section: Section) -> Table:
    table = Table(title=section.title, title_justify="left")
    table.add_column("")
    for column in section.columns:
        table.add_column(column.name, justify="right", no_wrap=True)
    for row in section.rows:
        cells = [cell(row.runs[c.name], c.form) if row.runs.get(c.name) else "" for c in section.columns]
        table.add_row(f"{row.name}\n[dim]{row.note}[/]" if row.note else row.name, *cells)
    return table


def _rounded(runs: Mapping[str, Runs]) -> dict[str, list[float]]:
    return {name: [_short(value) for value in values] for name, values in runs.items()}


def _short(value: float) -> float:
    """Six digits: more than a timing has."""
    return float(f"{value:.6g}")
