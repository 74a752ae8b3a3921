"""How far a file has been published, kept beside the platform, so that a run that was killed is taken up again."""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import IO

import msgspec

from millrace.client.errors import JournalTaken


class Place(msgspec.Struct, omit_defaults=True):
    """What the platform has answered for. `digest` is that of the first `rows` rows as they were sent: it tells the
    same file, also one that has grown, from another. `rejects_bytes` of the file `rejects` are accounted for here."""

    file: str = ""
    project: str = ""
    source: str = ""
    rows: int = 0
    digest: str = ""
    accepted: int = 0
    duplicates: int = 0
    quarantined: int = 0
    rejects: str = ""
    rejects_bytes: int = 0


class Journal:
    """The place of one (file, project, source) in a small file of its own, replaced in one step at each `save`.

    A kill -9 leaves the last place that was saved. One process at a time holds it; JournalTaken for the second. Without
    a folder nothing is kept.
    """

    def __init__(self, folder: Path | None, file: str, project: str, source: str) -> None:
        self._file: Path | None = None
        self.place = Place(file, project, source)
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        whole = str(Path(file).resolve())
        key = hashlib.blake2b("\n".join((whole, project, source)).encode(), digest_size=12).hexdigest()
        self._file = folder / f"{key}.json"
        self._lock = _locked(folder / f"{key}.lock", file)
        self.place = _read(self._file) or Place(whole, project, source)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Lets others have it."""
        if self._file is not None:
            self._lock.close()

    def save(self) -> None:
        """Writes the place."""
        if self._file is None:
            return
        draft = self._file.with_suffix(f".{os.getpid()}.tmp")
        draft.write_bytes(msgspec.json.encode(self.place))
        draft.replace(self._file)

    def restart(self) -> None:
        """Back to the beginning."""
        self.place = Place(self.place.file, self.place.project, self.place.source)
        self.save()


def _read(file: Path) -> Place | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Place)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        return None  # not of ours, or of an older version: to begin again is harmless, repeats are recognised


def _locked(path: Path, file: str) -> IO[str]:
    handle = path.open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise JournalTaken(f"{file} is being published by another process (it holds {path})") from error
    return handle
