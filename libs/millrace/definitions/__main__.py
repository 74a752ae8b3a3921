"""`python -m millrace.definitions` prints the JSON Schema; with files as arguments it checks them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from millrace.definitions import DefinitionErrors, json_schema, load_text


def main(arguments: list[str]) -> int:
    """Exit status: 0 when all files are fine, 1 otherwise."""
    if not arguments:
        sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
        return 0
    broken = False
    for name in arguments:
        try:
            project = load_text(Path(name).read_text(encoding="utf-8"), name)
            sys.stdout.write(f"{name}: project {project.name}, {len(project.model.inputs)} model inputs\n")
        except (DefinitionErrors, OSError, UnicodeDecodeError) as error:
            sys.stderr.write(f"{error}\n")
            broken = True
    return int(broken)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
