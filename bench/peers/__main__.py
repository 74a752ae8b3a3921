"""`python -m bench.peers [FOLDER]`: makes the peers' environment. An absent peer is named; the others are measured."""

import sys
from pathlib import Path

from bench.peers.environment import FOLDER, PeerEnvironment


def main() -> int:
    """Always 0: a bench without a peer is poorer, not wrong, and says so."""
    environment = PeerEnvironment(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
    absent = environment.make(lambda text: print(text, flush=True))
    for name, reason in absent.items():
        print(f"absent: {name}: {reason}")
    print("peers: " + ", ".join(f"{name} {version}" for name, version in environment.versions().items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
