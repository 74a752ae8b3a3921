"""From a source's fields to a feature, and on to the model and the services that take it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from millrace.definitions.model import WITH_ARGUMENT, Aggregation, Input, Project, View, format_duration
from millrace.expressions import parse


@dataclass(frozen=True, slots=True)
class Making:
    """How one column comes about: in words, and from which fields of its source."""

    text: str  # `mean(delay) over 1h`, `hour(placed_at)`, `newest amount`
    fields: tuple[str, ...]  # what its value is computed from
    selecting: tuple[str, ...]  # what decides which events count: the entity, and the fields of `where`


@dataclass(frozen=True, slots=True)
class Use:
    """One place that takes a column: the model or a service, under which name, joined through what."""

    kind: str  # model, service
    name: str  # the model's name, or `service@version`
    feature: str
    through: str = ""


def making(view: View, column: str) -> Making:
    """How `column` of the view is made. Raises KeyError when the view has no such column."""
    if column not in view.columns:
        raise KeyError(column)
    selecting = set(view.entity_fields) | (parse(view.where).names if view.where else set())
    text, fields = _value(view, column)
    return Making(text, tuple(sorted(fields)), tuple(sorted(selecting)))


def _value(view: View, column: str) -> tuple[str, frozenset[str]]:
    if view.is_windowed:
        made = {
            f"{name}_{format_duration(w)}": (a, w)
            for a in view.aggregates
            for name in a.outputs
            for w in view.windows_us
        }
        aggregate, window_us = made[column]
        argument = f", {aggregate.argument:g}" if aggregate.function in WITH_ARGUMENT else ""
        call = f"{aggregate.function.value}({aggregate.expression}{argument})"
        names = parse(aggregate.expression).names if aggregate.expression else frozenset()
        place = f", number {column.rsplit('_', 2)[1]}" if aggregate.function is Aggregation.LAST_K else ""
        return f"{call} over {format_duration(window_us)}{place}", frozenset(names)
    expression = dict(view.derive).get(column)
    if expression is not None:
        return expression, frozenset(parse(expression).names)
    return f"newest {column}", frozenset({column})


def uses(project: Project, view: View, column: str) -> list[Use]:
    """Everything in the definition that takes this column of this version of the view, or joins through it."""
    found = []
    for kind, name, features, pins in _takers(project):
        if pins.get(view.name) == view.version:
            taken = [i for i in features if (i.view, i.column) == (view.name, column)]
            carried = [i for i in features if f"{view.name}.{column}" in i.carriers]
            found += [Use(kind, name, i.name, i.through) for i in taken]
            found += [Use(kind, name, i.name, f"{view.name}.{column}") for i in carried if i not in taken]
    return found


def model_pins(project: Project) -> dict[str, int]:
    """Which version of each view the model's inputs mean, those joined through included: the newest declared."""
    names = {i.view for i in project.model.inputs}
    names |= {one.partition(".")[0] for i in project.model.inputs for one in i.carriers}
    return {name: project.view(name).version for name in sorted(names)}


def users_of_view(project: Project, view_id: str) -> list[str]:
    """The model and the services whose features need this version of a view."""
    name, _, version = view_id.partition("@")
    return [f"{kind} {who}" for kind, who, _, pins in _takers(project) if pins.get(name) == int(version)]


def _takers(project: Project) -> Iterator[tuple[str, str, tuple[Input, ...], dict[str, int]]]:
    yield "model", project.model.name, project.model.inputs, model_pins(project)
    for service in project.services:
        yield "service", service.id, service.features, dict(service.pins)
