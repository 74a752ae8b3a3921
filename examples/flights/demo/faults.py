"""The two faults of the story: a release that is wrong on purpose, and an upstream that changes its unit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec
import onnx
from millrace.client.replay import ReplayEvent
from onnx import TensorProto, helper

OUTPUT = "probability"
BAD_RELEASE = "bad release"
DELAYS_IN_SECONDS = "delays in seconds"


@dataclass(frozen=True, slots=True)
class Fault:
    """What was put in on purpose, over [from_us, until_us) of the project's clock; `until_us` 0: it did not end."""

    label: str
    from_us: int
    until_us: int = 0

    def touches(self, start_us: int, end_us: int) -> bool:
        """Whether the window [start_us, end_us) saw anything of it."""
        return self.from_us < end_us and (not self.until_us or start_us < self.until_us)


def inverted(model: bytes) -> bytes:
    """The ONNX bytes of a model that answers 1 - p wherever `model` answers p: it loads, and is wrong."""
    graph_model = onnx.load_from_string(model)
    graph = graph_model.graph
    honest = f"{OUTPUT}_honest"
    for node in graph.node:
        node.output[:] = [honest if name == OUTPUT else name for name in node.output]
        node.input[:] = [honest if name == OUTPUT else name for name in node.input]
    graph.initializer.append(helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]))
    graph.node.append(helper.make_node("Sub", ["one", honest], [OUTPUT]))
    onnx.checker.check_model(graph_model)
    return graph_model.SerializeToString()


def delays_in_seconds(events: Iterable[ReplayEvent], from_us: int, to_us: int) -> Iterator[ReplayEvent]:
    """`events`, where departures available in [from, to) state their delay in seconds instead of minutes."""
    for event in events:
        if event.source == "departures" and from_us <= event.available_us < to_us:
            payload = msgspec.json.decode(event.json)
            payload["departure_delay"] *= 60
            yield event._replace(json=msgspec.json.encode(payload))
        else:
            yield event
