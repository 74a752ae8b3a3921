"""Where tiles and windows begin. Integers and int64 arrays of microseconds alike."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

Times = TypeVar("Times", int, np.ndarray)


def tile_start(event_us: Times, hop_us: int) -> Times:
    """Start of the tile of an event: the largest multiple of the hop that is not after it."""
    return event_us // hop_us * hop_us


def window_start(at_us: Times, window_us: int, hop_us: int) -> Times:
    """First instant of the window read at `at_us`: it covers `[floor_h(at - w), at)`."""
    return tile_start(at_us - window_us, hop_us)
