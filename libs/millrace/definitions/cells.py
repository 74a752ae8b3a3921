"""Cells of CSV and Parquet files as JSON values: by what the source declares, the same at every door."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def cell_value(text: str | None, kind: str) -> Any:
    """A CSV cell by its declared type; empty is null. What does not fit stays text: the contract then says so."""
    if text is None or text == "":
        return None
    try:
        if kind in ("number", "integer") and "_" not in text:
            number = int(text) if kind == "integer" else float(text)
            return number if math.isfinite(number) else text
        if kind == "timestamp" and text.lstrip("-").isdecimal():
            return int(text)
    except (ValueError, OverflowError):
        return text
    if kind == "boolean" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    return text


def plain_value(value: Any) -> Any:
    """A Parquet cell as JSON has it: times become integer microseconds (UTC where no zone is named). NaN and infinities
    become text, so that the contract refuses them: as null they would pass."""
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return (aware - _EPOCH) // timedelta(microseconds=1)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        value = float(value)
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
