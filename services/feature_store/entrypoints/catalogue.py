"""Statistics, drops and rebuilds over gRPC: decode, call, encode."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence

from millrace.aggregates import RowError
from millrace.definitions.errors import did_you_mean
from millrace.runtime.auth import actor_of, require
from millrace.wire.feature_store.v1 import service_pb2

from services.feature_store.domain.profile import Profile
from services.feature_store.errors import RowCorrupt, UnknownFeature
from services.feature_store.handlers.drops import Drops
from services.feature_store.handlers.rebuilds import Rebuilds
from services.feature_store.handlers.statistics import ColumnCost, FeatureStatistics, ViewProfile

log = logging.getLogger(__name__)


class CatalogueDoor:
    """`FeatureStats`, `DropView` and `RebuildViews` of the room's service."""

    def __init__(self, statistics: FeatureStatistics, drops: Drops, rebuilds: Rebuilds, keep_s: float) -> None:
        self._statistics = statistics
        self._drops = drops
        self._rebuilds = rebuilds
        self._keep_s = keep_s

    async def stats(self, request: service_pb2.FeatureStatsRequest) -> service_pb2.FeatureStatsReply:
        """Views and columns that were asked for. Raises UnknownProject, UnknownFeature, StoreUnavailable."""
        max_age_s = request.max_age_ms / 1000 if request.max_age_ms else self._keep_s
        try:
            survey = await self._statistics.survey(request.project, max_age_s)
        except RowError as error:
            raise RowCorrupt(str(error)) from error
        wanted = select(survey.views, tuple(request.features), request.project)
        return service_pb2.FeatureStatsReply(
            views=[_view(view, columns) for view, columns in wanted],
            measured_us=survey.measured_us,
            took_s=survey.took_s,
            left=[service_pb2.LeftView(view=view_id, keys=keys) for view_id, keys in survey.left],
        )

    async def drop(self, request: service_pb2.DropViewRequest) -> AsyncIterator[service_pb2.DropViewProgress]:
        """Needs the role operator."""
        require("operator")
        actor = actor_of(request.actor)
        async for step in self._drops.drop(request.project, request.view, force=request.force, actor=actor):
            yield service_pb2.DropViewProgress(
                scanned=step.scanned, total=step.total, deleted=step.deleted, done=step.done
            )

    async def rebuild(self, request: service_pb2.RebuildRequest) -> AsyncIterator[service_pb2.RebuildProgress]:
        """Needs the role operator."""
        require("operator")
        log.info("rebuilding views", extra={"project": request.project, "actor": actor_of(request.actor)})
        async for step in self._rebuilds.rebuild(request.project, tuple(request.views), keep=request.keep):
            yield service_pb2.RebuildProgress(view=step.view, events=step.events, total=step.total, done=not step.view)


def select(views: Sequence[ViewProfile], names: Sequence[str], project: str) -> list[tuple[ViewProfile, list[Profile]]]:
    """The views and columns that `names` mean: a view, with or without version, or a column of one; none: all.

    A view without version means all its versions. Raises UnknownFeature.
    """
    if not names:
        return [(view, list(view.columns)) for view in views]
    chosen: dict[str, tuple[ViewProfile, list[Profile]]] = {}
    for name in names:
        view_name, _, column = name.partition(".")
        met = False
        for view in views:
            if view_name not in (view.view.id, view.view.view.name):
                continue
            columns = [c for c in view.columns if column in ("", c.name)]
            met = met or bool(columns)
            kept = chosen.setdefault(view.view.id, (view, []))[1]
            kept += [c for c in columns if c not in kept]
        if not met:
            known = [f"{v.view.view.name}.{c.name}" for v in views for c in v.columns]
            hint = did_you_mean(name, [*dict.fromkeys(known), *(v.view.id for v in views)])
            raise UnknownFeature(f"{project} has no feature {name}" + (f" ({hint})" if hint else ""))
    return [(view, columns) for view, columns in chosen.values() if columns]


def _view(found: ViewProfile, columns: Sequence[Profile]) -> service_pb2.ViewStats:
    cost = found.cost
    cost_of = {column.name: own for column, own in zip(found.columns, found.costs, strict=True)}
    return service_pb2.ViewStats(
        view=found.view.id,
        entity=found.view.view.entity,
        source=found.view.view.source,
        entities=found.entities,
        rows=found.rows,
        exact=found.exact,
        sampled=found.sampled,
        as_of_us=found.as_of_us,
        lag_us=found.lag_us,
        key_bytes=cost.key_bytes,
        value_bytes=cost.value_bytes,
        memory_bytes=cost.memory_bytes,
        total_bytes=round(cost.memory_bytes * found.rows),
        read_us=-1.0 if cost.read_us is None else cost.read_us,
        update_us=-1.0 if cost.update_us is None else cost.update_us,
        update_share=cost.update_share,
        events_per_hour=-1.0 if found.events_per_hour is None else found.events_per_hour,
        columns=[_column(column, cost_of[column.name]) for column in columns],
    )


def _column(found: Profile, cost: ColumnCost) -> service_pb2.ColumnStats:
    stats = service_pb2.ColumnStats(
        name=found.name,
        type=found.type.value,
        present=found.present,
        missing=found.missing,
        expired=found.expired,
        distinct=found.distinct,
        top=[service_pb2.ValueCount(value=value, count=count) for value, count in found.top],
        age_quantiles_us=found.age_quantiles_us,
        memory_bytes=cost.memory_bytes,
        update_us=-1.0 if cost.update_us is None else cost.update_us,
    )
    if (moments := found.moments) is not None:
        stats.mean, stats.std, stats.min, stats.max = moments.mean, moments.std, moments.least, moments.greatest
        stats.quantiles.extend(moments.quantiles)
        stats.edges.extend(moments.edges)
        stats.counts.extend(moments.counts)
    return stats
