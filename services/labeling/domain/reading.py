"""From data records to examples and truths, as one project's definition says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from millrace.definitions.keys import entity_key
from millrace.definitions.model import Project
from millrace.expressions import Expression, ExpressionError, parse

from services.labeling.domain.maturity import Verdict
from services.labeling.domain.values import Example, Truth

Row = Mapping[str, Any]


class BadRow(ValueError):
    """A row that the definition cannot be applied to."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What is known of a record beside its body."""

    event_id: str
    event_us: int
    visible_us: int


@dataclass(frozen=True, slots=True)
class Reading:
    """A project's definition made ready: expressions parsed once."""

    project: Project
    version: int
    moment: Expression
    value: Expression

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources read here: where examples come from, and where truth comes from."""
        return tuple(dict.fromkeys((self.project.predict.source, self.project.label.source)))

    @property
    def verdict(self) -> Verdict:
        """What a truth that never comes means."""
        return Verdict(self.project.label.missing, self.project.label.default)

    def example(self, source: str, row: Row, stamp: Stamp) -> Example | None:
        """The example that a record announces; None for other sources and where entity or moment is null."""
        predict = self.project.predict
        if source != predict.source:
            return None
        entity, moment_us = entity_key(row.get(predict.entity)), self._evaluate(self.moment, row)
        if entity is None or moment_us is None:
            return None
        if type(moment_us) is not int:
            raise BadRow(f"the prediction moment is not a timestamp but {moment_us!r}")
        matured_us = moment_us + self.project.label.horizon_us
        return Example(entity, moment_us, matured_us, stamp.visible_us, stamp.event_id)

    def truth(self, source: str, row: Row, stamp: Stamp) -> Truth | None:
        """The truth that a record tells; None for other sources and where the key is null."""
        label = self.project.label
        if source != label.source:
            return None
        entity = entity_key(row.get(label.key))
        if entity is None:
            return None
        value = self._evaluate(self.value, row)
        if value is not None and not isinstance(value, (bool, int, float)):
            raise BadRow(f"the label is not a number but {value!r}")
        return Truth(entity, stamp.event_us, stamp.visible_us, stamp.event_id, None if value is None else float(value))

    def _evaluate(self, expression: Expression, row: Row) -> Any:
        try:
            return expression.evaluate(row)
        except ExpressionError as error:
            raise BadRow(str(error)) from error


def reading_of(project: Project, version: int) -> Reading:
    """`project`, ready to read its records. Raises ExpressionError, which an accepted definition never does."""
    return Reading(project, version, parse(project.predict.moment), parse(project.label.value))


def example_key(project: str, entity: str, moment_us: int) -> str:
    """The key of topic `labels`."""
    return f"{project}/{entity}/{moment_us}"
