"""The one implementation of windowed aggregates and of point-in-time reading, used online and offline alike.

`functions`, `distinct` and `quantiles` say what each aggregate keeps (lift, merge, finish); `layout` joins the
aggregates of one view; `rows` and `latest` pack what is known of an entity into bytes for the online store;
`pointintime` answers for many (entity, moment) pairs at once from history. Everything is vectorised numpy, without I/O,
clock or randomness. Times are int64 microseconds.
"""

from millrace.aggregates.distinct import DISTINCT_EXACT, hash_value, hash_values
from millrace.aggregates.kernels import KERNELS, kernel_of
from millrace.aggregates.latest import Latest, LatestLayout, read_latest
from millrace.aggregates.layout import Layout, State
from millrace.aggregates.pointintime import Events, latest_index, window_values
from millrace.aggregates.rows import NEVER_US, Lifted, RowError, merge_rows, newest_us, read_windows
from millrace.aggregates.windows import tile_start, window_start

__all__ = [
    "DISTINCT_EXACT",
    "KERNELS",
    "NEVER_US",
    "Events",
    "Latest",
    "LatestLayout",
    "Layout",
    "Lifted",
    "RowError",
    "State",
    "hash_value",
    "hash_values",
    "kernel_of",
    "latest_index",
    "merge_rows",
    "newest_us",
    "read_latest",
    "read_windows",
    "tile_start",
    "window_start",
    "window_values",
]
