"""Encrypted values in the clear, for those who may, with a trace of who did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from millrace.definitions.model import Pii
from millrace.runtime.errors import Invalid

from services.ingestion.domain.personal import entity_reference
from services.ingestion.errors import Unreadable
from services.ingestion.handlers.plane import Ingestion
from services.ingestion.ports import Forgets, Keys, Reveal

MAX_VALUES = 256


class RevealDesk:
    """One desk per process."""

    def __init__(self, plane: Ingestion, book: Forgets, keys: Keys, wall_us: Callable[[], int]) -> None:
        self._plane = plane
        self._book = book
        self._keys = keys
        self._wall_us = wall_us
        self._secret = b""

    def open(self, secret: bytes) -> None:
        """`secret` is the room's."""
        self._secret = secret

    async def reveal(
        self, project: str, source: str, entity: str, values: Mapping[str, str], reason: str, actor: str
    ) -> dict[str, str]:
        """Field to value in the clear. Who asked is kept before anything is shown.

        Raises UnknownProject, Invalid, Unreadable, StoreUnavailable.
        """
        if not reason.strip():
            raise Invalid("a reason is needed: it is kept")
        if not 0 < len(values) <= MAX_VALUES:
            raise Invalid(f"give at least one field, and at most {MAX_VALUES}")
        declared = {s.name: s for s in self._plane.definition(project).project.sources}.get(source)
        if declared is None:
            raise Invalid(f"{project} has no source {source}")
        encrypted = {field.name for field in declared.fields if field.pii is Pii.ENCRYPT}
        for name in values:
            if name not in encrypted:
                raise Unreadable(f"{source} encrypts {', '.join(sorted(encrypted)) or 'nothing'}, not {name}")
        places = {f"{project}/{source}/{name}": text for name, text in values.items()}
        shown = await self._keys.unseal(project, entity, places)
        reference = entity_reference(self._secret, project, entity)
        fields = tuple(sorted(values))
        await self._book.note(Reveal(project, source, reference, fields, reason.strip(), actor, self._wall_us()))
        return {place.rpartition("/")[2]: text for place, text in shown.items()}

    async def revealed(self, project: str) -> Sequence[Reveal]:
        """Newest first."""
        return await self._book.reveals(project)
