"""Which variant answers a key: the same in every replica, and a raised canary only takes keys in.

A key's place in [0, 1) is a hash of salt and key. The canary holds [0, w), the A/B variants lie behind it in the
plan's order, and the champion (without one, the last variant) takes the rest.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from itertools import accumulate

from .plan import Plan, Role, Variant

_ORDER = {Role.CANARY: 0, Role.AB: 1, Role.CHAMPION: 2}


def place(salt: str, key: str) -> float:
    """Place of `key` in [0, 1) under `salt`: the leading 53 bits of a SHA-256, so every value is a float exactly."""
    digest = hashlib.sha256(f"{salt}\n{key}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


class Router:
    """The shares of one plan; the plan must have passed its check and have an answering variant."""

    def __init__(self, plan: Plan) -> None:
        self._salt = plan.salt
        self._variants = tuple(sorted(plan.answering, key=lambda v: _ORDER[v.role]))
        self._edges = list(accumulate(v.weight for v in self._variants[:-1]))

    @property
    def rest(self) -> Variant:
        """The variant that takes what the others leave: the champion, where there is one."""
        return self._variants[-1]

    def choose(self, key: str) -> Variant:
        """The variant that answers `key`."""
        if not self._edges:
            return self._variants[0]
        return self._variants[bisect_right(self._edges, place(self._salt, key))]
