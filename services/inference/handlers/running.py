"""Running models: on the event loop where a run is short, in a bounded pool of threads where it is long."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from services.inference.domain.bundle import check_golden, golden_feeds
from services.inference.domain.deadline import Deadline
from services.inference.domain.tensors import Array, feeds_of
from services.inference.errors import ScoringFailed, TooLate

from .serving import Loaded

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # the engine paints its messages
WARM_RUNS = 5  # the first run allocates; the fastest of the others says how long one row takes


class Runner:
    """Runs one variant over many rows."""

    def __init__(self, pool: Executor, *, inline_max_rows: int) -> None:
        self._pool = pool
        self._inline_max_rows = inline_max_rows

    async def outputs(
        self, loaded: Loaded, feeds: Mapping[str, Array], names: list[str], rows: int, deadline: Deadline
    ) -> list[Array]:
        """The named outputs. Raises ScoringFailed with the engine's words, TooLate."""
        remaining_s = deadline.remaining_s(time.monotonic())
        if remaining_s <= 0:
            raise TooLate("the caller's deadline passed before the model was run")
        try:
            if loaded.is_short and rows <= self._inline_max_rows:
                return loaded.session.run(feeds, names)
            running = asyncio.get_running_loop().run_in_executor(self._pool, loaded.session.run, feeds, names)
            async with asyncio.timeout(remaining_s):
                return await running
        except TimeoutError:
            raise TooLate("the caller's deadline passed while the model ran") from None
        except Exception as error:  # the engine's errors share no base class
            raise ScoringFailed(f"version {loaded.version} failed: {_line(error)}") from error

    async def scores(
        self, loaded: Loaded, feeds: Mapping[str, Array], rows: int, deadline: Deadline
    ) -> NDArray[np.float64]:
        """The first output as [rows, width]. Raises ScoringFailed, TooLate."""
        (output,) = await self.outputs(loaded, feeds, [loaded.bundle.output], rows, deadline)
        return as_scores(loaded, output, rows)


def as_scores(loaded: Loaded, output: Array, rows: int) -> NDArray[np.float64]:
    """`output` as float64 [rows, width]; ScoringFailed when its size does not fit."""
    if output.dtype.kind not in "fiub" or output.size == 0 or output.size % rows or (rows > 1 and len(output) != rows):
        seen = f"{output.dtype} of shape {list(output.shape)}"
        raise ScoringFailed(f"version {loaded.version} gave {seen}; expected numbers for {rows} rows")
    return output.astype(np.float64).reshape(rows, -1)


def warm_and_check(loaded: Loaded) -> float:
    """Runs the model on its golden rows, or on one row of nothing; milliseconds of one row.

    Blocking. Raises BundleError when the model is not what its bundle says, and whatever the engine raises.
    """
    bundle, session = loaded.bundle, loaded.session
    if not loaded.is_by_key:
        return float("inf")  # a graph over whole tensors: its speed depends on shapes nobody has asked for yet
    if bundle.golden:
        (outputs,) = session.run(golden_feeds(bundle), [bundle.output])
        check_golden(bundle.golden, outputs)
    row = bundle.golden.rows[0] if bundle.golden else tuple(c.take(None) for c in bundle.columns)
    feeds = feeds_of(bundle.columns, [row])
    fastest_s = float("inf")
    for _ in range(WARM_RUNS):
        began_s = time.perf_counter()
        session.run(feeds, [bundle.output])
        fastest_s = min(fastest_s, time.perf_counter() - began_s)
    return fastest_s * 1_000


def _line(error: Exception) -> str:
    plain = _COLOURS.sub(" ", f"{type(error).__name__}: {error}")
    return " ".join(plain.split())[:300]
