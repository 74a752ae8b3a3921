"""What a caller of the platform may meet.

ClientError
├── RoomUnknown      no running room of that name was found
├── CallFailed       a room answered with an error, or not at all within the deadline
├── SpoolFull        events wait on disk for the platform, and there is no room for more
├── SpoolTaken       another producer has the spool's file
├── BadRecording     a file of recorded events cannot be read
├── BadEventFile     a file of events cannot be read
├── FileChanged      what was published of a file is not what it holds now
├── JournalTaken     another process publishes the file
├── BadTable         a table cannot be sent or written
├── SnapshotBroken   the rows that came are not those of the snapshot's digest
└── NotQuiet         the platform did not come to rest before the deadline
"""

from __future__ import annotations

import grpc


class ClientError(Exception):
    """Any failure of a client."""


class RoomUnknown(ClientError):
    """No running room of that name was found."""


class CallFailed(ClientError):
    """A room answered with an error, or not at all; `code` is gRPC's name for it, `is_lasting` that the same call would
    fail again however often it is made."""

    def __init__(self, what: str, error: grpc.aio.AioRpcError, is_lasting: bool = False) -> None:
        super().__init__(f"{what}: {error.code().name}: {error.details()}")
        self.code = error.code().name
        self.is_lasting = is_lasting


class BadTable(ClientError):
    """A table that cannot be sent or written; the text says what it takes."""


class SnapshotBroken(ClientError):
    """The rows that came are cut off, or are not those that the snapshot's digest names."""


class NotQuiet(ClientError):
    """The platform did not come to rest before the deadline; the text names the rooms that lag."""


class SpoolFull(ClientError):
    """Events wait on disk for the platform, and there is no room for more: these were not taken."""


class SpoolTaken(ClientError):
    """Another producer has the spool's file."""


class BadRecording(ClientError):
    """A file of recorded events cannot be read; the text names file and line."""


class BadEventFile(ClientError):
    """A file of events cannot be read; the text names file and line."""


class FileChanged(ClientError):
    """A file was published up to a row, and no longer holds the rows before it."""


class JournalTaken(ClientError):
    """Another process publishes the file."""
