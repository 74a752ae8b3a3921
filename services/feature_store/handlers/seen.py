"""A record handed back twice is applied once: its id is kept beside the rows, under a key that no entity has."""

from __future__ import annotations

SEEN = "\0"
