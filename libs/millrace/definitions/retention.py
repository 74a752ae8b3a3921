"""How long a source's events are kept, against how far back its features look."""

from __future__ import annotations

from millrace.definitions.document import Document, Path
from millrace.definitions.model import Source, View, format_duration

MIN_RETENTION_US = 3_600_000_000  # Kafka lets go of whole segments, and an hour is the shortest that ours are
MAX_RETENTION_US = 100 * 366 * 86_400_000_000


def check_retention(document: Document, path: Path, view: View, source: Source) -> None:
    """A view that looks further back than its source's events are kept would be answered from less, unseen."""
    kept_us = source.retention_us
    if not kept_us:
        return
    kept = f"{source.name} keeps its events for {format_duration(kept_us)} only (retention)"
    if not view.is_windowed and not view.ttl_us:
        document.add(path, f"{view.name} has no ttl and remembers for ever, but {kept}", "give it a ttl within that")
    elif view.ttl_us > kept_us:
        document.add((*path, "ttl"), f"{view.name} remembers for {format_duration(view.ttl_us)}, but {kept}")
    for index, window in enumerate(view.windows_us):
        if window + view.hop_us > kept_us:
            reach = f"a window of {format_duration(window)} with its hop of {format_duration(view.hop_us)}"
            document.add((*path, "windows", index), f"{view.name} has {reach}, but {kept}")


def check_kept(document: Document, source: Source) -> None:
    """The bounds of a retention itself."""
    if source.retention_us and not MIN_RETENTION_US <= source.retention_us <= MAX_RETENTION_US:
        document.add(("sources", source.name, "retention"), "must be at least 1h and at most a hundred years")
