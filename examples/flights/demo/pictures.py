"""The HTML report: what happened, in pictures, from what was seen on the topics."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

mpl.use("Agg")
INK, CALM, ALARM, GOOD = "#22303c", "#3b7dd8", "#c8453b", "#2e8b57"
KIND_COLOURS = {"release": GOOD, "rollback": ALARM, "alert": "#d08a1d", "retrain": CALM, "fault": "#7d4fb3"}


def day(us: int) -> Any:
    """A moment in microseconds as a UTC datetime, for an axis."""
    return datetime.fromtimestamp(us / 1e6, UTC)


def auc_by_week(weeks: Sequence[Mapping[str, Any]]) -> str:
    """The frozen first model beside the continuously trained one, and the share of late flights below."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    at = [day(w["start_us"]) for w in weeks]
    upper.plot(at, [w["frozen"] for w in weeks], "o--", color="#8a94a0", label="first model, frozen")
    upper.plot(at, [w["continuous"] for w in weeks], "o-", color=CALM, label="continuously trained, as answered")
    upper.set_ylabel("AUC")
    upper.legend(frameon=False)
    lower.bar(at, [100 * w["late_rate"] for w in weeks], width=4, color="#d6dde5")
    lower.set_ylabel("late, %")
    return _picture(figure, upper, lower)


NEAR_SHARE = 0.12  # of the whole time: about the width of a label


def timeline(marks: Sequence[Mapping[str, Any]]) -> str:
    """One lane per kind: releases, alerts, rollbacks, retraining, and the faults put in on purpose."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    lanes = list(KIND_COLOURS)
    for mark, level in heights(marks):
        lane = lanes.index(mark["kind"])
        axes.plot([day(mark["clock_us"])], [lane], "o", color=KIND_COLOURS[mark["kind"]], markersize=8)
        if level is not None:
            axes.annotate(mark["label"], (day(mark["clock_us"]), lane), xytext=(0, 7 + 9 * level),
                          textcoords="offset points", fontsize=7, ha="center", color=INK)  # fmt: skip
    axes.set_yticks(range(len(lanes)), lanes)
    axes.set_ylim(-0.5, len(lanes) - 0.1)
    return _picture(figure, axes)


def heights(marks: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], int | None]]:
    """Each mark, in time, and how many lines above its dot its label stands, so that neighbours do not cover each
    other; None where a neighbour says the same."""
    ordered = sorted(marks, key=lambda mark: mark["clock_us"])
    near_us = NEAR_SHARE * (ordered[-1]["clock_us"] - ordered[0]["clock_us"]) if ordered else 0
    placed: list[tuple[Mapping[str, Any], int | None]] = []
    newest: dict[str, dict[int, Mapping[str, Any]]] = {kind: {} for kind in KIND_COLOURS}  # per lane and level
    for mark in ordered:
        levels = newest[mark["kind"]]
        near = {n: m for n, m in levels.items() if mark["clock_us"] - m["clock_us"] < near_us}
        if any(m["label"] == mark["label"] for m in near.values()):
            placed.append((mark, None))
            continue
        free = next(n for n in range(len(near) + 1) if n not in near)
        levels[free] = mark
        placed.append((mark, free))
    return placed


def page(
    title: str, figures: Sequence[tuple[str, str]], facts: Sequence[tuple[str, str]], chain: Sequence[Mapping[str, Any]]
) -> str:
    """The whole report as one self-contained HTML page."""
    rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in facts)
    images = "".join(f"<h2>{html.escape(name)}</h2>{svg}" for name, svg in figures)
    links = "".join(
        f"<li><b>{html.escape(link['event_type'])}</b> {html.escape(link['summary'])}"
        f"<br><code>{html.escape(link['event_id'])}</code></li>"
        for link in chain
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>"
        "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#22303c}"
        "th{text-align:left;padding-right:2rem;font-weight:500}td{font-variant-numeric:tabular-nums}"
        "img{max-width:100%}code{color:#66727f;font-size:.8em}li{margin:.5rem 0}</style>"
        f"<h1>{html.escape(title)}</h1><table>{rows}</table>{images}"
        f"<h2>Why the rollback happened, link by link</h2><ol>{links}</ol></html>"
    )


def _picture(figure: Figure, *axes: Axes) -> str:
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(colors=INK, labelsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return f'<img alt="" src="data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
