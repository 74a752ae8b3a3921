"""Where the rooms of a running platform are: each writes `<home>/run/<room>.json` when it serves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from millrace.client.errors import RoomUnknown

ROOMS = ("ingestion", "labeling", "feature_store", "trainer", "registry", "inference", "monitor")


@dataclass(frozen=True, slots=True)
class RoomAddress:
    """host:port of both doors, and the process behind them."""

    grpc: str
    http: str
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Addresses:
    """Room name to its doors."""

    rooms: Mapping[str, RoomAddress]

    @classmethod
    def discover(cls, home: str | Path) -> Addresses:
        """Reads the run files below `home`; rooms that do not serve are missing."""
        found: dict[str, RoomAddress] = {}
        for path in sorted((Path(home) / "run").glob("*.json")):
            try:
                facts = json.loads(path.read_text(encoding="utf-8"))
                found[path.stem] = RoomAddress(facts["grpc"], facts["http"], int(facts["pid"]))
            except (FileNotFoundError, ValueError, KeyError, TypeError):
                continue  # removed between listing and reading, or the run file of something that is no room
        return cls(found)

    def grpc(self, room: str) -> str:
        """gRPC address of a room; RoomUnknown when it does not serve."""
        return self._room(room).grpc

    def http(self, room: str) -> str:
        """HTTP address of a room; RoomUnknown when it does not serve."""
        return self._room(room).http

    def _room(self, room: str) -> RoomAddress:
        try:
            return self.rooms[room]
        except KeyError:
            raise RoomUnknown(f"room {room} does not serve here; `millrace up` starts it") from None
