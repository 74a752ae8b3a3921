"""What the aggregates mean, said naively: plain Python over plain lists, to judge the vectorised code by."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """One event; `value` None is null."""

    entity: int
    event_us: int
    visible_us: int
    seq: int
    value: float | None


def known(events: Sequence[Event], entity: int, at_us: int, as_happened: bool) -> list[Event]:
    """What was known of an entity at `at_us`, oldest first (event time, then sequence)."""
    seen = [e for e in events if e.entity == entity and e.event_us < at_us and (as_happened or e.visible_us <= at_us)]
    return sorted(seen, key=lambda e: (e.event_us, e.seq))


def window(events: Sequence[Event], entity: int, at_us: int, window_us: int, hop_us: int, as_happened=False):
    """The known events of the window read at `at_us`."""
    begin = math.floor((at_us - window_us) / hop_us) * hop_us
    return [e for e in known(events, entity, at_us, as_happened) if e.event_us >= begin]


def aggregate(function: str, events: Sequence[Event], *, argument: float = 0.0, whole_events: bool = False) -> float:
    """One aggregate over events in order; NaN: no value. `last_k` gives the k-th newest."""
    values = [e.value for e in events if e.value is not None]
    if function == "count":
        return len(events) if whole_events else len(values)
    if function == "distinct":
        return len(set(values))
    if function == "last_k":
        return values[-int(argument)] if len(values) >= argument else math.nan
    if not values:
        return math.nan
    if function == "quantile":
        return sorted(values)[math.floor(argument * (len(values) - 1))]
    mean = math.fsum(values) / len(values)
    return {
        "sum": math.fsum(values),
        "mean": mean,
        "std": math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values)),
        "min": min(values),
        "max": max(values),
        "first": values[0],
        "last": values[-1],
    }[function]
