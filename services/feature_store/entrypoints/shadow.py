"""A shadow's plan on the way in, and what it found on the way out: files of `millrace shadow`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from millrace.bus.shadow import ShadowPlan
from millrace.runtime.errors import ConfigurationError

RESULT = "shadow.json"
"""In the shadow's home: what is known so far, replaced whole."""


def read_plan(path: str) -> ShadowPlan | None:
    """The plan in the file at `path`; None for an empty path. Raises ConfigurationError."""
    if not path:
        return None
    try:
        return ShadowPlan.from_json(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"MILLRACE_FEATURE_STORE_SHADOW_FILE: {error}") from error


def write_result(home: Path, content: Mapping[str, Any]) -> None:
    """A reader sees the whole of it or nothing."""
    temporary = home / f"{RESULT}.tmp"
    home.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.replace(home / RESULT)
