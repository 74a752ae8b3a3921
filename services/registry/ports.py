"""What the registry needs of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from millrace.bus.ports import TopicSpec
from millrace.definitions import Project


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output of a graph: name, ONNX type (`tensor(float)`) and number of dimensions."""

    name: str
    type: str
    dimensions: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an ONNX file turned out to be; `outputs` is its first output over the rows it was asked to score."""

    inputs: tuple[Tensor, ...]
    output: Tensor
    outputs: tuple[float, ...]


class ModelInspector(Protocol):
    """Loads an ONNX file apart from this process, and scores rows with it."""

    async def inspect(self, model: bytes, rows: Mapping[str, Sequence[Any]]) -> Inspection:
        """Raises BadModel when the file does not load or score; `rows` maps input name to values (None: null)."""
        ...


class ProjectClock(Protocol):
    """Each project's own time."""

    def now_us(self, project: Project) -> int:
        """Microseconds; raises ClockUnknown while a replayed project's clock is still being read."""
        ...


class TopicMaker(Protocol):
    """Makes topics before anybody is told to use them."""

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Returns when all are usable."""
        ...
