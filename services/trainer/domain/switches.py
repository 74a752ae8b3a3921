"""The kill switches of training: one per project, and one for all."""

from __future__ import annotations

from dataclasses import dataclass

ALL = "*"


@dataclass(frozen=True, slots=True)
class Switch:
    """Who switched training of a project (ALL: of every project) off, or on again; `switched_us` is wall time."""

    project: str
    off: bool
    reason: str
    actor: str
    switched_us: int

    @property
    def words(self) -> str:
        """What it says to who is held up by it."""
        what = "all training" if self.project == ALL else f"training of {self.project}"
        return f"{what} is switched off by {self.actor or 'somebody'}: {self.reason}"

    @property
    def undo(self) -> str:
        """The command that switches it on again."""
        return f"millrace training on {'--all' if self.project == ALL else self.project}"
