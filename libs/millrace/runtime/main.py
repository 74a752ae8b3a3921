"""The one `main` of every `__main__.py`: build the room, run it, and leave with a status that scripts can trust."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import ValidationError

from millrace.runtime.errors import Policy, RoomError
from millrace.runtime.logging import configure

if TYPE_CHECKING:
    from millrace.runtime.room import RoomProcess

EXIT_FAILED = 1
EXIT_CONFIGURATION = 2
YOUNG_OBJECTS = 10_000  # a few batches' worth before the collector looks at all


def main(build: Callable[[], RoomProcess]) -> None:
    """Builds inside the loop, runs until signalled; exit 0 after a drained stop, else one line and 1 or 2."""
    try:
        with asyncio.Runner() as runner:
            runner.run(_run(build))
    except ValidationError as error:
        first = error.errors()[0]
        _leave(f"bad setting {'.'.join(map(str, first['loc']))}: {first['msg']}", EXIT_CONFIGURATION)
    except RoomError as error:
        _leave(str(error), EXIT_CONFIGURATION if error.policy is Policy.CRASH else EXIT_FAILED)
    except KeyboardInterrupt:
        _leave("interrupted", EXIT_FAILED)


async def _run(build: Callable[[], RoomProcess]) -> None:
    configure("millrace", "INFO")
    room = build()
    configure(room.name, room.settings.log_level)
    _collect_less()
    await room.run()


def _collect_less() -> None:
    """What is imported and built stays: the garbage collector need not walk it again and again, which took up to a
    quarter of a room's time. Batches make many objects that live for a moment, and few cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)


def _leave(message: str, status: int) -> None:
    print(f"millrace: {message}", file=sys.stderr)
    raise SystemExit(status)
