"""Scores a graph in ONNX Runtime on one thread, as one worker of a server does."""

from __future__ import annotations

import time

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from services.trainer.domain.examples import Columns

WARM_UPS = 20
TIMED_ROWS = 300
ROUNDS = 3
CHUNK_ROWS = 8_192


class Scorer:
    """One loaded graph. Raises what ONNX Runtime raises when the bytes are no valid graph."""

    def __init__(self, graph: bytes, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.input_names = tuple(node.name for node in self._session.get_inputs())
        self._output = self._session.get_outputs()[0].name

    def score(self, columns: Columns) -> NDArray[np.float64]:
        """The first output for every row, float64[n]. KeyError when a column that the graph wants is not there."""
        rows = len(next(iter(columns.values()))) if columns else 0
        parts = [self._run(columns, slice(start, start + CHUNK_ROWS)) for start in range(0, rows, CHUNK_ROWS)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def p99_ms(self, columns: Columns) -> float:
        """99th percentile of the time of a single row, milliseconds: the quietest of three rounds, because the
        question is how slow the graph is and not how busy the machine is while it is asked."""
        rows = len(next(iter(columns.values())))
        for row in range(WARM_UPS):
            self._run(columns, slice(row % rows, row % rows + 1))
        rounds = []
        for _ in range(ROUNDS):
            times_ms = []
            for row in range(TIMED_ROWS):
                start = time.perf_counter()
                self._run(columns, slice(row % rows, row % rows + 1))
                times_ms.append((time.perf_counter() - start) * 1e3)
            rounds.append(float(np.quantile(times_ms, 0.99)))
        return min(rounds)

    def _run(self, columns: Columns, rows: slice) -> NDArray[np.float64]:
        feed = {name: columns[name][rows] for name in self.input_names}
        return np.asarray(self._session.run([self._output], feed)[0], dtype=np.float64).reshape(-1)
