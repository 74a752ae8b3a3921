"""What was forgotten does not come back from the log: its records are read as if they were not there."""

from __future__ import annotations

import numpy as np
from millrace.bus.events import Batch
from millrace.runtime.forgotten import Forgotten

from services.feature_store.domain.online import Decoded
from services.feature_store.ports import Reader, Reject


class WithholdingReader:
    """A Reader of one source of a project that leaves out rows of forgotten entities; times and offsets stay."""

    def __init__(self, inner: Reader, forgotten: Forgotten, project: str, source: str) -> None:
        self._inner = inner
        self._forgotten = forgotten
        self._project = project
        self._source = source

    def decode(self, batch: Batch, reject: Reject) -> Decoded:
        """As `Reader.decode`."""
        decoded = self._inner.decode(batch, reject)
        if not self._forgotten.has_rows_of(self._project, self._source):
            return decoded
        events = decoded.events
        times = events.visible_us.tolist()
        keep = [
            place
            for place, row in enumerate(events.rows)
            if not self._forgotten.is_row(self._project, self._source, row, times[place])
        ]
        if len(keep) == len(events):
            return decoded
        rest = events.take(np.array(keep, dtype=np.int64))
        # Time has passed for what is left out, too: history and online store tell how far they have come by it.
        passed_us = max(decoded.heartbeat_us, int(events.visible_us.max()))
        return Decoded(rest, passed_us, decoded.last_offset, decoded.label, decoded.via)
