"""The history of a few entities, by key: read into memory, so bounded."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from services.feature_store.domain.views import CompiledView
from services.feature_store.errors import TooMuchHistory
from services.feature_store.ports import HistoryStore, Range, Table


class EntityHistory:
    """Reads at most `most_events` at once."""

    def __init__(self, store: HistoryStore, most_events: int) -> None:
        self._store = store
        self._most_events = most_events

    async def read(
        self,
        table: Table,
        view: CompiledView,
        keys: Sequence[str | None],
        *,
        from_us: int,
        to_us: int,
        visible_to_us: int,
    ) -> pa.Table:
        """What the view takes of the entities' events in [from_us, to_us). Raises TooMuchHistory."""
        span = Range(
            from_us=from_us,
            to_us=to_us,
            visible_to_us=visible_to_us,
            entity_fields=view.view.entity_fields,
            entities=tuple(sorted({key for key in keys if key is not None})),
        )
        if (found := await self._store.count(table, span)) > self._most_events:
            raise TooMuchHistory(
                f"{view.id}: these entities have {found} events in history, {self._most_events} are read for one"
                " answer: ask for fewer, or for a training set with them as its spine"
            )
        return await self._store.read(table, sorted(view.fields), span)
