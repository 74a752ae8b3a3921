"""The spool: what was acknowledged survives a crash at any byte; order, bounds and drops are kept and counted."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.inference.adapters import log_spool
from services.inference.adapters.log_spool import Spool
from services.inference.domain import frames
from services.inference.errors import SpoolTaken

PAYLOADS = st.binary(min_size=1, max_size=60)


def opened(folder, segment_bytes=400, max_bytes=100_000):
    spool = Spool(Path(folder), segment_bytes=segment_bytes, max_bytes=max_bytes)
    spool.open()
    return spool


def drained(spool, limit=7):
    out = []
    while (chunk := spool.read(limit)) is not None:
        out += chunk.payloads
        spool.commit(chunk)
    return out


def numbered(count, start=0):
    return [f"record-{n}".encode() for n in range(start, start + count)]


@given(st.lists(PAYLOADS, max_size=20), st.data())
def test_frames_cut_anywhere_give_a_whole_prefix(payloads, data):
    whole = frames.frames(payloads)
    cut = data.draw(st.integers(0, len(whole)))
    found, end = frames.parse(whole[:cut])
    assert found == payloads[: len(found)]
    assert end <= cut and frames.frames(found) == whole[:end]
    if len(found) < len(payloads):
        assert end + frames.HEAD_BYTES + len(payloads[len(found)]) > cut  # the next one was not whole


@given(st.lists(PAYLOADS, min_size=1, max_size=10), st.data())
def test_a_damaged_byte_never_gives_a_record_that_was_not_written(payloads, data):
    whole = bytearray(frames.frames(payloads))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    found, _ = frames.parse(bytes(whole))
    assert found == payloads[: len(found)] and len(found) < len(payloads)


def test_zeros_are_no_frames():
    assert frames.parse(b"\0" * 64) == ([], 0)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    groups=st.lists(st.lists(PAYLOADS, min_size=1, max_size=4), min_size=1, max_size=12),
    published=st.integers(0, 30),
    data=st.data(),
)
def test_a_crash_at_any_byte_of_the_last_write_loses_nothing_acknowledged(tmp_path, groups, published, data):
    folder = tmp_path / "spool"
    shutil.rmtree(folder, ignore_errors=True)
    spool = opened(folder)
    *acknowledged, torn = groups
    for group in acknowledged:
        spool.append(group)
    done = []
    while len(done) < published and (chunk := spool.read(3)) is not None:
        done += chunk.payloads
        spool.commit(chunk)
    before = {p.name: p.stat().st_size for p in folder.glob("*.log")}
    spool.append(torn)
    spool.close()
    last = max(folder.glob("*.log"))
    kept = before.get(last.name, 0)
    with last.open("r+b") as file:
        file.truncate(data.draw(st.integers(kept, last.stat().st_size)))

    again = opened(folder)
    rest = drained(again)
    flat = [p for group in acknowledged for p in group]
    assert rest[: len(flat) - len(done)] == flat[len(done) :]
    extra = rest[len(flat) - len(done) :]
    assert extra == torn[: len(extra)]
    again.append([b"goes on"])
    assert drained(again) == [b"goes on"]
    again.close()


def test_records_come_out_in_order_and_finished_segments_go(tmp_path):
    spool = opened(tmp_path)
    for n in range(0, 200, 4):
        spool.append(numbered(4, n))
    assert spool.unpublished_records == 200 and len(list(tmp_path.glob("*.log"))) > 5
    assert drained(spool) == numbered(200)
    assert spool.unpublished_records == 0 and len(list(tmp_path.glob("*.log"))) == 1
    spool.close()


def test_a_chunk_that_was_not_committed_is_read_again(tmp_path):
    spool = opened(tmp_path)
    spool.append(numbered(10))
    assert spool.read(4).payloads == numbered(4)
    spool.commit(spool.read(4))
    spool.read(4)
    spool.close()
    again = opened(tmp_path)
    assert again.unpublished_records == 6
    assert drained(again) == numbered(6, 4)
    again.close()


def test_numbers_go_on_after_everything_was_published(tmp_path):
    spool = opened(tmp_path)
    spool.append(numbered(30))
    drained(spool)
    spool.close()
    again = opened(tmp_path)
    assert again.unpublished_records == 0
    again.append(numbered(5, 30))
    assert again.unpublished_records == 5
    again.close()
    third = opened(tmp_path)
    assert drained(third) == numbered(5, 30)
    third.close()


@pytest.mark.parametrize("data", [b"", b"\0" * 64, b"junk", b"\xff" * 200, frames.frame(b"other")])
def test_a_lost_position_repeats_and_never_skips(tmp_path, data):
    spool = opened(tmp_path)
    spool.append(numbered(6))
    spool.commit(spool.read(4))
    spool.close()
    (tmp_path / "position").write_bytes(data)
    again = opened(tmp_path)
    assert drained(again) == numbered(6)
    again.close()


@given(torn=st.integers(0, 63), value=st.integers(0, 255))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_torn_position_falls_back_and_never_skips(tmp_path, torn, value):
    shutil.rmtree(tmp_path / "spool", ignore_errors=True)
    spool = opened(tmp_path / "spool")
    spool.append(numbered(6))
    for _ in range(3):
        spool.commit(spool.read(1))
    spool.close()
    place = tmp_path / "spool" / "position"
    data = bytearray(place.read_bytes())
    data[torn] = value
    place.write_bytes(bytes(data))
    again = opened(tmp_path / "spool")
    rest = drained(again)
    assert rest in (numbered(3, 3), numbered(4, 2))
    again.close()


def test_beyond_the_bound_the_oldest_segment_is_dropped_and_counted(tmp_path):
    spool = opened(tmp_path, segment_bytes=400, max_bytes=2000)
    for n in range(300):
        spool.append(numbered(1, n))
    assert spool.size_bytes <= 2000
    rest = drained(spool)
    assert rest == numbered(300)[-len(rest) :]
    assert spool.dropped_records == 300 - len(rest) > 0
    spool.close()


def test_what_the_relay_holds_is_not_counted_as_dropped(tmp_path):
    spool = opened(tmp_path, segment_bytes=400, max_bytes=2000)
    spool.append(numbered(5))
    chunk = spool.read(100)
    for n in range(5, 300):
        spool.append(numbered(1, n))
    spool.commit(chunk)  # its segment is gone, and it is published all the same
    rest = drained(spool)
    assert spool.dropped_records + len(chunk.payloads) + len(rest) == 300
    spool.close()


def test_a_full_disk_costs_the_record_not_the_spool(tmp_path, monkeypatch):
    spool = opened(tmp_path)
    spool.append(numbered(2))
    real = os.write

    def half(file, data):
        real(file, bytes(data)[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(log_spool.os, "write", half)
    spool.append(numbered(3, 2))
    assert spool.dropped_records == 3 and "No space left" in spool.problem
    monkeypatch.setattr(log_spool.os, "write", real)
    spool.append(numbered(1, 5))
    assert spool.problem == ""
    assert drained(spool) == numbered(2) + numbered(1, 5)
    spool.close()


def test_a_torn_frame_that_cannot_be_cut_off_ends_its_segment(tmp_path, monkeypatch):
    spool = opened(tmp_path)
    spool.append(numbered(2))
    real = os.write

    def half(file, data):
        real(file, bytes(data)[:5])
        raise OSError(errno.EIO, "Input/output error")

    def no_cut(file, size):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(log_spool.os, "write", half)
    monkeypatch.setattr(log_spool.os, "ftruncate", no_cut)
    spool.append(numbered(1, 2))
    monkeypatch.undo()
    spool.append(numbered(3, 3))
    spool.close()
    again = opened(tmp_path)
    assert drained(again) == numbered(2) + numbered(3, 3)
    again.close()


def test_two_processes_cannot_share_a_spool(tmp_path):
    spool = opened(tmp_path)
    with pytest.raises(SpoolTaken, match="MILLRACE_HOME"):
        opened(tmp_path)
    spool.close()
    opened(tmp_path).close()


def test_kill_9_takes_nothing_that_was_acknowledged(tmp_path):
    code = f"""
import pathlib, sys
from services.inference.adapters.log_spool import Spool
spool = Spool(pathlib.Path({str(tmp_path)!r}), segment_bytes=5000, max_bytes=10_000_000)
spool.open()
n = 0
while True:
    spool.append([f"record-{{n}}".encode(), f"record-{{n + 1}}".encode()])
    n += 2
    print(n, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    acknowledged = 0
    for _ in range(500):
        acknowledged = int(child.stdout.readline())
    child.kill()
    acknowledged = max([acknowledged, *map(int, child.stdout.read().split()[:-1])])
    child.wait()
    child.stdout.close()
    spool = opened(tmp_path, segment_bytes=5000)
    rest = drained(spool, limit=1000)
    assert len(rest) >= acknowledged and rest == numbered(len(rest))
    spool.close()
