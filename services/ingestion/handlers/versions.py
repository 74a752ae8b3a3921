"""Producers that name the definition version they write by: ahead of this room they wait a while, then are refused.

Whatever they name, an event is judged by the contract that runs: sources change so that each version reads what every
other one wrote (`millrace.definitions.evolution`), and a data topic holds what its newest contract promises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from services.ingestion.domain.versions import BadVersion, is_ahead, read_version
from services.ingestion.errors import DefinitionOnItsWay

MAX_AWAITED = 1_000  # (project, version) pairs remembered


class VersionDesk:
    """Knows since when a version is asked for that nobody here knows."""

    def __init__(self, wait_us: int, wall_us: Callable[[], int]) -> None:
        self._wait_us = wait_us
        self._wall_us = wall_us
        self._since_us: dict[tuple[str, int], int] = {}

    def refusals(self, project: str, source: str, running: int, named: Iterable[str]) -> dict[str, str]:
        """Those of the named versions that cannot be, with the reason. Raises DefinitionOnItsWay while one may still
        come."""
        refused: dict[str, str] = {}
        awaited = []
        for text in named:
            try:
                version = read_version(text, project, source)
                if not is_ahead(version, running):
                    self._since_us.pop((project, version), None)
                elif self._waited_us(project, version) < self._wait_us:
                    awaited.append(version)
                else:
                    waited_s = self._wait_us / 1e6
                    refused[text] = f"no version {version} came in {waited_s:g} s; version {running} runs here"
            except BadVersion as error:
                refused[text] = str(error)
        if awaited:
            unknown = f"version {max(awaited)} of {project} is not known here yet (version {running} runs)"
            raise DefinitionOnItsWay(f"{unknown}: repeat in a moment")
        return refused

    def _waited_us(self, project: str, version: int) -> int:
        if len(self._since_us) >= MAX_AWAITED:
            self._since_us.clear()
        now_us = self._wall_us()
        return now_us - self._since_us.setdefault((project, version), now_us)
