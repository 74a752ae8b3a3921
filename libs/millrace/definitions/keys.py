"""One text per entity: labels, features and predictions meet by it."""

from __future__ import annotations

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
