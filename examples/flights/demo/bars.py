"""Progress on the terminal: one row for each phase of the demo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

REFRESH_PER_SECOND = 4  # drawing costs the platform CPU; nobody reads faster


@dataclass(frozen=True, slots=True)
class Step:
    """The row of one phase."""

    what: str
    _progress: Progress
    _task: TaskID

    def at(self, done: float, total: float | None = None, detail: str = "") -> None:
        """How far it is; `total` None: nobody knows yet. `detail` stands behind the phase's name."""
        text = f"{escape(self.what)}  [dim]{escape(detail)}[/]" if detail else escape(self.what)
        self._progress.update(self._task, completed=done, total=total, description=text)


class Bars:
    """Rows for phases, drawn a few times a second while the block lasts."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        self.console = console
        self._progress = Progress(*columns, console=console, refresh_per_second=REFRESH_PER_SECOND)

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def tell(self, line: str) -> None:
        """A line above the rows; may carry rich's markup."""
        self.console.print(line)

    @contextmanager
    def phase(self, what: str) -> Iterator[Step]:
        """A row that is full when the block ends, and stays where it was when the block fails."""
        task = self._progress.add_task(escape(what), total=None)
        try:
            yield Step(what, self._progress, task)
        except BaseException:
            self._progress.update(task, description=f"[red]{escape(what)}: ended early[/]")
            self._progress.stop_task(task)
            raise
        self._progress.update(task, total=1, completed=1)
