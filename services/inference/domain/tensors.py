"""What a model takes and gives, and how rows of values become its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
Cell = float | int | str | bool | None
NAN = float("nan")


class TensorMismatch(ValueError):
    """Tensors that are not what the model takes; the text says what was expected."""


class CellMismatch(ValueError):
    """A value that its column cannot take."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, datatype of the Open Inference Protocol, and shape (-1: any size) of one input or output."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """One input of a model that is asked by key: a number (FP32) or a text."""

    name: str
    is_text: bool

    def take(self, value: Cell) -> float | str:
        """`value` as the model wants it: missing is NaN or "". CellMismatch when the kinds differ."""
        if value is None:
            return "" if self.is_text else NAN
        if isinstance(value, str) is not self.is_text:
            expected = "text" if self.is_text else "a number"
            raise CellMismatch(f"{self.name} is {type(value).__name__} {value!r}; expected {expected}")
        return value


def cells_of(columns: Sequence[Column], row: Mapping[str, Cell]) -> list[float | str]:
    """The cells of one row in the order of `columns`; a column that the row lacks is missing."""
    return [column.take(row.get(column.name)) for column in columns]


def feeds_of(columns: Sequence[Column], rows: Sequence[Sequence[float | str]]) -> dict[str, Array]:
    """Column name -> array of shape [rows]: float32, or object of str."""
    feeds: dict[str, Array] = {}
    for column, cells in zip(columns, zip(*rows, strict=True), strict=True):
        feeds[column.name] = np.array(cells, dtype=object if column.is_text else np.float32)
    return feeds


def check_feeds(specs: Sequence[TensorSpec], given: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    """TensorMismatch unless `given` (name -> datatype, shape) is exactly what `specs` ask for."""
    known = {s.name: s for s in specs}
    strangers = sorted(set(given) - set(known))
    if strangers:
        raise TensorMismatch(f"input {strangers[0]!r} is not known; expected {', '.join(known)}")
    for spec in specs:
        if spec.name not in given:
            raise TensorMismatch(
                f"input {spec.name!r} is missing; expected {spec.datatype} of shape {list(spec.shape)}"
            )
        datatype, shape = given[spec.name]
        if datatype != spec.datatype:
            raise TensorMismatch(f"input {spec.name!r} is {datatype}; expected {spec.datatype}")
        if len(shape) != len(spec.shape) or any(e not in (-1, s) for e, s in zip(spec.shape, shape, strict=True)):
            raise TensorMismatch(f"input {spec.name!r} has shape {list(shape)}; expected {list(spec.shape)}")
    _check_batch(specs, given)


def _check_batch(specs: Sequence[TensorSpec], given: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    """Inputs whose first dimension is free must agree on it."""
    sizes = {s.name: given[s.name][1][0] for s in specs if s.shape and s.shape[0] == -1}
    if len(set(sizes.values())) > 1:
        raise TensorMismatch(f"inputs differ in their number of rows: {sizes}; expected one number for all")


def row_count(specs: Sequence[TensorSpec], feeds: Mapping[str, Array]) -> int:
    """Rows of a request: the shared free first dimension, or 1 where the model has none."""
    for spec in specs:
        if spec.shape and spec.shape[0] == -1:
            return int(feeds[spec.name].shape[0])
    return 1
