"""How a command fails: one line on stderr and an exit status, never a traceback for what can be expected."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from millrace.errors import UserError


class CliError(UserError):
    """Something the user can act on. `details` are further lines; `status` is the exit status."""

    def __init__(self, message: str, *, details: list[str] | None = None, status: int = 1) -> None:
        super().__init__(message)
        self.details = details or []
        self.status = status


class OneLineGroup(TyperGroup):
    """The root group: prints expected failures and exits with their status."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; what the user can mend becomes lines on stderr."""
        try:
            return super().invoke(ctx)
        except CliError as error:
            fail(str(error), error.details)
            raise typer.Exit(error.status) from None
        except UserError as error:
            fail(str(error), [])
            raise typer.Exit(1) from None
        except BrokenPipeError:
            # The reader of a pipe went away (`| head`): not a failure of ours, but nothing more can be written.
            sys.stderr.close()
            raise typer.Exit(0) from None


def fail(message: str, details: list[str]) -> None:
    """Prints a failure on stderr, each line once, unwrapped so that scripts can read it."""
    for line in [f"error: {message}", *(f"  {detail}" for detail in details)]:
        typer.echo(line, err=True)
