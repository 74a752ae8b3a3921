"""What a run's numbers depend on besides data, settings and seeds: the code, and what it runs on."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import millrace

from services.trainer.domain.gate import canonical_json

# Those that turn rows into weights, and weights into answers.
PACKAGES = ("numpy", "pyarrow", "scikit-learn", "torch", "onnx", "onnxruntime", "safetensors")
SOURCES = ("millrace", "services.trainer")


@cache
def code_version() -> str:
    """The release, and which code it is: `0.1.0+` and twelve digits of the sha256 over every Python file of the library
    and of this room, by name."""
    names = hashlib.sha256()
    for package in SOURCES:
        found = find_spec(package)
        for folder in sorted(found.submodule_search_locations or ()) if found else ():
            for path in sorted(Path(folder).rglob("*.py")):
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                names.update(f"{package}/{path.relative_to(folder).as_posix()} {digest}\n".encode())
    return f"{millrace.__version__}+{names.hexdigest()[:12]}"


def environment(threads: int) -> dict[str, Any]:
    """Interpreter, machine, packages and threads of this process; `digest` names all of it, so that equal ones are seen
    to be equal at a glance."""
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": threads,
        "packages": {name: _version(name) for name in PACKAGES},
    }
    return {**facts, "digest": f"sha256:{hashlib.sha256(canonical_json(facts).encode()).hexdigest()}"}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
