"""The prediction log's spool: an append-only run of segment files, written before an answer leaves.

A write reaches the operating system, so it survives the death of the process; it is not forced to disk, so a power loss
may take the last moments. The file `position` says what was published: two slots written in turn, each a frame, so that
a torn write leaves the other one; in place, because a rename for each batch would hold up the answers. When the spool
is full its oldest segment is dropped, because the newest answers are the ones that the monitor judges; what is dropped
is counted.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.inference.domain import frames
from services.inference.errors import SpoolTaken

log = logging.getLogger(__name__)
_PLACE = struct.Struct("<QQQ")  # sequence, segment, offset
READ_BYTES = 4 * 1024 * 1024  # one relay batch reads at most about this much


@dataclass(slots=True)
class _Segment:
    first: int  # sequence number of its first record
    path: Path
    records: int = 0
    size_bytes: int = 0

    @property
    def end(self) -> int:
        return self.first + self.records


@dataclass(frozen=True, slots=True)
class _Position:
    """The next record to publish: its sequence number, its segment and its offset there."""

    sequence: int = 0
    segment: int = 0
    offset_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records read for publishing; give it back to `commit` when they are out."""

    payloads: list[bytes]
    after: _Position


class Spool:
    """One writer and one reader in one process; a lock file keeps other processes out."""

    def __init__(self, folder: Path, *, segment_bytes: int, max_bytes: int) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._segments: list[_Segment] = []
        self._position = _Position()
        self._handed = 0  # records before this one are in the relay's hands or published
        self._file = -1
        self._lock = -1
        self._place_file = -1
        self._turn = 0
        self._torn = False  # a half-written frame could not be cut off: write on in another segment
        self.dropped_records = 0
        self.problem = ""

    @property
    def unpublished_records(self) -> int:
        """Records written and not yet published."""
        return self._next_sequence - self._position.sequence

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments."""
        return sum(s.size_bytes for s in self._segments)

    def open(self) -> None:
        """Take the lock and recover what a former process left. Raises SpoolTaken."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            self._lock = -1
            raise SpoolTaken(
                f"another process writes {self._folder}; give each replica its own MILLRACE_HOME"
            ) from error
        self._place_file = os.open(self._folder / "position", os.O_CREAT | os.O_RDWR, 0o600)
        self._segments = [_recovered(path) for path in sorted(self._folder.glob("*.log"))]
        self._find_position()
        self._open_last()

    def close(self) -> None:
        """Close the files and free the lock."""
        for number in (self._file, self._place_file, self._lock):
            if number >= 0:
                os.close(number)
        self._file = self._place_file = self._lock = -1

    def append(self, payloads: Sequence[bytes]) -> None:
        """Write all payloads in one go. A disk that refuses costs these records, counted, and cuts off the rest."""
        if not payloads:
            return
        data = frames.frames(payloads)
        active = self._segments[-1]
        try:
            if self._torn or (active.records and active.size_bytes + len(data) > self._segment_bytes):
                active = self._rotate()
            self._make_room(len(data))
            _write_all(self._file, data)
        except OSError as error:
            self._refused(len(payloads), error)
            return
        active.size_bytes += len(data)
        active.records += len(payloads)
        self.problem = ""

    def turn(self) -> int:
        """Begin a new segment, so that what was written so far is deleted with its file once it is published; the
        sequence number up to which that is."""
        if self._segments and self._segments[-1].records:
            self._rotate()
        return self._next_sequence

    def has_left(self, sequence: int) -> bool:
        """Whether the records before `sequence` are published and their files deleted."""
        return self._position.sequence >= sequence and all(s.first >= sequence for s in self._segments if s.records)

    def read(self, limit_records: int) -> Chunk | None:
        """The oldest unpublished records, at most `limit_records` of one segment; None when there are none."""
        while True:
            segment = self._segment_at(self._position.segment)
            if segment is None:
                return None
            at = self._position.offset_bytes
            if at < segment.size_bytes:
                chunk = self._read_from(segment, at, limit_records)
                self._handed = max(self._handed, chunk.after.sequence)
                return chunk
            if segment is self._segments[-1]:
                return None
            self._leave(segment)

    def commit(self, chunk: Chunk) -> None:
        """The chunk is published: remember it atomically, and delete the segment when it is finished."""
        if chunk.after.sequence <= self._position.sequence:
            return  # its segment was dropped meanwhile
        self._position = chunk.after
        self._save_position()
        segment = self._segment_at(chunk.after.segment)
        if segment is not None and segment is not self._segments[-1] and chunk.after.offset_bytes >= segment.size_bytes:
            self._leave(segment)

    @property
    def _next_sequence(self) -> int:
        return self._segments[-1].end if self._segments else self._position.sequence

    def _read_from(self, segment: _Segment, at: int, limit_records: int) -> Chunk:
        with segment.path.open("rb") as file:
            file.seek(at)
            data = file.read(min(READ_BYTES, segment.size_bytes - at))
            payloads, end = frames.parse(data, limit=limit_records)
            if not payloads:  # one frame longer than a read
                data += file.read(segment.size_bytes - at - len(data))
                payloads, end = frames.parse(data, limit=limit_records)
        if not payloads:
            raise OSError(f"{segment.path} is damaged at byte {at}")
        return Chunk(payloads, _Position(self._position.sequence + len(payloads), segment.first, at + end))

    def _find_position(self) -> None:
        """The stored position, moved to what is really there; finished segments go."""
        stored = _read_position(self._folder / "position")
        while self._segments and self._segments[0].end <= stored.sequence:
            self._segments.pop(0).path.unlink()
        if not self._segments:
            self._segments = [self._new_segment(stored.sequence)]
        oldest = self._segments[0]
        if stored.segment == oldest.first and stored.offset_bytes <= oldest.size_bytes:
            self._position = stored
        else:
            self._position = _Position(oldest.first, oldest.first, 0)
        self._handed = self._position.sequence

    def _open_last(self) -> None:
        last = self._segments[-1]
        self._file = os.open(last.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        os.ftruncate(self._file, last.size_bytes)  # a torn tail was never acknowledged

    def _rotate(self) -> _Segment:
        fresh = self._new_segment(self._next_sequence)
        file = os.open(fresh.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        os.close(self._file)
        self._file = file
        self._torn = False
        self._segments.append(fresh)
        return fresh

    def _new_segment(self, first: int) -> _Segment:
        return _Segment(first, self._folder / f"{first:020d}.log")

    def _make_room(self, wanted_bytes: int) -> None:
        while len(self._segments) > 1 and self.size_bytes + wanted_bytes > self._max_bytes:
            oldest = self._segments[0]
            lost = max(0, oldest.end - max(oldest.first, self._handed))
            self.dropped_records += lost
            log.warning("the log spool is full: its oldest segment is dropped", extra={"records": lost})
            self._leave(oldest)

    def _leave(self, segment: _Segment) -> None:
        """Go on behind `segment`, which is the oldest and not the active one, and delete it."""
        self._segments.remove(segment)
        following = self._segments[0]
        if self._position.sequence < following.first or self._position.segment != following.first:
            self._position = _Position(following.first, following.first, 0)
            self._save_position()
        segment.path.unlink(missing_ok=True)

    def _segment_at(self, first: int) -> _Segment | None:
        return next((s for s in self._segments if s.first == first), None)

    def _save_position(self) -> None:
        place = self._position
        slot = frames.frame(_PLACE.pack(place.sequence, place.segment, place.offset_bytes))
        self._turn = 1 - self._turn
        os.pwrite(self._place_file, slot, self._turn * len(slot))

    def _refused(self, records: int, error: OSError) -> None:
        """Cut off what was half written, so that the next frame begins where one may begin."""
        self.dropped_records += records
        self.problem = f"the log spool cannot be written: {error.strerror or error}"
        log.error(self.problem, extra={"records": records})
        try:
            os.ftruncate(self._file, self._segments[-1].size_bytes)
        except OSError:
            self._torn = True
            log.exception("a torn frame stays behind; the next segment begins")


def _recovered(path: Path) -> _Segment:
    payloads, end = frames.parse(path.read_bytes())
    return _Segment(int(path.stem), path, len(payloads), end)


def _read_position(path: Path) -> _Position:
    """The furthest sound slot. Without one, everything in the spool is published again, under the same ids."""
    data = path.read_bytes() if path.exists() else b""
    slots = [frames.parse(data, start, 1)[0] for start in (0, frames.HEAD_BYTES + _PLACE.size)]
    places = [_Position(*_PLACE.unpack(payload)) for found in slots for payload in found if len(payload) == _PLACE.size]
    if data and not places:
        log.warning("%s cannot be read: everything in the spool is published again", path)
    return max(places, key=lambda place: place.sequence, default=_Position())


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
