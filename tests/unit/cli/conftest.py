"""Rooms that answer what a test tells them to: real gRPC, real wire, in this process."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
import pytest
from millrace.cli.main import app
from millrace.cli.places import ROOMS
from millrace.wire.common.v1 import common_pb2, common_pb2_grpc
from typer.testing import CliRunner, Result


class Refused(Exception):
    """Raised by an answer to end the call with a status."""

    def __init__(self, code: grpc.StatusCode, text: str, trailing: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(text)
        self.code, self.text, self.trailing = code, text, trailing


class FakeRooms:
    """Answers by method name, e.g. `rooms.on["Registry.Apply"] = lambda request: reply`; calls are kept."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.on: dict[str, Callable[[Any], Any]] = {}
        self.calls: list[tuple[str, Any]] = []
        self.metadata: dict[str, str] = {}
        self.status = {room: common_pb2.RoomStatus(room=room, pid=100, ready=True) for room in ROOMS}
        self._servers = [self._serve(room) for room in ROOMS]

    def asked(self, method: str) -> list[Any]:
        """The requests of one method, in order."""
        return [request for name, request in self.calls if name == method]

    def stop(self) -> None:
        for server in self._servers:
            server.stop(None)

    def _serve(self, room: str) -> grpc.Server:
        server = grpc.server(ThreadPoolExecutor(2))
        common_pb2_grpc.add_RoomServicer_to_server(self._describer(room), server)  # type: ignore[no-untyped-call]
        title = "".join(word.capitalize() for word in room.split("_"))
        wire = import_module(f"millrace.wire.{room}.v1.service_pb2_grpc")
        base = getattr(wire, f"{title}Servicer")
        methods = {name: self._answer(f"{title}.{name}") for name in vars(base) if name[0].isupper()}
        if "PublishStream" in methods:
            methods["PublishStream"] = self._answer_stream("Ingestion.Publish")
        getattr(wire, f"add_{title}Servicer_to_server")(type("Fake", (base,), methods)(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        run = self.home / "run"
        run.mkdir(exist_ok=True)
        facts = {"pid": 100, "grpc": f"127.0.0.1:{port}", "http": "127.0.0.1:1", "started_us": 1}
        (run / f"{room}.json").write_text(json.dumps(facts))
        return server

    def _describer(self, room: str) -> Any:
        fake = self

        class Describer(common_pb2_grpc.RoomServicer):
            def Describe(self, request: Any, context: Any) -> Any:
                return fake.status[room]

        return Describer()

    def _answer(self, name: str) -> Callable[[Any, Any, Any], Any]:
        def call(_: Any, request: Any, context: grpc.ServicerContext) -> Any:
            self.metadata = {str(item[0]): str(item[1]) for item in context.invocation_metadata()}
            try:
                self.calls.append((name, request))
                return self.on[name](request)
            except Refused as refused:
                context.set_trailing_metadata(refused.trailing)
                context.abort(refused.code, refused.text)

        return call

    def _answer_stream(self, name: str) -> Callable[[Any, Any, Any], Any]:
        """Each request of a stream as if it were a call of its own."""
        answer = self._answer(name)

        def call(_: Any, requests: Any, context: grpc.ServicerContext) -> Any:
            for request in requests:
                yield answer(_, request, context)

        return call


@pytest.fixture
def rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRooms]:
    """Seven fake rooms in a home that the commands find through MILLRACE_HOME."""
    monkeypatch.setenv("MILLRACE_HOME", str(tmp_path))
    made = FakeRooms(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def millrace() -> Callable[..., Result]:
    """Runs the command in this process; stdout and stderr apart. An unexpected exception fails the test."""

    def run(*arguments: str, text: str | None = None) -> Result:
        result = CliRunner().invoke(app, [*arguments], input=text)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run
