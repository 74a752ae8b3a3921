"""An application that asks for predictions without a pause, and forgives nothing."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import grpc
from millrace.wire.inference.v1 import service_pb2, service_pb2_grpc

EVERY_S = 0.1  # two cores are shared with the seven rooms
DEADLINE_S = 10.0


class Asking:
    """Within its block one request follows another over one plain channel: no retry hides a failure."""

    def __init__(self, address: str, project: str, entities: Sequence[str]) -> None:
        self._address = address
        self._project = project
        self._entities = itertools.cycle(entities)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="asking")
        self.answers: list[service_pb2.Answer] = []
        self.failures: list[str] = []

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def versions(self, since: int = 0) -> set[int]:
        """Which versions answered, from the answer at `since` on."""
        return {answer.version for answer in self.answers[since:]}

    def _run(self) -> None:
        with grpc.insecure_channel(self._address) as channel:
            stub: Any = service_pb2_grpc.InferenceStub(channel)
            while not self._stop.wait(EVERY_S):
                self._ask(stub, next(self._entities))

    def _ask(self, stub: Any, entity: str) -> None:
        request = service_pb2.PredictRequest(project=self._project, items=[service_pb2.PredictItem(entity=entity)])
        try:
            (answer,) = stub.Predict(request, timeout=DEADLINE_S).answers
        except grpc.RpcError as error:
            self.failures.append(f"{entity}: {error}")
            return
        self.answers.append(answer)
        if answer.error:
            self.failures.append(f"{entity}: {answer.error}")
