"""`python -m infra.docker.health [URL]`: exit 0 when the room's /readyz says yes, else 1 with its reasons."""

import sys
import urllib.error
import urllib.request

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_S = 4


def main(url: str = DEFAULT_URL) -> int:
    """Asks once: the container engine does the repeating."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=TIMEOUT_S):
            return 0
    except urllib.error.HTTPError as error:
        print(error.read().decode(errors="replace"))
    except OSError as error:
        print(error)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
