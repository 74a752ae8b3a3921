"""`python -m infra.kafka`: makes the platform's topics on MILLRACE_KAFKA_BOOTSTRAP, then ends (a one-shot job)."""

import os
import sys

from infra.kafka.topics import make_topics


def main() -> int:
    """0 when every topic is there, 1 with one line on stderr when Kafka refuses."""
    from millrace.bus.errors import BusUnavailable
    from millrace.bus.security import security_of_environment
    from millrace.runtime.errors import ConfigurationError

    bootstrap = os.environ.get("MILLRACE_KAFKA_BOOTSTRAP", "127.0.0.1:9092")
    try:
        names = make_topics(bootstrap, security_of_environment())
    except (BusUnavailable, ConfigurationError) as error:
        print(f"topics could not be made on {bootstrap}: {error}", file=sys.stderr)
        return 1
    print(f"{len(names)} topics are there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
