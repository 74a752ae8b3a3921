"""What a replay into a shadow found, beside what is live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

EXAMPLES = 10


@dataclass(slots=True)
class Difference:
    """Counts of one table or view: live beside shadow. `missing` is live only, `extra` is in the shadow only."""

    what: str
    equal: int = 0
    differing: int = 0
    missing: int = 0
    extra: int = 0
    not_compared: int = 0
    why: str = ""
    examples: list[str] = field(default_factory=list)

    @property
    def is_same(self) -> bool:
        """Whether nothing differs in what was compared."""
        return not (self.differing or self.missing or self.extra)

    def count(self, key: str, live: bytes | None, shadow: bytes | None) -> None:
        """One key's values on both sides; None: not there."""
        if live == shadow:
            self.equal += 1
            return
        if live is None or shadow is None:
            self.missing += shadow is None
            self.extra += live is None
            text = f"{key}: only {'in the shadow' if live is None else 'live'}"
        else:
            self.differing += 1
            text = f"{key}: {len(live)} bytes live, {len(shadow)} in the shadow, from byte {_first(live, shadow)} on"
        if len(self.examples) < EXAMPLES:
            self.examples.append(text)


def row_difference(event_id: str, live: Mapping[str, object], shadow: Mapping[str, object]) -> str:
    """The columns in which two rows of one event differ."""
    columns = [
        f"{name} {live[name]!r} live, {shadow[name]!r} in the shadow" for name in live if live[name] != shadow[name]
    ]
    return f"event {event_id}: {'; '.join(columns) or 'equal as values, not as bytes'}"


def _first(left: bytes, right: bytes) -> int:
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(left), len(right)))
