"""What is wrong with a project file: every error at once, each with its place and, where it can be told, the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DefinitionError:
    """One error. `line` and `column` count from 1 (0: the whole file); `path` is dotted: `features.plan@1.hop`."""

    file: str
    line: int
    path: str
    message: str
    hint: str = ""
    column: int = 0

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        where = f" {self.path}:" if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}:{where} {self.message}{hint}"


class DefinitionErrors(Exception):
    """Everything that is wrong with one project file, in the order of its lines."""

    def __init__(self, errors: Iterable[DefinitionError]) -> None:
        self.errors: tuple[DefinitionError, ...] = tuple(sorted(errors, key=lambda e: (e.line, e.column, e.path)))
        super().__init__("\n".join(str(error) for error in self.errors))


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A hint that names the nearest known word, or all of them when they are few; "" when there is none."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    if 0 < len(known) <= 12:
        return "known: " + ", ".join(sorted(known))
    return ""
