"""Typed values of user data: each type is one function from what JSON gave to what is kept, or a BadValue."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any

from millrace.definitions.keys import entity_key
from millrace.definitions.model import FieldType, Pii

Convert = Callable[[Any], Any]

MAX_TIMESTAMP_US = 253_402_300_799_999_999  # the end of year 9999: what ISO 8601 and datetime can write
_MAX_INTEGER = 2**63 - 1
_EXACT_FLOAT = 2**53  # floats beyond it do not tell neighbouring integers apart
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class BadValue(Exception):
    """A value that is not of its type; the text says what was expected."""


def converter(kind: FieldType) -> Convert:
    """The function that checks and normalises one non-null value of this type. It raises BadValue."""
    return _CONVERTERS[kind]


def to_string(value: Any) -> str:
    """Text stays text; nothing else becomes it."""
    if type(value) is str:
        return value
    raise BadValue("expected a string")


def to_number(value: Any) -> float:
    """A finite float64. NaN and infinities are not numbers, and neither are booleans."""
    if type(value) is float:
        if isfinite(value):
            return value
    elif type(value) is int and -_MAX_INTEGER <= value <= _MAX_INTEGER:
        return float(value)
    raise BadValue("expected a finite number")


def to_integer(value: Any) -> int:
    """A signed 64-bit integer; a float counts when it is exactly one."""
    if type(value) is int and -_MAX_INTEGER <= value <= _MAX_INTEGER:
        return value
    if type(value) is float and value.is_integer() and abs(value) <= _EXACT_FLOAT:
        return int(value)
    raise BadValue("expected an integer of 64 bits")


def to_boolean(value: Any) -> bool:
    """true or false, and nothing that merely looks so."""
    if type(value) is bool:
        return value
    raise BadValue("expected true or false")


def to_timestamp(value: Any) -> int:
    """Microseconds since the epoch, UTC, from ISO 8601 with offset or from integer microseconds."""
    if type(value) is str:
        micros = _parse_timestamp(value)
    elif type(value) is int:
        micros = value
    else:
        raise BadValue("expected a timestamp: ISO 8601 with offset, or integer microseconds")
    if not 0 < micros <= MAX_TIMESTAMP_US:
        raise BadValue("expected a timestamp after 1970 and before the year 10000")
    return micros


def _parse_timestamp(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise BadValue("expected a timestamp with an offset, such as 2013-07-01T05:30:00Z")
        return (moment - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError) as error:
        raise BadValue(f"expected an ISO 8601 timestamp: {error}") from None


_CONVERTERS: dict[FieldType, Convert] = {
    FieldType.STRING: to_string,
    FieldType.NUMBER: to_number,
    FieldType.INTEGER: to_integer,
    FieldType.BOOLEAN: to_boolean,
    FieldType.TIMESTAMP: to_timestamp,
}


def treatment(pii: Pii, secret: bytes) -> Convert | None:
    """What happens to a personal value that passed its contract; None keeps it as it is.

    `hash` is a keyed digest (HMAC-SHA-256, 32 hex digits), the same for equal values, useless without the secret.
    `mask` keeps the last four characters of longer texts; a masked value of another type is null.
    """
    if pii is Pii.DROP:
        return lambda value: None
    if pii is Pii.HASH:
        return lambda value: hmac.new(secret, str(value).encode(), hashlib.sha256).hexdigest()[:32]
    if pii is Pii.MASK:
        return _mask
    return None


def _mask(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    shown = 4 if len(value) > 8 else 0
    return "*" * (len(value) - shown) + value[len(value) - shown :]


def key_text(value: Any) -> str:
    """An entity key as text, by `entity_key`: what becomes the Kafka key and the entity's name. Empty for none."""
    return entity_key(value) or ""
