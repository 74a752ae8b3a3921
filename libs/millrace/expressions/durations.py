"""Durations as people write them: `90s`, `10m`, `3h`, `7d`."""

from __future__ import annotations

import re

from millrace.expressions.errors import ExpressionError

_UNITS_US = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_PATTERN = re.compile(r"\s*(\d{1,9})\s*(us|ms|s|m|h|d)\s*")
DURATION_EXAMPLES = "90s, 10m, 3h, 7d"


def parse_duration(text: str) -> int:
    """Microseconds of a duration such as `30m`; raises ExpressionError when it is none."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ExpressionError(f"'{text}' is no duration: write it like {DURATION_EXAMPLES}")
    return int(match.group(1)) * _UNITS_US[match.group(2)]
