"""Reads docker-compose.yml as the engine would: anchors merged, variables replaced by their defaults."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
ROOMS = ("ingestion", "labeling", "feature_store", "trainer", "registry", "inference", "monitor")
JOBS = ("topics", "buckets")
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


@cache
def document() -> dict[str, Any]:
    """The file with every `${NAME:-default}` replaced by its default and `$$` by `$`."""
    loaded: dict[str, Any] = expand(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))
    return loaded


def expand(value: Any) -> Any:
    """Interpolation, all through a structure. A variable without a default is a KeyError: there must be none."""
    if isinstance(value, dict):
        return {key: expand(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [expand(entry) for entry in value]
    if isinstance(value, str):
        return VARIABLE.sub(_default, value).replace("$$", "$")
    return value


def _default(found: re.Match[str]) -> str:
    if found[2] is None:
        raise KeyError(f"{found[1]} has no default")
    return found[2]


def services() -> dict[str, Any]:
    """Service name to its definition."""
    return dict(document()["services"])
