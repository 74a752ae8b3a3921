"""What an object store promises, in memory, in a folder, through fsspec and in a bucket of an S3 server."""

import hashlib
from pathlib import Path

import pytest
from millrace.stores.errors import ObjectCorrupt, ObjectMissing, StoreUnavailable
from millrace.stores.objects import FolderObjects, MemoryObjects, Objects, S3Objects, digest_of, open_objects

from infra.embedded.ports import free_ports
from tests.support.s3 import fsspec_settings

DATA = b"\x00 some bytes \xff"


async def test_bytes_come_back_under_their_digest(objects: Objects) -> None:
    digest = await objects.put(DATA)
    assert digest == digest_of(DATA) == "sha256:" + hashlib.sha256(DATA).hexdigest()
    assert await objects.put(DATA) == digest
    assert await objects.get(digest) == DATA
    assert await objects.has(digest)
    assert await objects.get(await objects.put(b"")) == b""


async def test_what_is_not_there_is_missing_and_no_name_leaves_the_store(objects: Objects) -> None:
    absent = digest_of(b"absent")
    assert not await objects.has(absent)
    for wrong in (absent, "sha256:../../etc/passwd", "md5:abc", "", absent.upper()):
        with pytest.raises(ObjectMissing):
            await objects.get(wrong)
        with pytest.raises(ObjectMissing):
            await objects.path(wrong)


async def test_a_large_object_goes_in_by_pieces_and_shows_at_commit(objects: Objects) -> None:
    pieces = [bytes([i]) * 100_000 for i in range(5)]
    writer = objects.open_write()
    for piece in pieces:
        await writer.write(piece)
    whole = b"".join(pieces)
    assert not await objects.has(digest_of(whole))
    assert await writer.commit() == digest_of(whole)
    await writer.abort()
    assert await objects.get(digest_of(whole)) == whole


async def test_what_was_deleted_is_missing(objects: Objects) -> None:
    digest, other = await objects.put(DATA), await objects.put(b"other")
    assert await objects.delete(digest)
    assert not await objects.has(digest)
    with pytest.raises(ObjectMissing):
        await objects.get(digest)
    assert not await objects.delete(digest)
    assert await objects.get(other) == b"other"
    with pytest.raises(ObjectMissing):
        await objects.delete("../../etc/passwd")
    assert await objects.put(DATA) == digest
    assert await objects.has(digest)


async def test_an_aborted_write_leaves_nothing(objects: Objects) -> None:
    writer = objects.open_write()
    await writer.write(DATA)
    await writer.abort()
    assert not await objects.has(digest_of(DATA))


async def test_damage_is_noticed(objects: Objects) -> None:
    digest = await objects.put(DATA)
    if isinstance(objects, MemoryObjects):
        objects.contents[digest] = b"damaged"
    elif isinstance(objects, FolderObjects):
        (await objects.path(digest)).write_bytes(b"damaged")
    else:
        objects._files.pipe_file(objects._place(digest), b"damaged")
    with pytest.raises(ObjectCorrupt):
        await objects.get(digest)
    with pytest.raises(ObjectCorrupt):
        await objects.path(digest)


async def test_a_folder_gives_paths_and_keeps_no_drafts(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path)
    path = await objects.path(await objects.put(DATA))
    assert path.read_bytes() == DATA
    assert list((tmp_path / "drafts").iterdir()) == []


async def test_a_bucket_that_is_away_is_unavailable_and_not_empty() -> None:
    (closed,) = free_ports(1)
    once = {"retries": {"total_max_attempts": 1}}
    objects = S3Objects(
        "s3://bucket/x", endpoint_url=f"http://127.0.0.1:{closed}", key="k", secret="s", config_kwargs=once
    )
    digest = digest_of(DATA)
    for attempt in (objects.put(DATA), objects.get(digest), objects.has(digest), objects.path(digest)):
        with pytest.raises(StoreUnavailable, match="endpoint"):
            await attempt
    writer = objects.open_write()
    await writer.write(DATA)
    with pytest.raises(StoreUnavailable, match="endpoint"):
        await writer.commit()
    await writer.abort()


async def test_a_bucket_that_was_never_made_takes_nothing(s3: dict[str, str]) -> None:
    objects = S3Objects("s3://never-made/x", **fsspec_settings(s3))
    with pytest.raises(StoreUnavailable, match="bucket does not exist"):
        await objects.put(DATA)
    assert not await objects.has(digest_of(DATA))


def test_an_address_says_which_store(tmp_path: Path) -> None:
    assert isinstance(open_objects(str(tmp_path)), FolderObjects)
    assert isinstance(open_objects(f"file://{tmp_path}"), FolderObjects)
    assert isinstance(open_objects("memory:"), MemoryObjects)
    assert isinstance(open_objects("memory://bucket/x"), S3Objects)
