"""Objects named by their content: bytes first, digest verified, metadata elsewhere and later."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import sys
import uuid
from pathlib import Path
from typing import IO, Any, Protocol

import fsspec

from millrace.stores.errors import ObjectCorrupt, ObjectMissing, StoreUnavailable
from millrace.stores.files import sync_folder

PREFIX = "sha256:"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def digest_of(data: bytes) -> str:
    """`sha256:<64 hex digits>`."""
    return PREFIX + hashlib.sha256(data).hexdigest()


class Writer(Protocol):
    """Takes an object in pieces. Nothing is visible before `commit`; `abort` leaves no trace."""

    async def write(self, data: bytes) -> None:
        """Append a piece."""
        ...

    async def commit(self) -> str:
        """Make the object visible; its digest."""
        ...

    async def abort(self) -> None:
        """Forget what was written; harmless after commit."""
        ...


class Objects(Protocol):
    """A store of objects by digest."""

    async def put(self, data: bytes) -> str:
        """Store; the digest. Storing the same bytes again changes nothing."""
        ...

    async def get(self, digest: str) -> bytes:
        """The bytes, verified. Raises ObjectMissing, ObjectCorrupt."""
        ...

    async def has(self, digest: str) -> bool:
        """Whether the object is there."""
        ...

    async def delete(self, digest: str) -> bool:
        """Remove the object; whether it was there."""
        ...

    def open_write(self) -> Writer:
        """A writer for an object too large to hold."""
        ...

    async def path(self, digest: str) -> Path | None:
        """A local file with these bytes, verified; None when this store has no files. Raises as `get`."""
        ...


def checked(digest: str) -> str:
    """The hex part of a digest; ObjectMissing when it is not one (it may come from outside: never a path)."""
    if not _DIGEST.fullmatch(digest):
        raise ObjectMissing(f"{digest!r} is not a sha256 digest")
    return digest.removeprefix(PREFIX)


def verified(digest: str, data: bytes) -> bytes:
    """`data`, if it has that digest; else ObjectCorrupt."""
    if digest_of(data) != digest:
        raise ObjectCorrupt(f"{digest}: the stored bytes have the digest {digest_of(data)}")
    return data


class MemoryObjects:
    """The twin."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    async def put(self, data: bytes) -> str:
        """As `Objects.put`."""
        digest = digest_of(data)
        self.contents[digest] = bytes(data)
        return digest

    async def get(self, digest: str) -> bytes:
        """As `Objects.get`."""
        checked(digest)
        if digest not in self.contents:
            raise ObjectMissing(digest)
        return verified(digest, self.contents[digest])

    async def has(self, digest: str) -> bool:
        """As `Objects.has`."""
        return digest in self.contents

    async def delete(self, digest: str) -> bool:
        """As `Objects.delete`."""
        checked(digest)
        return self.contents.pop(digest, None) is not None

    def open_write(self) -> Writer:
        """As `Objects.open_write`."""
        return _MemoryWriter(self)

    async def path(self, digest: str) -> Path | None:
        """There are no files here."""
        await self.get(digest)
        return None


class _MemoryWriter:
    def __init__(self, objects: MemoryObjects) -> None:
        self._objects = objects
        self._pieces: list[bytes] = []

    async def write(self, data: bytes) -> None:
        self._pieces.append(bytes(data))

    async def commit(self) -> str:
        return await self._objects.put(b"".join(self._pieces))

    async def abort(self) -> None:
        self._pieces.clear()


class FolderObjects:
    """Objects as files `<root>/<first two hex digits>/<hex>`; written aside, synced, then renamed into place."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, data: bytes) -> str:
        """As `Objects.put`."""
        writer = self.open_write()
        try:
            await writer.write(data)
            return await writer.commit()
        finally:
            await writer.abort()

    async def get(self, digest: str) -> bytes:
        """As `Objects.get`."""
        place = self._place(checked(digest))
        try:
            return verified(digest, await asyncio.to_thread(place.read_bytes))
        except FileNotFoundError:
            raise ObjectMissing(digest) from None

    async def has(self, digest: str) -> bool:
        """As `Objects.has`."""
        return await asyncio.to_thread(self._place(checked(digest)).is_file)

    async def delete(self, digest: str) -> bool:
        """As `Objects.delete`."""
        try:
            await asyncio.to_thread(self._place(checked(digest)).unlink)
        except FileNotFoundError:
            return False
        return True

    def open_write(self) -> Writer:
        """As `Objects.open_write`."""
        return _FolderWriter(self._root, self._place)

    async def path(self, digest: str) -> Path | None:
        """As `Objects.path`."""
        place = self._place(checked(digest))
        found = await asyncio.to_thread(_file_digest, place)
        if found is None:
            raise ObjectMissing(digest)
        if found != digest:
            raise ObjectCorrupt(f"{digest}: the stored bytes have the digest {found}")
        return place

    def _place(self, hexadecimal: str) -> Path:
        return self._root / hexadecimal[:2] / hexadecimal


def _file_digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return PREFIX + hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


class _FolderWriter:
    def __init__(self, root: Path, place: Any) -> None:
        self._root = root
        self._place = place
        self._hash = hashlib.sha256()
        self._draft = root / "drafts" / uuid.uuid4().hex
        self._file: IO[bytes] | None = None

    async def write(self, data: bytes) -> None:
        await asyncio.to_thread(self._write, data)

    async def commit(self) -> str:
        return await asyncio.to_thread(self._commit)

    async def abort(self) -> None:
        await asyncio.to_thread(self._abort)

    def _write(self, data: bytes) -> None:
        try:
            if self._file is None:
                self._draft.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._draft.open("wb")
            self._file.write(data)
        except OSError as error:
            raise StoreUnavailable(f"cannot write {self._draft}: {error}") from error
        self._hash.update(data)

    def _commit(self) -> str:
        self._write(b"")
        assert self._file is not None
        place = self._place(self._hash.hexdigest())
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            place.parent.mkdir(parents=True, exist_ok=True)
            self._draft.replace(place)
            sync_folder(place.parent)
        except OSError as error:
            raise StoreUnavailable(f"cannot store {place}: {error}") from error
        return PREFIX + self._hash.hexdigest()

    def _abort(self) -> None:
        if self._file is not None:
            self._file.close()
        self._draft.unlink(missing_ok=True)


class S3Objects:
    """Objects in a bucket, or in any other file system that fsspec knows: `s3://bucket/prefix`.

    `options` are fsspec's own (key, secret, endpoint_url, ...). S3 itself needs the package `s3fs`.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._files, self._root = fsspec.core.url_to_fs(url, **options)
        self._failures = _driver_failures()

    async def put(self, data: bytes) -> str:
        """As `Objects.put`."""
        digest = digest_of(data)
        await self._store(self._files.pipe_file, self._place(digest), bytes(data))
        return digest

    async def get(self, digest: str) -> bytes:
        """As `Objects.get`."""
        try:
            return verified(digest, await self._call(self._files.cat_file, self._place(digest)))
        except FileNotFoundError:
            raise ObjectMissing(digest) from None

    async def has(self, digest: str) -> bool:
        """As `Objects.has`."""
        try:
            # Not `isfile`: that answers no to every error, and a bucket that is away would look empty.
            found = await self._call(self._files.info, self._place(digest))
        except FileNotFoundError:
            return False
        return bool(found["type"] == "file")

    async def delete(self, digest: str) -> bool:
        """As `Objects.delete`. A bucket that keeps versions keeps this one, too: that is its owner's to say."""
        if not await self.has(digest):
            return False
        await self._store(self._files.rm_file, self._place(digest))
        return True

    def open_write(self) -> Writer:
        """As `Objects.open_write`."""
        return _RemoteWriter(self)

    async def path(self, digest: str) -> Path | None:
        """There are no local files here."""
        await self.get(digest)
        return None

    async def adopt(self, draft: Path, digest: str) -> None:
        """Upload the file `draft` under `digest`, piece by piece."""
        await self._store(self._files.put_file, str(draft), self._place(digest))

    def _place(self, digest: str) -> str:
        hexadecimal = checked(digest)
        return f"{self._root}/{hexadecimal[:2]}/{hexadecimal}"

    async def _store(self, function: Any, *arguments: Any) -> None:
        try:
            await self._call(function, *arguments)
        except FileNotFoundError as error:  # where one writes, only the bucket can be missing
            raise StoreUnavailable(f"{self._root}: {error}") from error

    async def _call(self, function: Any, *arguments: Any) -> Any:
        try:
            return await asyncio.to_thread(function, *arguments)
        except FileNotFoundError:
            raise
        except self._failures as error:
            raise StoreUnavailable(f"{self._root}: {error}") from error


def _driver_failures() -> tuple[type[Exception], ...]:
    """What says that a file system cannot be used. botocore, which is optional, has errors that are no OSError."""
    driver = sys.modules.get("botocore.exceptions")
    return (OSError,) if driver is None else (OSError, driver.BotoCoreError)


class _RemoteWriter:
    """Collects in a local file first: the name in the bucket is known only at the end."""

    def __init__(self, objects: S3Objects) -> None:
        import tempfile

        self._objects = objects
        self._folder = tempfile.TemporaryDirectory(prefix="millrace-object-")
        root = Path(self._folder.name)
        self._writer = _FolderWriter(root, lambda hexadecimal: root / hexadecimal)

    async def write(self, data: bytes) -> None:
        await self._writer.write(data)

    async def commit(self) -> str:
        digest = await self._writer.commit()
        await self._objects.adopt(Path(self._folder.name) / digest.removeprefix(PREFIX), digest)
        return digest

    async def abort(self) -> None:
        await self._writer.abort()
        await asyncio.to_thread(self._folder.cleanup)


def open_objects(url: str) -> Objects:
    """The store at `url`: a folder (`/path`, `file:///path`), `memory:`, or anything fsspec knows (`s3://bucket/x`)."""
    if url == "memory:":
        return MemoryObjects()
    if "://" not in url or url.startswith("file://"):
        return FolderObjects(Path(url.removeprefix("file://")))
    return S3Objects(url)
