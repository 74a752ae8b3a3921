"""Recorded events in a file: NDJSON, one event a line, sorted by availability."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from millrace.client.errors import BadRecording
from millrace.client.replay import ReplayEvent

LATEST_US = 253_402_300_799_999_999  # the end of year 9999, the last that datetime can write


class _Line(msgspec.Struct):
    available_us: Annotated[int, msgspec.Meta(gt=0, le=LATEST_US)]
    source: str
    data: msgspec.Raw
    id: str = ""


_DECODER = msgspec.json.Decoder(_Line)


def read_recording(file: Path) -> Iterator[ReplayEvent]:
    """The events of `file`, in its order; lines are {"available_us", "source", "data"} and perhaps "id".

    Raises BadRecording with file and line where one is no such object or comes before its predecessor.
    """
    last_us = 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = _DECODER.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise BadRecording(f"{file}:{number}: {error}") from error
            if row.available_us < last_us:
                raise BadRecording(
                    f"{file}:{number}: not sorted, available_us {row.available_us} comes after {last_us}"
                )
            last_us = row.available_us
            yield ReplayEvent(row.available_us, row.source, bytes(row.data), row.id)


def write_line(event: ReplayEvent) -> bytes:
    """One event as `read_recording` reads it, with the line's end. JSON over several lines is put on one."""
    json = event.json if b"\n" not in event.json else msgspec.json.format(event.json, indent=-1)
    line = _Line(event.available_us, event.source, msgspec.Raw(json), event.id)
    return msgspec.json.encode(line) + b"\n"
