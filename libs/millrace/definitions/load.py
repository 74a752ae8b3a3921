"""A project file's text to a Project, or every error at once."""

from __future__ import annotations

from collections.abc import Sequence

from millrace.definitions import build, release, semantics
from millrace.definitions.changes import check_changes
from millrace.definitions.document import read
from millrace.definitions.errors import DefinitionErrors
from millrace.definitions.expectations import check_expectations
from millrace.definitions.gate import Gate
from millrace.definitions.inputs import expand_inputs
from millrace.definitions.model import Input, Model, Monitors, Project, Rollout, Task, Training
from millrace.definitions.semantics import Draft
from millrace.definitions.services import expand_services
from millrace.definitions.shape import check_shape


def load_text(text: str, file_name: str = "project.yaml", history: Sequence[Project] = ()) -> Project:
    """The project that `text` declares; raises DefinitionErrors, and nothing else, with all errors.

    `history` are the definitions that it follows, oldest first: changes that may not be made to them are errors too.
    """
    document = read(text, file_name)
    if not isinstance(document.value, dict):
        if not document.errors:
            document.add((), "a project file is a mapping of sections")
        raise DefinitionErrors(document.errors)
    draft = Draft(document, check_shape(document))
    project = _build(draft)
    if project is not None and not document.errors:
        check_changes(document, history, project)
    if document.errors or project is None:
        raise DefinitionErrors(document.errors)
    return project


def _build(draft: Draft) -> Project | None:
    """Checks everything that can be checked; None when a section is missing or broken."""
    semantics.check_sources(draft)
    check_expectations(draft)
    semantics.check_predict(draft)
    semantics.check_views(draft)
    semantics.check_label(draft)
    task = build.task(draft.raw("model", "task")) if draft.whole("model", "task") else None
    inputs = expand_inputs(draft)
    services = expand_services(draft)
    model = _model(draft, task, inputs) if task is not None and draft.whole("model") else None
    training = build.training(draft.raw("training")) if draft.whole("training") else Training()
    rollout = build.rollout(draft.raw("rollout")) if draft.whole("rollout") else Rollout("direct")
    monitors = build.monitors(draft.raw("monitors")) if draft.whole("monitors") else Monitors()
    gate = build.gate(draft.raw("gate")) if draft.whole("gate") else Gate(metric="")
    release.check_training(draft.document, training)
    release.check_rollout(draft.document, rollout)
    if task is not None:
        release.check_task(draft.document, task, draft.label, _label_type(draft))
    if task is not None and gate.metric:
        known = inputs if draft.whole("model", "inputs") else None
        release.check_gate(draft.document, draft.raw("gate"), gate, task, known)
    if draft.document.errors or model is None or draft.predict is None or draft.label is None:
        return None
    return Project(
        name=draft.raw("project"),
        description=draft.raw("description") or "",
        clock=build.project_clock(draft.raw("clock")),
        sources=tuple(s for s in draft.sources.values() if s is not None),
        predict=draft.predict,
        views=tuple(v for v in draft.views.values() if v is not None),
        label=draft.label,
        model=model,
        training=training,
        gate=gate,
        rollout=rollout,
        monitors=monitors,
        services=services,
    )


def _model(draft: Draft, task: Task, inputs: tuple[Input, ...]) -> Model:
    known = {"baselines": tuple(draft.raw("model", "baselines"))} if draft.whole("model", "baselines") else {}
    return Model(draft.raw("model", "name"), task, build.template(draft.raw("model", "template")), inputs, **known)


def _label_type(draft: Draft) -> str:
    source = draft.sources.get(draft.label.source) if draft.label else None
    if draft.label is None or source is None:
        return ""
    before = len(draft.document.errors)
    kind = draft.type_at(draft.label.value, semantics.field_types(source), ("label", "value"))
    del draft.document.errors[before:]
    return kind
