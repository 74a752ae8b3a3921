"""Imported by the fork server before all else, and by nobody else: what its children are to inherit."""

import os
import signal

from millrace.runtime.forks import NICE

os.nice(int(os.environ.get(NICE, "0")))
for number in (signal.SIGINT, signal.SIGTERM):
    # They reach the whole group when the room is told to stop, and the room decides: it ends its work and then these.
    signal.signal(number, signal.SIG_IGN)
