"""How the sources of a project name one entity, and what is kept as proof that it was forgotten."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass

from millrace.definitions.model import Field, Pii, Project, Source

from services.ingestion.domain.values import BadValue, converter, key_text, treatment


@dataclass(frozen=True, slots=True)
class Name:
    """An entity as one source's field stores it."""

    source: str
    field: str
    entity: str


def names(project: Project, entity: str, fields: Sequence[str], hashing: bytes) -> tuple[list[Name], Name | None]:
    """How each source names the entity, and how predictions, labels and training sets do (None: not at all).

    `fields` are names of fields that hold it; none: the entity of `predict` with the key of the label. A field that
    is dropped, masked or encrypted names nobody.
    """
    wanted = set(fields) or {project.predict.entity}
    found: list[Name] = []
    example: Name | None = None
    for source in project.sources:
        for field in source.fields:
            is_label = (source.name, field.name) == (project.label.source, project.label.key)
            if field.name not in wanted and not (is_label and project.predict.entity in wanted):
                continue
            stored = stored_name(field, entity, hashing)
            if stored is None:
                continue
            found.append(Name(source.name, field.name, stored))
            if (source.name, field.name) == (project.predict.source, project.predict.entity):
                example = found[-1]
    return found, example


def is_key(source: Source, name: Name) -> bool:
    """Whether the source's events have this name as their key."""
    return source.name == name.source and source.key == name.field


def stored_name(field: Field, entity: str, hashing: bytes) -> str | None:
    """The text under which a field stores this value; None where it cannot hold it, or names nobody."""
    if field.pii not in (Pii.KEEP, Pii.HASH):
        return None
    try:
        kept = converter(field.type)(int(entity) if field.type == "integer" else entity)
    except (BadValue, ValueError):
        return None
    treat = treatment(field.pii, hashing)
    return key_text(treat(kept) if treat else kept)


def stored_names(source: Source, data: bytes, hashing: bytes) -> dict[str, str]:
    """What the fields of a received event would name it as; nothing where it is no JSON object."""
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    if not isinstance(value, dict):
        return {}
    found = {f.name: stored_name(f, key_text(value.get(f.name)), hashing) for f in source.fields if f.name in value}
    return {name: text for name, text in found.items() if text}


def proof_of(record: bytes, before: str) -> str:
    """SHA-256 over the record and the proof that it stands on: a chain, so that none can be taken out unseen."""
    return hashlib.sha256(before.encode() + b"\n" + record).hexdigest()


def signature_of(key: bytes, proof: str) -> str:
    """HMAC-SHA-256 of a proof."""
    return hmac.new(key, proof.encode(), hashlib.sha256).hexdigest()
