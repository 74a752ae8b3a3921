"""The one failure of this package."""

from __future__ import annotations


class ExpressionError(ValueError):
    """An expression that does not parse, does not type, or met a value that it cannot work on.

    `column` counts characters from 1; 0 when the place is not known.
    """

    def __init__(self, message: str, column: int = 0) -> None:
        super().__init__(f"{message} (column {column})" if column else message)
        self.message = message
        self.column = column
