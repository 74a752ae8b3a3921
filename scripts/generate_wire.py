"""Generate `libs/millrace/wire` from `proto/`, or check that the committed code is what protoc makes today.

Usage: python scripts/generate_wire.py [--check]
"""

from __future__ import annotations

import filecmp
import shutil
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
COMMITTED = ROOT / "libs" / "millrace" / "wire"
# The Open Inference Protocol lives in a private descriptor pool (see millrace.oip), so no module is generated for it.
PRIVATE = "oip"


def generate(target: Path) -> None:
    """Write modules and type stubs for every public proto below `target`."""
    public = [str(p) for p in sorted(PROTO.rglob("*.proto")) if PRIVATE not in p.parts]
    includes = [f"-I{PROTO}", f"-I{Path(protoc.__file__).parent / '_proto'}"]
    code = protoc.main(
        ["protoc", *includes, f"--python_out={target}", f"--pyi_out={target}", f"--grpc_python_out={target}", *public]
    )
    if code != 0:
        raise SystemExit(f"protoc failed with exit status {code}")
    for folder in [target / "millrace" / "wire", *(p for p in (target / "millrace" / "wire").rglob("*") if p.is_dir())]:
        (folder / "__init__.py").touch()


def differing(left: Path, right: Path) -> list[str]:
    """Relative names of generated files that are missing on one side or differ."""
    names = {p.relative_to(base) for base in (left, right) for p in base.rglob("*.py*") if "__pycache__" not in p.parts}
    return sorted(
        str(n)
        for n in names
        if not ((left / n).exists() and (right / n).exists() and filecmp.cmp(left / n, right / n, shallow=False))
    )


def main() -> None:
    """Entry point; exit status 1 when --check finds a difference."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        made = Path(scratch) / "millrace" / "wire"
        if "--check" in sys.argv:
            if stale := differing(made, COMMITTED):
                raise SystemExit("generated code is stale, run `make wire`: " + ", ".join(stale))
            return
        shutil.rmtree(COMMITTED, ignore_errors=True)
        shutil.copytree(made, COMMITTED)


if __name__ == "__main__":
    main()
