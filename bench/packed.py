"""Reading windows from the online store's packed rows, and from hashes with one field per tile and statistic."""

from __future__ import annotations

import numpy as np
from millrace.aggregates import Layout, Lifted, merge_rows, read_windows, window_start
from millrace.aggregates.rows import unpack
from millrace.definitions.model import Aggregate, Aggregation

from bench.measuring import Job, Way

HOUR_US = 3_600_000_000
HOP_US = 600_000_000
WINDOWS_US = (HOUR_US, 3 * HOUR_US)
NOW_US = 1_372_636_800_000_000 + HOP_US // 2
ENTITIES, EVENTS_EACH = 64, 60
AGGREGATES = (Aggregate("mean", Aggregation.MEAN, "x"), Aggregate("count", Aggregation.COUNT, "x"))
Hash = dict[bytes, bytes]


def packed_job() -> Job:
    """One request for many entities, from bytes as a store returns them; no network in either way."""
    return _job(ENTITIES, repeats=20)


def packed_single_job() -> Job:
    """The same for one entity: what numpy costs when there is nothing to share it."""
    return _job(1, repeats=400)


def _job(entities: int, repeats: int) -> Job:
    layout = Layout(AGGREGATES)
    rows = _packed(layout, entities)
    hashes = [_as_hash(layout, row) for row in rows]

    def ours() -> np.ndarray:
        parts = [[row] for row in rows]
        for _ in range(repeats):
            values, _newest = read_windows(layout, parts, at_us=NOW_US, windows_us=WINDOWS_US, hop_us=HOP_US)
        return values

    def peer() -> np.ndarray:
        for _ in range(repeats):
            values = _read_hashes(hashes)
        return values

    np.testing.assert_allclose(ours(), peer(), rtol=1e-9, atol=1e-9)
    name = f"online windows, {entities} {'entity' if entities == 1 else 'entities'} a request"
    return Job(name, entities * repeats, "entities", Way("packed rows", ours), Way("hash of fields", peer))


def _packed(layout: Layout, entities: int) -> list[bytes]:
    random = np.random.default_rng(3)
    size = entities * EVENTS_EACH
    event_us = NOW_US - random.integers(1, 4 * HOUR_US, size)
    values = random.normal(size=size)
    state = layout.lift([values, values], event_us, np.arange(size))
    new = Lifted(np.repeat(np.arange(entities), EVENTS_EACH), event_us, state)
    return merge_rows(layout, [None] * entities, new, hop_us=HOP_US, keep_from_us=NOW_US - 4 * HOUR_US)


def _as_hash(layout: Layout, row: bytes) -> Hash:
    """What HGETALL would return had each tile's statistics been kept as fields of text: `<start>:<statistic>`."""
    tiles = unpack(layout, [row])
    columns = tiles.start_us.tolist(), tiles.state["0.n"].tolist(), tiles.state["0.total"].tolist()
    found: Hash = {}
    for start_us, n, total in zip(*columns, strict=True):
        found[b"%d:n" % start_us] = b"%d" % n
        found[b"%d:total" % start_us] = repr(total).encode()
    return found


def _read_hashes(hashes: list[Hash]) -> np.ndarray:
    """Plain Python over decoded fields, in one pass per entity, as such readers are written."""
    begins = [window_start(NOW_US, width_us, HOP_US) for width_us in WINDOWS_US]
    values = np.empty((2, len(WINDOWS_US), len(hashes)))
    for entity, fields in enumerate(hashes):
        counts, totals = [0.0] * len(begins), [0.0] * len(begins)
        for name, text in fields.items():
            start, _, statistic = name.partition(b":")
            start_us, number = int(start), float(text)
            into = counts if statistic == b"n" else totals
            for i, begin in enumerate(begins):
                if start_us >= begin:
                    into[i] += number
        for i, (n, total) in enumerate(zip(counts, totals, strict=True)):
            values[:, i, entity] = (total / n if n else np.nan), n
    return values
