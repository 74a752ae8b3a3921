"""Fields that are encrypted at the door: after the check, before anything leaves."""

from __future__ import annotations

from collections.abc import Sequence

from services.ingestion.domain.contracts import Contract, Row
from services.ingestion.handlers.judge import Incoming, Judged, rewritten
from services.ingestion.ports import Keys, Sealable


async def seal(keys: Keys, project: str, contract: Contract, events: Sequence[Incoming], judged: list[Judged]) -> None:
    """Replaces the encrypted fields of accepted rows, in place. Raises StoreUnavailable: nothing is published then."""
    wanted: list[tuple[int, str]] = []
    values: list[Sealable] = []
    for i, one in enumerate(judged):
        row = one.verdict
        if isinstance(row, Row):
            for name in contract.sealed:
                if name in row.columns:
                    wanted.append((i, name))
                    values.append(Sealable(row.key, f"{project}/{contract.source.name}/{name}", row.columns[name]))
    if not values:
        return
    for (i, name), text in zip(wanted, await keys.seal(project, values), strict=True):
        row = judged[i].verdict
        assert isinstance(row, Row)
        row.columns[name] = text
    for i in {i for i, _ in wanted}:
        judged[i] = rewritten(contract, events[i], judged[i])
