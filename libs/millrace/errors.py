"""The root of failures that a person can mend, whichever part of the platform meets them."""

from __future__ import annotations


class UserError(Exception):
    """Its text is one line: what is wrong, why, and what to do. Commands print it in place of a traceback."""
