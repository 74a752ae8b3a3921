"""Imported by the fork server before all else: its priority is lowered first, and its children inherit it."""

import os

NICE = "MILLRACE_FORK_NICE"

os.nice(int(os.environ.get(NICE, "0")))
