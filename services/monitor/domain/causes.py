"""The causal chain of an event, from the event back to the data snapshot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

SNAPSHOT = "millrace.snapshot"  # type of the last link: the data that a model was made from
EVIDENCE = "millrace.evidence"  # type of a link that stands for logged predictions, by query
MOST_LINKS = 64  # a longer chain is a loop or a mistake

RUNS = "training.runs"
MODELS = "models.events"
ALERTS = "monitor.alerts"


@dataclass(frozen=True, slots=True)
class Link:
    """One platform event, as the index knows it; empty strings where a field does not apply."""

    event_id: str
    event_type: str
    topic: str
    source: str
    subject: str
    time_us: int
    summary: str
    causation_id: str
    actor: str
    project: str = ""
    model: str = ""
    version: int = 0
    other_version: int = 0
    kind: str = ""
    run_id: str = ""
    snapshot_digest: str = ""
    evidence: str = ""


Lookup = Callable[[str], Awaitable[Link | None]]
LookupRun = Callable[[str], Awaitable[Link | None]]
LookupVersion = Callable[[str, str, int], Awaitable[Link | None]]


@dataclass(frozen=True, slots=True)
class Chain:
    """Newest first. `complete`: it ends at a snapshot, or at something a person or the outside did."""

    links: tuple[Link, ...]
    complete: bool


async def chain(first: Link, by_id: Lookup, by_run: LookupRun, by_version: LookupVersion) -> Chain:
    """Follows causes from `first` back to a run and its snapshot.

    A version's event that names its run but whose cause is not known here goes on at the run. A rollback of a version
    that no run made (it was forced by hand) ends at the hand, then says where the version that serves again comes from.
    """
    links: list[Link] = []
    seen: set[str] = set()
    current: Link | None = first
    broken = False
    while current is not None and current.event_id not in seen and len(links) < MOST_LINKS:
        seen.add(current.event_id)
        links.append(current)
        links.extend(_evidence(current))
        if _is_origin(current) and len(links) > 1:
            break
        following = await _cause(current, by_id, by_run)
        broken = following is None and bool(current.causation_id)
        current = following
    snapshot = _snapshot(links)
    if snapshot is not None:
        return Chain((*links, snapshot), complete=not broken or _is_origin(links[-1]))
    tail = await _serving_again(links, by_version, by_id, by_run)
    return Chain((*links, *tail), complete=not broken and bool(links))


async def _cause(link: Link, by_id: Lookup, by_run: LookupRun) -> Link | None:
    found = await by_id(link.causation_id) if link.causation_id else None
    if found is None and link.topic == MODELS and link.run_id:
        found = await by_run(link.run_id)
    return found


def _is_origin(link: Link) -> bool:
    return link.topic == RUNS and bool(link.snapshot_digest)


def _evidence(link: Link) -> list[Link]:
    if link.topic != ALERTS or not link.evidence:
        return []
    described = replace(
        link, event_type=EVIDENCE, topic="predictions", summary=link.evidence, causation_id="", actor=""
    )
    return [replace(described, event_id=f"{link.event_id}#evidence", evidence="")]


def _snapshot(links: list[Link]) -> Link | None:
    source = next((link for link in links if link.snapshot_digest), None)
    if source is None:
        return None
    return Link(
        event_id=source.snapshot_digest,
        event_type=SNAPSHOT,
        topic="",
        source="millrace/feature_store",
        subject=source.project,
        time_us=source.time_us,
        summary=f"data snapshot {source.snapshot_digest}",
        causation_id="",
        actor="",
        project=source.project,
        snapshot_digest=source.snapshot_digest,
    )


async def _serving_again(
    links: list[Link], by_version: LookupVersion, by_id: Lookup, by_run: LookupRun
) -> tuple[Link, ...]:
    """The origin of the version that a rollback brought back."""
    back = next((link for link in links if link.kind == "rolled_back" and link.other_version), None)
    released = await by_version(back.project, back.model, back.other_version) if back else None
    if released is None or released.event_id in {link.event_id for link in links}:
        return ()
    note = replace(released, summary=f"{released.summary} (the version that serves again)")
    return (await chain(note, by_id, by_run, by_version)).links
