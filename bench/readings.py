"""Sensor readings of 200 bytes, seeded: ten thousand keys, uniform or by Zipf's law, a little out of order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.loading import Stamped

EVENT_BYTES = 200
KEYS = 10_000
ZIPF_EXPONENT = 1.1
KIND = "bench.sensor.read"
FIRST_US = 1_767_225_600_000_000
SPAN_US = 2 * 3_600_000_000  # of the visible times
MOST_BEHIND_US = 300_000_000  # an event comes up to five minutes after it happened
NOW_US = FIRST_US + SPAN_US + 1_200_000_000  # two hops behind the last event: it is in every window
DISTRIBUTIONS = ("uniform", "zipf")


def key_name(number: int) -> str:
    """The sensor of a number below KEYS."""
    return f"s{number:05d}"


def readings(count: int, distribution: str, seed: int = 0) -> Iterator[Stamped]:
    """`count` readings by visible time; ids are e00000000, e00000001, …"""
    draw = np.random.default_rng(seed)
    keys = drawn_keys(draw, count, distribution).tolist()
    visible = (FIRST_US + 1 + np.arange(count) * SPAN_US // max(count, 1)).tolist()
    behind = draw.integers(1, MOST_BEHIND_US, count).tolist()
    values = np.round(draw.normal(20, 5, count), 3).tolist()
    for number in range(count):
        key, visible_us = key_name(keys[number]), visible[number]
        event_us = max(visible_us - behind[number], FIRST_US)
        body = _body(f"e{number:08d}", key, event_us, values[number])
        yield Stamped(key.encode(), f"e{number:08d}", body, event_us, visible_us)


def drawn_keys(draw: np.random.Generator, count: int, distribution: str) -> np.ndarray:
    """Key numbers; by Zipf's law the share of the r-th key falls with r to the power of ZIPF_EXPONENT."""
    if distribution == "uniform":
        return draw.integers(0, KEYS, count)
    weights = 1.0 / np.arange(1, KEYS + 1) ** ZIPF_EXPONENT
    return np.asarray(draw.choice(draw.permutation(KEYS), size=count, p=weights / weights.sum()))


def _body(identity: str, key: str, at_us: int, value: float) -> bytes:
    text = (
        f'{{"reading_id":"{identity}","sensor":"{key}","at":{at_us},"value":{value},"pressure":1013.25,'
        f'"humidity":55.5,"kind":"mild","site":"north-07","battery":87,"note":"'
    )
    return f'{text}{"." * (EVENT_BYTES - len(text) - 2)}"}}'.encode()
