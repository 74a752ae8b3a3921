"""The one error of the embedded stack."""

from millrace.errors import UserError


class StackError(UserError):
    """Something a person can fix: what is wrong, why, and what to do. Prints as one line."""

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        self.what, self.why, self.fix = what, why, fix
        super().__init__(self._line())

    def _line(self) -> str:
        line = self.what + (f": {self.why}" if self.why else "")
        return " ".join(f"{line} ({self.fix})".split()) if self.fix else " ".join(line.split())
