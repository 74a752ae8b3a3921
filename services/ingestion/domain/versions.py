"""The definition version that a producer says it writes by."""

from __future__ import annotations

MAX_AHEAD = 64  # definitions that may be on their way at once; a number further on is a mistake
SCHEME = "millrace:"


class BadVersion(Exception):
    """No version of this source can be meant; the text says why."""


def read_version(named: str, project: str, source: str) -> int:
    """The number of `7`, or of the URI `millrace:<project>/<source>/7`. Raises BadVersion."""
    number = named
    if named.startswith(SCHEME):
        place, _, number = named.removeprefix(SCHEME).rpartition("/")
        if place != f"{project}/{source}":
            raise BadVersion(f"the schema {named[:200]} is not one of {project}/{source}")
    if not (number.isascii() and number.isdigit() and len(number) <= 9 and int(number)):
        raise BadVersion(
            f"{named[:200]!r} is no definition version: write its number, or {SCHEME}{project}/{source}/<n>"
        )
    return int(number)


def is_ahead(version: int, running: int) -> bool:
    """Whether `version` may be on its way while `running` runs. Raises BadVersion where it cannot be."""
    if version > running + MAX_AHEAD:
        raise BadVersion(f"version {version} is far beyond version {running}, which runs here")
    return version > running
