"""The W3C trace context of the call being served, so that events can carry it on."""

from __future__ import annotations

import re
from contextvars import ContextVar

HEADER = "traceparent"
_PATTERN = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_current: ContextVar[str] = ContextVar("millrace_traceparent", default="")


def current() -> str:
    """The traceparent of the call being served; empty when the caller sent none."""
    return _current.get()


def enter(value: str) -> None:
    """Make `value` the current traceparent of this task; a malformed one counts as none."""
    _current.set(value if value and _PATTERN.fullmatch(value) else "")
