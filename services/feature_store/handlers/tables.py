"""Arrow tables as the room keeps and sends them: equal contents give equal bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from millrace.definitions.keys import entity_key
from millrace.definitions.model import FieldType

NUMBER_BYTES = 8
TEXT_BYTES = 32  # an estimate, for columns whose cells have no fixed width


def key_texts(values: pa.Array) -> pa.Array:
    """Entity keys as text, by `entity_key`."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type) or pa.types.is_integer(values.type):
        return values.cast(pa.string())
    distinct = values.dictionary_encode()
    texts = pa.array([entity_key(value) for value in distinct.dictionary.to_pylist()], pa.string())
    return texts.take(distinct.indices)


def composite_texts(parts: Sequence[pa.Array]) -> pa.Array:
    """The keys of composite entities as text, by `composite_key`; one part is its own key."""
    texts = [key_texts(part) for part in parts]
    if len(texts) == 1:
        return texts[0]
    escaped = [pc.replace_substring(pc.replace_substring(text, "\\", "\\\\"), "|", "\\|") for text in texts]
    return pc.binary_join_element_wise(*escaped, "|")


def feature_column(kind: FieldType, values: pa.Array) -> pa.Array:
    """A feature's values as its type has them: string or float64. What lies below a null is always the same."""
    if kind is FieldType.STRING:
        return values if pa.types.is_string(values.type) else values.cast(pa.string())
    return plain(values.cast(pa.float64(), safe=False))


def plain(values: pa.Array) -> pa.Array:
    """The same cells, with the same bytes below every null: what lies there may be anything, and makes a digest."""
    kind = values.type
    if not values.null_count or not (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_temporal(kind)
    ):
        return values
    zero = pa.array([0], pa.int32() if kind.bit_width == 32 else pa.int64()).cast(kind)[0]
    return pc.if_else(pc.is_valid(values), pc.fill_null(values, zero), pa.scalar(None, kind))


def row_bytes(schema: pa.Schema) -> int:
    """About what a row takes."""
    return sum(_width(kind) for kind in schema.types)


def _width(kind: pa.DataType) -> int:
    try:
        return max(int(kind.bit_width) // 8, 1)
    except ValueError:
        return TEXT_BYTES


def to_stream(table: pa.Table) -> bytes:
    """One Arrow IPC stream of one batch; equal tables give equal bytes."""
    # Taken, not sliced: a slice of texts is written with bytes of the rows behind it.
    table = table.combine_chunks().take(pa.array(np.arange(table.num_rows)))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        for batch in table.combine_chunks().to_batches():
            writer.write_batch(batch)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def ordered(moment_us: np.ndarray, entity: pa.ChunkedArray) -> bool:
    """Whether rows are by (moment, entity)."""
    steps = np.diff(moment_us)
    if (steps < 0).any():
        return False
    ties = np.flatnonzero(steps == 0)
    if not len(ties):
        return True
    before, after = entity.take(pa.array(ties)), entity.take(pa.array(ties + 1))
    return bool(pc.all(pc.less_equal(before, after)).as_py())


class StreamPieces:
    """One Arrow IPC stream, written batch by batch and taken in pieces: no more than a batch is held."""

    def __init__(self, schema: pa.Schema, most_bytes: int) -> None:
        self._parts: list[bytes] = []
        self._most_bytes = most_bytes
        self._writer = pa.ipc.new_stream(self, schema)

    def write(self, data: object) -> int:
        """What the stream's writer calls."""
        piece = bytes(memoryview(data).cast("B"))  # type: ignore[arg-type]
        self._parts.append(piece)
        return len(piece)

    closed = False

    def flush(self) -> None:
        """Nothing is held back."""

    def batch(self, batch: pa.RecordBatch) -> Iterator[bytes]:
        """The stream's pieces up to the end of this batch."""
        self._writer.write_batch(batch)
        yield from self._taken()

    def end(self) -> Iterator[bytes]:
        """The rest."""
        self._writer.close()
        yield from self._taken()

    def _taken(self) -> Iterator[bytes]:
        whole = memoryview(b"".join(self._parts))
        self._parts.clear()
        for begin in range(0, len(whole), self._most_bytes):
            yield bytes(whole[begin : begin + self._most_bytes])
