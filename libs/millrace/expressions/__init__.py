"""Row expressions of project files: parsed to a syntax tree of our own, never `eval`ed.

Grammar (Python's, cut down): numbers, strings, `null`, `true`, `false`, field names, `+ - * / %`, comparisons, `and`,
`or`, `not`, `in (…)`, `not in (…)`, and the functions listed in `FUNCTIONS`. Timestamps are integer microseconds, UTC.

Null: an operation on null is null; `x == null` and `x != null` test for it; `and`, `or`, `not` are three-valued.
A division by zero and a result that is not finite are null.

    >>> parse("temperature > 15 and carrier in ('AA', 'UA')").evaluate({"temperature": 20, "carrier": "AA"})
    True
"""

from millrace.expressions.durations import parse_duration
from millrace.expressions.errors import ExpressionError
from millrace.expressions.expression import Expression, parse
from millrace.expressions.functions import FUNCTIONS

__all__ = ["FUNCTIONS", "Expression", "ExpressionError", "parse", "parse_duration"]
