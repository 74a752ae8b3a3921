"""Every feature of a project as people look for it: what it is, what it is made of, who takes it; and the search."""

from __future__ import annotations

from dataclasses import dataclass

from millrace.definitions.lineage import Making, Use, making, uses
from millrace.definitions.model import Docs, Project, View
from millrace.definitions.semantics import view_types


@dataclass(frozen=True, slots=True)
class Entry:
    """One column of one version of a view. `feature` names the version only where a newer one exists."""

    feature: str
    view: View
    column: str
    type: str  # string, number, integer, boolean, timestamp
    event_type: str
    making: Making
    docs: Docs
    uses: tuple[Use, ...]

    @property
    def view_id(self) -> str:
        """`view@version`."""
        return f"{self.view.name}@{self.view.version}"

    @property
    def used_by(self) -> tuple[str, ...]:
        """Model and services that take it or join through it, each once."""
        return tuple(dict.fromkeys(use.name for use in self.uses))


def entries(project: Project) -> list[Entry]:
    """All features, by view and column in the order declared."""
    found = []
    for view in project.views:
        newest = project.view(view.name).version == view.version
        types = view_types(view, project.source(view.source))
        for column in view.columns:
            said = view.docs_of(column)
            docs = Docs(
                said.description or view.docs.description,
                said.owner or view.docs.owner,
                tuple(dict.fromkeys((*said.tags, *view.docs.tags))),
            )
            found.append(
                Entry(
                    feature=f"{view.name}.{column}" if newest else f"{view.name}@{view.version}.{column}",
                    view=view,
                    column=column,
                    type=types[column],
                    event_type=project.source(view.source).event_type,
                    making=making(view, column),
                    docs=docs,
                    uses=tuple(uses(project, view, column)),
                )
            )
    return found


def search(found: list[Entry], text: str) -> list[Entry]:
    """Those in which every word of `text` occurs somewhere: name, view, entity, source, type, making, what is said."""
    words = text.casefold().split()
    return [entry for entry in found if all(word in _text(entry) for word in words)]


def _text(entry: Entry) -> str:
    view, docs = entry.view, entry.docs
    parts = (entry.feature, entry.view_id, view.entity, view.source, entry.type, entry.event_type, entry.making.text)
    said = (docs.description, view.docs.description, docs.owner, *docs.tags, view.where, *entry.used_by)
    return "\n".join((*parts, *said)).casefold()
