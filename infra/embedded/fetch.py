"""`python -m infra.embedded.fetch`: fetches Kafka's jars into the cache, so that a later start needs no network."""

import os
import sys

from infra.embedded.errors import StackError
from infra.embedded.jars import ensure_jars, require_java


def main() -> int:
    """0 when the jars are there; 1 with one line on stderr when not. A replaced Kafka needs none."""
    if os.environ.get("MILLRACE_KAFKA_BOOTSTRAP"):
        return 0
    try:
        require_java(os.environ)
        print(f"Kafka's jars: {ensure_jars()}")
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
