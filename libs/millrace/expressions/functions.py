"""The functions that an expression may call, over single values that are not null."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

HOUR_US = 3_600_000_000
MINUTE_US = 60_000_000
DAY_US = 24 * HOUR_US
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The epoch was a Thursday, and Monday is 0.
_EPOCH_WEEKDAY = 3


def _calendar(timestamp_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=timestamp_us)


def floor(value: Any, unit_us: int = 0) -> int:
    """The largest whole number, or the largest multiple of `unit_us` since the epoch, that is not above `value`."""
    return int(value // unit_us * unit_us) if unit_us else math.floor(value)


def hour(timestamp_us: int) -> int:
    """Hour of the day, 0 to 23, UTC."""
    return int(timestamp_us // HOUR_US % 24)


def minute(timestamp_us: int) -> int:
    """Minute of the hour, 0 to 59."""
    return int(timestamp_us // MINUTE_US % 60)


def weekday(timestamp_us: int) -> int:
    """Day of the week, Monday 0 to Sunday 6, UTC."""
    return int((timestamp_us // DAY_US + _EPOCH_WEEKDAY) % 7)


def month(timestamp_us: int) -> int:
    """Month, 1 to 12, UTC."""
    return _calendar(timestamp_us).month


def day(timestamp_us: int) -> int:
    """Day of the month, 1 to 31, UTC."""
    return _calendar(timestamp_us).day


@dataclass(frozen=True, slots=True)
class Function:
    """One callable name: how many arguments it takes, of which kind, and what it returns.

    Kinds: number, string, timestamp, boolean, any; `same` returns the common kind of the arguments. A function without
    `call` sees nulls and is evaluated by the tree walker itself.
    """

    least: int
    most: int
    takes: str
    returns: str
    call: Callable[..., Any] | None = None


MOST_ARGUMENTS = 20
FUNCTIONS: dict[str, Function] = {
    "floor": Function(1, 2, "number", "same", floor),
    "hour": Function(1, 1, "timestamp", "integer", hour),
    "minute": Function(1, 1, "timestamp", "integer", minute),
    "weekday": Function(1, 1, "timestamp", "integer", weekday),
    "month": Function(1, 1, "timestamp", "integer", month),
    "day": Function(1, 1, "timestamp", "integer", day),
    "abs": Function(1, 1, "number", "same", abs),
    "min": Function(2, MOST_ARGUMENTS, "any", "same", min),
    "max": Function(2, MOST_ARGUMENTS, "any", "same", max),
    "lower": Function(1, 1, "string", "string", str.lower),
    "upper": Function(1, 1, "string", "string", str.upper),
    "if": Function(3, 3, "any", "same"),
    "coalesce": Function(1, MOST_ARGUMENTS, "any", "same"),
}
