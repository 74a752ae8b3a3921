"""The values that were seen in a field which others refer to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.ingestion.domain.values import key_text

MAX_KNOWN_VALUES = 1_000_000  # 8 MB per field that is referred to
_MERGED_AT = 20_000  # of fresh ones: a merge costs about a millisecond at the bound


class KnownValues:
    """A bounded set of fingerprints. `is_whole` says that nothing of the source's past is missing."""

    def __init__(self, secret: bytes, capacity: int = MAX_KNOWN_VALUES) -> None:
        self.is_whole = False
        self.is_full = False
        self._key = secret[:64]
        self._capacity = capacity
        self._sorted: NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
        self._fresh: set[int] = set()
        self._unsaved: list[int] = []

    def __len__(self) -> int:
        return len(self._sorted) + len(self._fresh)

    @property
    def is_ready(self) -> bool:
        """Whether a value that is not here was never seen."""
        return self.is_whole and not self.is_full

    def mark(self, value: Any) -> int:
        """A value's fingerprint: 64 bits of a keyed digest, equal for equal values, and nothing to read the value
        from. Among a million values some two meet by chance with a probability of 3e-8."""
        return int.from_bytes(hashlib.blake2b(key_text(value).encode(), digest_size=8, key=self._key).digest(), "big")

    def known(self, values: Sequence[int]) -> list[bool]:
        """Whether each of the fingerprints was seen."""
        wanted = np.array(values, dtype=np.uint64)
        places = np.searchsorted(self._sorted, wanted)
        found = np.zeros(len(wanted), dtype=bool)
        inside = places < len(self._sorted)
        found[inside] = self._sorted[places[inside]] == wanted[inside]
        return [hit or value in self._fresh for hit, value in zip(found.tolist(), values, strict=True)]

    def add(self, values: Iterable[int]) -> None:
        """Remembers fingerprints, until there is no room."""
        asked = list(set(values))
        new = [value for value, is_known in zip(asked, self.known(asked), strict=True) if not is_known]
        room = self._capacity - len(self)
        if len(new) > room:
            self.is_full, new = True, new[:room]
        self._fresh.update(new)
        self._unsaved.extend(new)
        if len(self._fresh) >= _MERGED_AT:
            self._merge()

    def restore(self, values: Sequence[int], is_whole: bool) -> None:
        """What was kept of it. Only for an empty one."""
        self._sorted = np.unique(np.array(values, dtype=np.uint64))[: self._capacity]
        self.is_whole, self.is_full = is_whole, len(self._sorted) >= self._capacity

    def take_unsaved(self) -> list[int]:
        """What was added since the last call."""
        unsaved, self._unsaved = self._unsaved, []
        return unsaved

    def give_back(self, unsaved: Sequence[int]) -> None:
        """What could not be saved."""
        self._unsaved.extend(unsaved)

    def _merge(self) -> None:
        fresh = np.fromiter(self._fresh, dtype=np.uint64, count=len(self._fresh))
        self._sorted = np.sort(np.concatenate([self._sorted, fresh]), kind="stable")
        self._fresh = set()
