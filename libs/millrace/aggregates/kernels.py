"""Which kernel works out which aggregate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from millrace.aggregates.distinct import Distinct
from millrace.aggregates.functions import Count, Edge, Extreme, LastK, Mean, Std, Sum
from millrace.aggregates.quantiles import Quantile
from millrace.aggregates.segments import Kernel
from millrace.definitions.model import Aggregate, Aggregation

# A kernel is made from the aggregate's argument: the share of a quantile, the number of last values.
KERNELS: dict[Aggregation, Callable[[float], Kernel]] = {
    Aggregation.COUNT: lambda _: Count(),
    Aggregation.SUM: lambda _: Sum(),
    Aggregation.MEAN: lambda _: Mean(),
    Aggregation.STD: lambda _: Std(),
    Aggregation.MIN: lambda _: Extreme(np.fmin),
    Aggregation.MAX: lambda _: Extreme(np.fmax),
    Aggregation.FIRST: lambda _: Edge(newest=False),
    Aggregation.LAST: lambda _: Edge(newest=True),
    Aggregation.LAST_K: lambda k: LastK(int(k)),
    Aggregation.DISTINCT: lambda _: Distinct(),
    Aggregation.QUANTILE: Quantile,
}


def kernel_of(aggregate: Aggregate) -> Kernel:
    """The kernel of one aggregate."""
    return KERNELS[aggregate.function](aggregate.argument)
