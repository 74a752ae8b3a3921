"""`python -m infra.embedded.chdb --path FOLDER --port N`: serves until SIGTERM, then waits for running statements."""

import argparse
import os
from pathlib import Path

import uvicorn

from infra.embedded.chdb.engine import Engine
from infra.embedded.chdb.interface import Interface
from infra.embedded.ports import LOOPBACK


def main() -> None:
    """Opens the engine, serves, closes the engine."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--path", type=Path, required=True, help="the engine's data")
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--workers", type=int, default=8, help="statements that run at the same time")
    arguments.add_argument("--queue", type=int, default=256, help="statements that may wait")
    chosen = arguments.parse_args()
    # DateTime without a zone means UTC everywhere in Millrace; the engine takes its zone from the environment.
    os.environ["TZ"] = "UTC"
    chosen.path.mkdir(parents=True, exist_ok=True)
    engine = Engine(chosen.path, workers=chosen.workers, queue=chosen.queue)
    try:
        uvicorn.run(
            Interface(engine),
            host=LOOPBACK,
            port=chosen.port,
            lifespan="off",
            ws="none",
            access_log=False,
            log_level="warning",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=25,
        )
    finally:
        engine.close()


if __name__ == "__main__":
    main()
