"""Finding the platform's own packages (`services`, `infra`), which the bare library does not bring."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def on_path() -> bool:
    """Whether `services` and `infra` can be imported; a checkout around the working folder is put on the path."""
    if _importable():
        return True
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "infra" / "embedded" / "platform.py").is_file():
            sys.path.insert(0, str(folder))
            return _importable()
    return False


def _importable() -> bool:
    return importlib.util.find_spec("services") is not None and importlib.util.find_spec("infra") is not None
