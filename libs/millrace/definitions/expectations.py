"""Expectations of whole windows (null share, uniqueness, references, freshness): what makes one impossible to judge."""

from __future__ import annotations

from millrace.definitions.document import Document, Path
from millrace.definitions.errors import did_you_mean
from millrace.definitions.model import Field, FieldType, Pii, Source
from millrace.definitions.semantics import Draft

COMPARABLE = frozenset({Pii.KEEP, Pii.HASH})  # equal values stay equal, different ones different
MAX_REFERENCED = 16  # fields per project whose values are remembered


def check_expectations(draft: Draft) -> None:
    """Adds an error for each expectation that could never be kept or never be judged."""
    referenced: dict[tuple[str, str], Path] = {}
    for source in draft.sources.values():
        if source is None:
            continue
        path: Path = ("sources", source.name)
        if draft.raw(*map(str, path), "freshness") is not None and source.freshness_us == 0:
            draft.document.add((*path, "freshness"), "must be above zero", "leave it out where any silence is fine")
        for field in source.fields:
            here = (*path, "fields", field.name)
            _check_field(draft.document, here, field)
            if field.references is not None:
                _check_reference(draft, (*here, "references"), source, field)
                referenced.setdefault((field.references.source, field.references.field), (*here, "references"))
    for path in list(referenced.values())[MAX_REFERENCED:]:
        draft.document.add(
            path, f"more than {MAX_REFERENCED} fields are referred to: the values of each are remembered"
        )


def _check_field(document: Document, path: Path, field: Field) -> None:
    if field.max_null_share is not None and field.required:
        hint = "leave out one of the two: required refuses each null, max_null_share counts them"
        document.add((*path, "max_null_share"), f"{field.name} is required and never null", hint)
    if field.max_null_share is not None and field.pii is Pii.DROP:
        document.add((*path, "max_null_share"), f"{field.name} is dropped: all of it is null")
    if not field.unique:
        return
    if field.type is FieldType.BOOLEAN:
        document.add((*path, "unique"), "a boolean has two values and cannot be unique")
    if field.pii not in COMPARABLE:
        document.add((*path, "unique"), *_incomparable(field))


def _check_reference(draft: Draft, path: Path, source: Source, field: Field) -> None:
    wanted = field.references
    if wanted is None or field.pii not in COMPARABLE:
        draft.document.add(path, *_incomparable(field))
        return
    other = draft.source_at(wanted.source, (*path, "source"))
    if other is None:
        return
    names = [candidate.name for candidate in other.fields]
    if wanted.field not in names:
        message = f"source {other.name} has no field {wanted.field}"
        draft.document.add((*path, "field"), message, did_you_mean(wanted.field, names))
        return
    target = other.field(wanted.field)
    if (other.name, target.name) == (source.name, field.name):
        draft.document.add(path, f"{field.name} refers to itself: each of its values would be known")
    elif target.type is not field.type:
        draft.document.add(path, f"{field.name} is a {field.type}, but {other.name}.{target.name} is a {target.type}")
    elif target.pii is not field.pii:
        message = (
            f"{field.name} ({field.pii}) and {other.name}.{target.name} ({target.pii}) are kept in different forms"
        )
        draft.document.add(path, message, "give both the same pii: keep, or hash")


def _incomparable(field: Field) -> tuple[str, str]:
    return f"{field.name} is kept in a form ({field.pii}) that tells no two values apart", "use pii: keep, or hash"
