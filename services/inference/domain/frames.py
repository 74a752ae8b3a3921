"""Frames of an append-only file: length, checksum, payload. Whatever was cut off at the end is seen as such.

A frame is `<length: 4 bytes little-endian><CRC-32 of length and payload: 4 bytes><payload>`; the payload is not empty,
so a run of zeros, as some file systems leave after a power loss, is never a frame.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

_HEAD = struct.Struct("<II")
HEAD_BYTES = _HEAD.size
MAX_PAYLOAD_BYTES = 16 * 1024 * 1024  # above any record of ours: a longer length is a damaged one


def frame(payload: bytes) -> bytes:
    """`payload` as one frame; ValueError when it is empty or too long."""
    if not 0 < len(payload) <= MAX_PAYLOAD_BYTES:
        raise ValueError(f"a frame holds 1 to {MAX_PAYLOAD_BYTES} bytes, not {len(payload)}")
    return _HEAD.pack(len(payload), _checksum(payload)) + payload


def frames(payloads: Iterable[bytes]) -> bytes:
    """All payloads, each as a frame."""
    return b"".join(frame(p) for p in payloads)


def parse(data: bytes, start: int = 0, limit: int = -1) -> tuple[list[bytes], int]:
    """(payloads, where the next frame begins): the whole, sound frames from `start` on, at most `limit` (-1: all)."""
    payloads: list[bytes] = []
    at = start
    while at + HEAD_BYTES <= len(data) and len(payloads) != limit:
        length, checksum = _HEAD.unpack_from(data, at)
        end = at + HEAD_BYTES + length
        if not 0 < length <= MAX_PAYLOAD_BYTES or end > len(data):
            break
        payload = data[at + HEAD_BYTES : end]
        if _checksum(payload) != checksum:
            break
        payloads.append(payload)
        at = end
    return payloads, at


def _checksum(payload: bytes) -> int:
    return zlib.crc32(payload, len(payload))
