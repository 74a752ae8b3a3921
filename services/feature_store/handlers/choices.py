"""What a caller may ask for: the model's inputs, a feature service, or columns of views by an entity's own key.

A request has keys of one kind of entity. It is the predict entity, unless a service or `by` says another: it never
depends on which features happen to be the model's today.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from millrace.definitions.errors import did_you_mean
from millrace.definitions.model import FieldType, Input, Project
from millrace.definitions.semantics import view_types
from millrace.runtime.errors import Invalid

from services.feature_store.domain.inputs import InputsPlan, plan_inputs
from services.feature_store.domain.views import CompiledView
from services.feature_store.errors import UnknownFeature, UnknownService


@dataclass(frozen=True, slots=True)
class Choice:
    """Names of features, of a service, and of the field whose values the keys are; nothing: all inputs of the model."""

    features: tuple[str, ...] = ()
    service: str = ""
    by: str = ""


def choose(choice: Choice, project: Project, views: Mapping[str, CompiledView], inputs: InputsPlan) -> InputsPlan:
    """The plan of a choice; `views` by id, `inputs` is the model's plan. Raises UnknownFeature, UnknownService."""
    if choice.service:
        if choice.by:
            raise Invalid(f"the service {choice.service} says whose keys it takes: leave out by={choice.by}")
        plan = _service(choice.service, project, views, inputs)
        return _restricted(plan, choice.features, f"the service {choice.service}") if choice.features else plan
    if choice.by and choice.by not in (entities := sorted({v.view.entity for v in views.values()})):
        raise UnknownFeature(f"no view of {project.name} is about {choice.by}{_hint(choice.by, entities)}")
    if choice.by:
        return _columns(choice.features, choice.by, project, views)
    if set(choice.features) <= set(inputs.names):
        return inputs.restricted(choice.features)
    return _mixed(choice.features, project, views, inputs)


def _service(name: str, project: Project, views: Mapping[str, CompiledView], inputs: InputsPlan) -> InputsPlan:
    if name == project.model.name:
        return inputs
    try:
        service = project.service(name)
    except KeyError:
        known = [project.model.name, *(s.id for s in project.services)]
        raise UnknownService(f"{project.name} has no feature service {name}{_hint(name, known)}") from None
    return plan_inputs(service.features, {view: views[f"{view}@{version}"] for view, version in service.pins})


def _restricted(plan: InputsPlan, names: tuple[str, ...], owner: str) -> InputsPlan:
    for name in names:
        if name not in plan.names:
            raise UnknownFeature(f"{owner} has no feature {name}{_hint(name, plan.names)}")
    return plan.restricted(names)


def _columns(names: tuple[str, ...], entity: str, project: Project, views: Mapping[str, CompiledView]) -> InputsPlan:
    """Columns of views about `entity`; for no names all columns of the newest versions."""
    newest = {f"{v.name}@{v.version}" for v in (project.view(name) for name in {v.name for v in project.views})}
    if not names:
        chosen = [v for v in views.values() if v.id in newest and v.view.entity == entity]
        names = tuple(f"{v.view.name}.{column}" for v in chosen for column in v.view.columns)
    return plan_inputs([_input(name, entity, project, views) for name in names], views)


def _mixed(
    names: tuple[str, ...], project: Project, views: Mapping[str, CompiledView], inputs: InputsPlan
) -> InputsPlan:
    """Inputs of the model beside columns of other views about the predict entity."""
    entity = project.predict.entity
    declared = {i.name: i for i in project.model.inputs}
    items = []
    for name in names:
        item = declared.get(name)
        if item is None:
            items.append(_input(name, entity, project, views, inputs.names))
            continue
        items.append(item)
    newest = {view.name: views[f"{view.name}@{project.view(view.name).version}"] for view in project.views}
    return plan_inputs(items, {**newest, **views})


def _input(
    name: str, entity: str, project: Project, views: Mapping[str, CompiledView], more: list[str] | None = None
) -> Input:
    """`view.column` or `view@version.column` as an input whose view is named by its id."""
    view_name, _, column = name.partition(".")
    view_id = view_name
    if "@" not in view_name and any(v.name == view_name for v in project.views):
        view_id = f"{view_name}@{project.view(view_name).version}"
    view = views.get(view_id)
    if view is None or column not in view.view.columns:
        known = [f"{v.view.name}.{c}" for v in views.values() for c in v.view.columns if v.view.entity == entity]
        raise UnknownFeature(f"{project.name} has no feature {name}{_hint(name, [*(more or []), *known])}")
    if view.view.entity != entity:
        own = view.view.entity
        raise UnknownFeature(f"{name} is about {own}, not about {entity}: ask by={own}, with keys of {own}")
    kind = view_types(view.view, project.source(view.view.source))[column]
    return Input(name, view_id, column, FieldType.STRING if kind == "string" else FieldType.NUMBER)


def _hint(word: str, known: list[str]) -> str:
    hint = did_you_mean(word, list(dict.fromkeys(known)))
    return f" ({hint})" if hint else ""
