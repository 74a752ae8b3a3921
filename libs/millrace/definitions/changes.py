"""What one definition changes in another: for people before they apply, and what may not be changed at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

from millrace.definitions.document import Document, Path
from millrace.definitions.evolution import check_evolution
from millrace.definitions.model import Project, Source, View
from millrace.expressions import parse

# Sections whose change leaves features, labels and models as they are: they act from the next decision on.
_POLICIES = ("training", "gate", "rollout", "monitors")


def changes(old: Project | None, new: Project) -> list[str]:
    """One line each: what is new, changed, gone, what is recomputed, which models are touched; empty when equal."""
    if old is None:
        lines = [f"project {new.name} is new", *(f"source {s.name} is new" for s in new.sources)]
        lines += [f"view {_key(v)} is new: filled from its source's history" for v in new.views]
        return [*lines, f"model {new.model.name} is new: the first run waits for labels"]
    return [
        *_source_lines(old, new),
        *_view_lines(old, new),
        *_example_lines(old, new),
        *_model_lines(old, new),
        *(f"{name} changed: acts from the next decision on" for name in _POLICIES if _differs(old, new, name)),
        *(["description changed"] if old.description != new.description else []),
    ]


def check_changes(document: Document, history: Sequence[Project], new: Project) -> None:
    """Adds an error for each change that may not be made: a view edited in place, a source that no longer reads or
    writes what an earlier version of it did, another clock, another task."""
    if not history:
        return
    old = history[-1]
    before = {_key(v): _meaning(v, past) for past in history for v in past.views}
    published = [view for past in history for view in past.views]
    for view in new.views:
        key = _key(view)
        if key in before and before[key] != _meaning(view, new):
            newest = max(v.version for v in (*published, *new.views) if v.name == view.name)
            path: Path = ("features", key)
            document.add(
                path, f"{key} is published and cannot change", f"name the changed view {view.name}@{newest + 1}"
            )
    check_evolution(document, history, new)
    if old.clock != new.clock:
        document.add(("clock",), f"the clock is {old.clock} and cannot change", "make a new project")
    if old.model.name == new.model.name and old.model.task != new.model.task:
        message = f"the model {old.model.name} is a {old.model.task} model and cannot become another kind"
        document.add(("model", "task"), message, "give the model another name")


def _key(view: View) -> str:
    return f"{view.name}@{view.version}"


def _meaning(view: View, project: Project) -> tuple[View, tuple[tuple[str, str], ...]]:
    """The view and the types of the fields that it reads: what its values depend on."""
    texts = [text for _, text in view.derive] + [a.expression for a in view.aggregates] + [view.where]
    names = {*view.entity_fields, *view.latest}.union(*(parse(text).names for text in texts if text))
    source = project.source(view.source)
    types = tuple(sorted((f.name, f"{f.type}/{f.pii}") for f in source.fields if f.name in names))
    return view, (*types, ("event_time", source.event_time))


def _source_lines(old: Project, new: Project) -> Iterator[str]:
    before, after = {s.name: s for s in old.sources}, {s.name: s for s in new.sources}
    for name in after.keys() - before.keys():
        yield f"source {name} is new"
    for name in before.keys() - after.keys():
        yield f"source {name} is gone: its topics stay, nothing reads them"
    for name in sorted(before.keys() & after.keys()):
        if before[name] != after[name]:
            yield f"source {name} changed ({', '.join(_parts(before[name], after[name]))}): acts on events from now on"


def _parts(old: Source, new: Source) -> list[str]:
    parts = [f.name for f in fields(Source) if f.name != "fields" and getattr(old, f.name) != getattr(new, f.name)]
    before, after = {f.name: f for f in old.fields}, {f.name: f for f in new.fields}
    parts += [f"+{name}" for name in after if name not in before]
    parts += [f"-{name}" for name in before if name not in after]
    return parts + [name for name in after if name in before and before[name] != after[name]]


def _view_lines(old: Project, new: Project) -> Iterator[str]:
    before, after = {_key(v) for v in old.views}, {_key(v) for v in new.views}
    for view in new.views:
        if _key(view) not in before:
            beside = any(v.name == view.name for v in old.views)
            yield f"view {_key(view)} is new: backfilled{' beside the old one' if beside else ''} from history"
    for key in sorted(before - after):
        yield f"view {key} is gone: it lives until no loadable model needs it"


def _example_lines(old: Project, new: Project) -> Iterator[str]:
    if old.predict != new.predict:
        yield f"predict changed: what one example is; model {new.model.name} is touched"
    if old.label != new.label:
        yield f"label changed: new truth from now on; model {new.model.name} is touched"


def _model_lines(old: Project, new: Project) -> Iterator[str]:
    if old.model.name != new.model.name:
        yield f"model {new.model.name} is new: it starts at version 1"
        yield f"model {old.model.name} is gone: its last version serves until it is retired"
        return
    before, after = {i.name: i for i in old.model.inputs}, {i.name: i for i in new.model.inputs}
    gained = sorted(after.keys() - before.keys())
    lost = sorted(before.keys() - after.keys())
    changed = sorted(n for n in after if n in before and after[n] != before[n])
    named = [f"+{n}" for n in gained] + [f"-{n}" for n in lost] + changed
    if named:
        yield f"model {new.model.name} has other inputs ({', '.join(named)}): the next run trains on them"
    elif replace(old.model, inputs=()) != replace(new.model, inputs=()) or old.model.inputs != new.model.inputs:
        yield f"model {new.model.name} changed: the next run trains so"


def _differs(old: Project, new: Project, section: str) -> bool:
    return bool(getattr(old, section) != getattr(new, section))
