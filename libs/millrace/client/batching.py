"""Events cut into requests, by count and by bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
BATCH_EVENTS = 500  # about 150 kB of JSON: large enough to hide the round trip, small enough to answer soon
BATCH_BYTES = 4 * 1024 * 1024  # of one request, where events are large: far below what a room takes in one message


def cut(items: Iterable[T], size_of: Callable[[T], int], max_items: int, max_bytes: int) -> Iterator[list[T]]:
    """Batches in order, each of at most `max_items` and `max_bytes`; what is larger goes alone."""
    batch: list[T] = []
    total = 0
    for item in items:
        size = size_of(item)
        if batch and (len(batch) == max_items or total + size > max_bytes):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size
    if batch:
        yield batch
