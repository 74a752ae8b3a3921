"""A feature's lineage as one drawing: fields of its source, the feature, who takes it, which versions read it."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from markupsafe import Markup
from millrace.definitions.catalogue import Entry
from millrace.definitions.model import Pii, Project
from millrace.web import graph

from services.feature_store.domain.lineage import ModelVersion

MOST_VERSIONS = 6  # the newest ones; the table below the drawing has them all
TONES = {"champion": "good", "canary": "warn", "shadow": "warn", "rejected": "bad"}


def lineage_picture(project: Project, entry: Entry, versions: Sequence[ModelVersion]) -> Markup:
    """The drawing."""
    source = project.source(entry.view.source)
    fields, links = [], []
    for name in dict.fromkeys((*entry.making.fields, *entry.making.selecting, source.event_time)):
        field = source.field(name)
        personal = "" if field.pii is Pii.KEEP else f", {field.pii.value}"
        fields.append(graph.Box(f"field:{name}", name, f"{source.name}: {field.type.value}{personal}", "field"))
        links.append(graph.Link(f"field:{name}", "feature", "value" if name in entry.making.fields else "select"))
    feature = graph.Box("feature", entry.feature, entry.making.text, "here")
    takers: dict[str, graph.Box] = {}
    for use in entry.uses:
        key = f"{use.kind}:{use.name}"
        text = f"as {use.feature}" if use.feature != entry.feature else use.kind
        href = f"/services#{quote(use.name)}" if use.kind == "service" else ""
        takers.setdefault(key, graph.Box(key, use.name, text, use.kind, href))
        links.append(graph.Link("feature", key))
    boxes = []
    for version in versions[:MOST_VERSIONS]:
        key = f"version:{version.model}:{version.version}"
        tone = TONES.get(version.state, "plain")
        boxes.append(graph.Box(key, f"{version.model} v{version.version}", version.state, tone))
        links.append(graph.Link(f"model:{version.model}", key))
    shown = [fields, [feature], list(takers.values()), boxes]
    return graph.columns(shown, list(dict.fromkeys(links)), title=f"Lineage of {entry.feature}")
