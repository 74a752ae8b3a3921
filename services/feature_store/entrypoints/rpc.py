"""The gRPC door: decode, call, encode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import chain
from typing import Any

import grpc
import numpy as np
from millrace.runtime.errors import Invalid
from millrace.wire.feature_store.v1 import service_pb2, service_pb2_grpc
from millrace.wire.labeling.v1 import service_pb2 as labeling_pb2

from services.feature_store.domain.answers import Block, blocked
from services.feature_store.domain.inputs import InputsPlan
from services.feature_store.entrypoints.catalogue import CatalogueDoor
from services.feature_store.entrypoints.consistency_rpc import encode_report
from services.feature_store.handlers.consistency_report import ConsistencyReports
from services.feature_store.handlers.reads import OnlineReads
from services.feature_store.handlers.spines import Spines
from services.feature_store.handlers.training import Ask, Historian, Moments, Progress, TrainingSets
from services.feature_store.ports import HistoryReader

Context = grpc.aio.ServicerContext[Any, Any]


class FeatureStoreService(service_pb2_grpc.FeatureStoreServicer):
    """`millrace.wire.feature_store.v1.FeatureStore`."""

    def __init__(
        self,
        reads: OnlineReads,
        historian: Historian,
        training: TrainingSets,
        spines: Spines,
        few: HistoryReader,
        consistency: ConsistencyReports,
        *,
        catalogue: CatalogueDoor,
        most_entities: int,
        read_wait_s: float,
    ) -> None:
        self._reads = reads
        self._historian = historian
        self._training = training
        self._spines = spines
        self._few = few
        self._catalogue = catalogue
        self._consistency = consistency
        self._most_entities = most_entities
        self._read_wait_s = read_wait_s

    async def GetOnline(self, request: service_pb2.GetOnlineRequest, context: Context) -> service_pb2.GetOnlineReply:
        """Features as known now."""
        self._bounded(len(request.entities))
        left_s = context.time_remaining()
        answer = await self._reads.read(
            request.project,
            list(request.entities),
            tuple(request.features),
            request.not_before_us,
            self._read_wait_s if left_s is None else left_s,
            service=request.service,
            by=request.by,
        )
        return service_pb2.GetOnlineReply(
            features=answer.plan.names,
            columns=encode_columns(answer.plan, answer.block),
            as_of_us=answer.as_of_us,
        )

    async def GetHistorical(
        self, request: service_pb2.GetHistoricalRequest, context: Context
    ) -> service_pb2.GetHistoricalReply:
        """Features as they were."""
        self._bounded(len(request.keys))
        feed = self._historian.project(request.project)
        plan = feed.plan_for(tuple(request.features), request.service, request.by)
        entities = [key.entity for key in request.keys]
        moment_us = np.array([key.moment_us for key in request.keys], dtype=np.int64)
        await self._historian.settle(feed, max((key.moment_us for key in request.keys), default=0))
        moments = Moments(entities, moment_us, 0, request.as_happened)
        judged = await self._historian.judged(feed, plan, moments, self._few)
        return service_pb2.GetHistoricalReply(features=plan.names, columns=encode_columns(plan, blocked(plan, judged)))

    async def CreateTrainingSet(
        self, request: service_pb2.TrainingSetRequest, context: Context
    ) -> AsyncIterator[service_pb2.TrainingSetProgress]:
        """Progress, then the snapshot."""
        ask = Ask(
            request.project,
            request.from_us,
            request.to_us,
            request.as_of_us,
            request.as_happened,
            tuple(request.features),
            request.spine,
            request.service,
        )
        async for progress in self._training.create(ask):
            yield _progress(progress)

    async def UploadSpine(
        self, request_iterator: AsyncIterator[labeling_pb2.ArrowChunk], context: Context
    ) -> service_pb2.Spine:
        """A table of the caller's own."""
        receipt = await self._spines.take(chunk.data async for chunk in request_iterator)
        return service_pb2.Spine(digest=receipt.digest, rows=receipt.rows, columns=receipt.columns)

    async def ReadSnapshot(
        self, request: service_pb2.ReadSnapshotRequest, context: Context
    ) -> AsyncIterator[labeling_pb2.ArrowChunk]:
        """The rows of a snapshot."""
        async for piece in self._training.read(request.digest):
            yield labeling_pb2.ArrowChunk(data=piece)

    async def FeatureStats(
        self, request: service_pb2.FeatureStatsRequest, context: Context
    ) -> service_pb2.FeatureStatsReply:
        """What the online store holds of features."""
        return await self._catalogue.stats(request)

    async def DropView(
        self, request: service_pb2.DropViewRequest, context: Context
    ) -> AsyncIterator[service_pb2.DropViewProgress]:
        """Progress, then done."""
        async for progress in self._catalogue.drop(request):
            yield progress

    async def RebuildViews(
        self, request: service_pb2.RebuildRequest, context: Context
    ) -> AsyncIterator[service_pb2.RebuildProgress]:
        """Progress, then done."""
        async for progress in self._catalogue.rebuild(request):
            yield progress

    async def Consistency(
        self, request: service_pb2.ConsistencyRequest, context: Context
    ) -> service_pb2.ConsistencyReply:
        """What sampled online reads came to when they were worked out again from history."""
        return encode_report(await self._consistency.report(request.project, request.from_us, request.to_us))

    def _bounded(self, count: int) -> None:
        if count > self._most_entities:
            raise Invalid(f"at most {self._most_entities} entities in one call, not {count}")


def encode_columns(plan: InputsPlan, block: Block) -> service_pb2.FeatureColumns:
    """The cells of an answer."""
    return service_pb2.FeatureColumns(
        is_text=plan.is_text.tobytes(),
        numbers=block.numbers.tobytes(),
        texts=list(chain.from_iterable(block.texts)),
        status=block.status.tobytes(),
        ages_us=block.ages_us.tobytes(),
        age_of=plan.age_of,
    )


def _progress(progress: Progress) -> service_pb2.TrainingSetProgress:
    message = service_pb2.TrainingSetProgress(rows_done=progress.rows_done, rows_total=progress.rows_total)
    manifest = progress.manifest
    if manifest is not None:
        message.snapshot.CopyFrom(
            service_pb2.Snapshot(
                digest=progress.digest,
                rows=manifest.rows,
                columns=[name for name, _ in manifest.columns],
                from_us=manifest.from_us,
                to_us=manifest.to_us,
                as_of_us=manifest.as_of_us,
                definition_version=manifest.definition_version,
                features=[name for name, _ in manifest.present],
                present=[rows for _, rows in manifest.present],
            )
        )
    return message
