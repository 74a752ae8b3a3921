"""Feature services: named sets of features, each version immutable, so it says which versions of views it means."""

from __future__ import annotations

from typing import Any

from millrace.definitions.build import docs, joined, split_view
from millrace.definitions.document import Path
from millrace.definitions.errors import did_you_mean
from millrace.definitions.inputs import Asked, expand
from millrace.definitions.model import FeatureService
from millrace.definitions.semantics import Draft


def expand_services(draft: Draft) -> tuple[FeatureService, ...]:
    """All services, in the order of the file; errors are in the draft's document."""
    services = []
    for key in draft.section("services"):
        path: Path = ("services", key)
        if not draft.whole(*path):
            continue
        name, version = split_view(key)
        if name == draft.raw("model", "name"):
            draft.document.add(path, f"{name} is the model's name: its inputs are a service of that name already")
        raw = draft.raw("services", key)
        entity = _entity(draft, path, raw)
        pins: dict[str, int] = _written_pins(raw["features"])
        asked = Asked(draft, entity, "the service's entity" if "entity" in raw else "the predict entity", pins)
        features = expand(asked, (*path, "features"), raw["features"])
        services.append(FeatureService(name, version, entity, features, tuple(sorted(pins.items())), docs(raw)))
    return tuple(services)


def _entity(draft: Draft, path: Path, raw: dict[str, Any]) -> str:
    predicted = draft.predict.entity if draft.predict else ""
    entity = joined(raw.get("entity", predicted))
    known = sorted({view.entity for view in draft.views.values() if view is not None} | {predicted} - {""})
    if "entity" in raw and draft.views and None not in draft.views.values() and entity not in known:
        draft.document.add((*path, "entity"), f"no view is about {entity}", did_you_mean(entity, known))
        return ""
    return entity


def _written_pins(features: list[Any]) -> dict[str, int]:
    """Versions written anywhere in the service hold for all of it; that two of them differ is told later."""
    pins: dict[str, int] = {}
    for item in features:
        names = [item] if isinstance(item, str) else [item["view"], *joined(item.get("through", "")).split(",")]
        for text in names:
            name, at, version = text.partition(".")[0].partition("@")
            if at and version.isdigit():
                pins.setdefault(name, int(version))
    return pins
