"""How a source's fields may change: FULL_TRANSITIVE. Each version reads what every other one wrote, earlier or later.

Readers take a field that a record lacks as null, and skip a field that they do not declare. So, over all versions that
a source ever had, also those before it was gone for a while:

- a field keeps its type and its PII treatment (which says what is kept of it) for ever, also when it comes back;
- a field that some version lacks is optional in every version, and a field keeps its `required`;
- so a new field is optional, an optional one may go, and a required one stays;
- key and event time stay: they say where and when a record lies.

Expectations (range, set, regex, max_null_share, unique, references, freshness), lateness, max_future and the event
type may change: they judge events at the door from then on, and no reader depends on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from millrace.definitions.document import Document, Path
from millrace.definitions.model import Field, Project, Source

Problem = tuple[Path, str, str]  # below the source: (path, message, hint)


def check_evolution(document: Document, history: Sequence[Project], new: Project) -> None:
    """Adds an error for each field that an earlier version of its source, or a later reader, would not agree with.
    `history` is every accepted definition, version 1 first."""
    number = len(history) + 1
    for source in new.sources:
        past = [(version, _source(project, source.name)) for version, project in enumerate(history, start=1)]
        known = [(version, old) for version, old in past if old is not None]
        for path, message, hint in source_problems(known, number, source):
            document.add(("sources", source.name, *path), message, hint)


def source_problems(past: Sequence[tuple[int, Source]], number: int, new: Source) -> Iterator[Problem]:
    """What keeps `new`, version `number`, from following `past`: (version, source) pairs, oldest first. One problem per
    field, against the newest version that it does not agree with."""
    if not past:
        return
    version, old = past[-1]
    for role in ("key", "event_time"):
        was, is_now = getattr(old, role), getattr(new, role)
        if was != is_now:
            word = role.replace("_", " ")
            yield (role,), f"the {word} is {was} in version {version} and {is_now} in version {number}", _NEW_SOURCE
    names = {field.name for field in new.fields}
    for field in new.fields:
        yield from _field_problem(past, number, field)
    for version, gone in _last_seen(past):
        if gone.name not in names and gone.required:
            yield (
                ("fields",),
                f"{gone.name} is required in version {version} and missing in version {number}: "
                f"who reads by version {version} would find records without it",
                f"keep {gone.name}, or make a new source",
            )


def _field_problem(past: Sequence[tuple[int, Source]], number: int, new: Field) -> Iterator[Problem]:
    path: Path = ("fields", new.name)
    seen = [(version, _field(source, new.name)) for version, source in past]
    version, old = next(((v, f) for v, f in reversed(seen) if f is not None), (0, None))
    lacking = next((v for v, f in reversed(seen) if f is None), 0)
    fix = f"give the field that changes a new name beside {new.name}, or make a new source"
    if old is not None and old.type is not new.type:
        yield (
            (*path, "type"),
            f"{new.name} is {_a(old.type)} in version {version} and {_a(new.type)} in version {number}: records of the"
            " one cannot be read by the other",
            fix,
        )
    elif old is not None and old.pii is not new.pii:
        yield (
            (*path, "pii"),
            f"{new.name} is kept as {old.pii} in version {version} and as {new.pii} in version {number}: its values"
            " would no longer be comparable",
            f"{fix}; to stop keeping an optional field, remove it",
        )
    elif old is not None and old.required is not new.required:
        yield (
            (*path, "required"),
            f"{new.name} is {_need(old)} in version {version} and {_need(new)} in version {number}: records of the one"
            " break the other",
            fix,
        )
    elif old is None and new.required and lacking:
        yield (
            (*path, "required"),
            f"{new.name} is new in version {number} and required, but records of version {lacking} lack it",
            "make it optional (max_null_share watches how often it is missing)",
        )


def _last_seen(past: Sequence[tuple[int, Source]]) -> Iterator[tuple[int, Field]]:
    """Each field that ever was, as the newest version that had it has it."""
    newest: dict[str, tuple[int, Field]] = {}
    for version, source in past:
        newest.update({field.name: (version, field) for field in source.fields})
    yield from newest.values()


def _source(project: Project, name: str) -> Source | None:
    return next((source for source in project.sources if source.name == name), None)


def _field(source: Source, name: str) -> Field | None:
    return next((field for field in source.fields if field.name == name), None)


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeio" else f"a {kind}"


def _need(field: Field) -> str:
    return "required" if field.required else "optional"


_NEW_SOURCE = "make a new source: its records lie elsewhere"
