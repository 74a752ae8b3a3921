"""When a label is mature, and what it then says.

An example matures at `due_us` of the project's visible time: its first label says what was known then. A truth that
becomes visible later and says something else is a correction, with the next revision and its own visible time.
Everything here depends on recorded times only, never on which records happened to be read together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from millrace.definitions.model import Missing

from services.labeling.domain.values import Example, Label, Origin, Outcome, Truth


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a truth that never comes means."""

    missing: Missing
    default: float


def revisions(
    example: Example, truths: Iterable[Truth], verdict: Verdict, previous_us: int, watermark_us: int
) -> list[Label]:
    """The labels of `example` that come out as the watermark moves from `previous_us` to `watermark_us`, oldest first.

    `truths` are those of its entity: all visible by now for an example without a label, at least the new ones else.
    """
    about = [truth for truth in truths if truth.visible_us <= watermark_us and truth.is_about(example)]
    about.sort(key=lambda truth: truth.order)
    if example.label is not None:
        return _corrections(example, example.label, [truth for truth in about if truth.visible_us > previous_us])
    if example.due_us > watermark_us:
        return []
    in_time = [truth for truth in about if truth.visible_us <= example.due_us]
    first = first_label(example, in_time[-1] if in_time else None, verdict)
    return [first, *_corrections(example, first, about[len(in_time) :])]


def first_label(example: Example, truth: Truth | None, verdict: Verdict) -> Label:
    """What is known when the example matures."""
    if truth is not None:
        return _said(example, truth, example.due_us, 0)
    defaulted = verdict.missing is Missing.DEFAULT
    return Label(
        entity=example.entity,
        moment_us=example.moment_us,
        outcome=Outcome.OBSERVED if defaulted else Outcome.CENSORED,
        value=verdict.default if defaulted else 0.0,
        origin=Origin.DECLARED_DEFAULT if defaulted else Origin.LATE_TRUTH,
        event_us=0,
        visible_us=example.due_us,
        matured_us=example.matured_us,
        revision=0,
        cause_id=example.event_id,
    )


def in_order(labels: Sequence[Label]) -> list[Label]:
    """The order in which labels are published: by visible time, then by example."""
    return sorted(labels, key=lambda label: (label.visible_us, label.moment_us, label.entity, label.revision))


def earlier(one: Example, other: Example) -> Example:
    """Of two announcements of one example the one that was visible first; the same whatever the order of arrival."""
    return min(one, other, key=lambda example: (example.visible_us, example.event_id))


def _corrections(example: Example, last: Label, truths: Sequence[Truth]) -> list[Label]:
    labels = []
    for truth in truths:
        corrected = _said(example, truth, truth.visible_us, last.revision + 1)
        if not corrected.says_the_same(last):
            last = corrected
            labels.append(corrected)
    return labels


def _said(example: Example, truth: Truth, visible_us: int, revision: int) -> Label:
    return Label(
        entity=example.entity,
        moment_us=example.moment_us,
        outcome=Outcome.CENSORED if truth.value is None else Outcome.OBSERVED,
        value=0.0 if truth.value is None else truth.value,
        origin=truth.origin,
        event_us=truth.event_us,
        visible_us=visible_us,
        matured_us=example.matured_us,
        revision=revision,
        cause_id=truth.event_id,
    )
