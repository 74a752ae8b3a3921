"""One text per entity: labels, features and predictions meet by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def entity_key(value: Any) -> str | None:
    """The text of an entity key; None for null. Whole numbers have no decimal point, whatever type carried them."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


_EXACT_DIGITS = 15  # any whole number of so many is its own float64, and no other's


def key_number(key: str) -> float | None:
    """The whole number whose key this is, as a column of float64 holds it; None where it is no number's key, or that of
    a number so large that its neighbours read alike there."""
    digits = key.removeprefix("-")
    if len(digits) > _EXACT_DIGITS or not digits.isdecimal():
        return None
    return float(key) if entity_key(int(key)) == key else None


def composite_key(values: Sequence[Any]) -> str | None:
    """The key of a composite entity: the keys of its parts joined by `|`; None when one of them is null.

    `|` and `\\` inside a part are written `\\|` and `\\\\`, so that different parts never make one key. A single part
    is its own key, unchanged.
    """
    parts = [entity_key(value) for value in values]
    if len(parts) == 1:
        return parts[0]
    if None in parts:
        return None
    return "|".join(part.replace("\\", "\\\\").replace("|", "\\|") for part in parts if part is not None)
