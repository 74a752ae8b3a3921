"""Training sets and historical features in Python: built by the platform, streamed here as Arrow.

Needs pyarrow (`pip install 'millrace[frames]'`); pandas and polars only where they are asked for.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from millrace.client.columns import read_columns
from millrace.client.errors import CallFailed, ClientError
from millrace.client.frames import pieces_of, to_arrow, to_parquet, verified_batches
from millrace.runtime.channels import open_channel
from millrace.wire.common.v1 import common_pb2
from millrace.wire.feature_store.v1 import service_pb2, service_pb2_grpc
from millrace.wire.labeling.v1 import service_pb2 as labeling_pb2

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow as pa

T = TypeVar("T")
Moment = int | str | datetime
KEYS_PER_REQUEST = 500
DEADLINE_S = 3_600.0
READ_DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class FeatureValue:
    """One feature of one entity at one moment; `age_us` -1 where nothing was ever heard."""

    value: Any
    status: str
    age_us: int


@dataclass(frozen=True, slots=True)
class OnlineRow:
    """The features of one entity as they are known now."""

    entity: str
    values: dict[str, FeatureValue]


@dataclass(frozen=True, slots=True)
class HistoricalRow:
    """The features of one entity as they were known at a moment (microseconds)."""

    entity: str
    moment_us: int
    values: dict[str, FeatureValue]


@dataclass(frozen=True)
class TrainingSet:
    """A training set that the platform keeps under `digest`: what it is, and its rows on demand.

    `present` counts, per feature, the rows in which it has a value. Reading verifies that the rows are those of the
    digest; SnapshotBroken where they are not.
    """

    digest: str
    rows: int
    columns: tuple[str, ...]
    present: dict[str, int]
    from_us: int
    to_us: int
    as_of_us: int
    definition_version: int
    _features: Features = field(repr=False, compare=False)

    @property
    def share_present(self) -> dict[str, float]:
        """Per feature, the share of rows in which it has a value."""
        return {name: count / self.rows if self.rows else 0.0 for name, count in self.present.items()}

    async def batches(self) -> AsyncIterator[pa.RecordBatch]:
        """The rows, batch by batch, in the order of the set: no more than one batch is held."""
        async for batch in self._features.rows(self.digest):
            yield batch

    async def to_arrow(self) -> pa.Table:
        """All rows, in memory."""
        return await to_arrow(self.batches())

    async def to_parquet(self, path: str | Path) -> int:
        """Writes the rows to a file, whole or not at all, batch by batch; the number of rows."""
        return await to_parquet(self.batches(), Path(path))

    async def to_pandas(self) -> pandas.DataFrame:
        """All rows as a data frame."""
        return (await self.to_arrow()).to_pandas()

    async def to_polars(self) -> polars.DataFrame:
        """All rows as a data frame of polars, which must be installed."""
        import polars

        frame: polars.DataFrame = polars.from_arrow(await self.to_arrow())
        return frame


class Features:
    """Async access to the features of one project. All methods raise CallFailed with the room's own words."""

    def __init__(self, address: str, project: str, *, deadline_s: float = DEADLINE_S, token: str = "") -> None:
        self._channel = open_channel(address, token=token)
        self._stub: Any = service_pb2_grpc.FeatureStoreStub(self._channel)
        self._project = project
        self._deadline_s = deadline_s

    async def __aenter__(self) -> Features:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def training_set(
        self,
        *,
        begin: Moment = 0,
        end: Moment = 0,
        spine: Any = None,
        features: Sequence[str] = (),
        service: str = "",
        as_happened: bool = False,
        as_of: Moment = 0,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> TrainingSet:
        """Builds a training set: labelled examples with moments in [begin, end), or the rows of `spine`.

        `spine` is a table with columns `entity`, `moment` and any others, in any of these forms: Arrow, pandas,
        polars, a list of dictionaries, the path of a Parquet, Arrow, CSV or NDJSON file, or the digest that
        `upload_spine` gave. As many rows come out as went in, in their order. Features are as they were known at each
        row's moment, or, with `as_happened`, also what became known later (but by `as_of`). Times are datetimes, ISO
        8601 text or microseconds; UTC where no zone is named. `on_progress` hears of (rows done, rows in all). The
        features are the model's inputs, or `features` of them, or those of a `service` (name@version, or the newest).
        """
        request = service_pb2.TrainingSetRequest(
            project=self._project,
            from_us=as_us(begin),
            to_us=as_us(end),
            as_of_us=as_us(as_of),
            as_happened=as_happened,
            features=features,
            service=service,
            spine="" if spine is None else await self.upload_spine(spine),
        )
        snapshot: service_pb2.Snapshot | None = None
        try:
            async for progress in self._stub.CreateTrainingSet(request, timeout=self._deadline_s):
                on_progress(progress.rows_done, progress.rows_total)
                if progress.HasField("snapshot"):
                    snapshot = progress.snapshot
        except grpc.aio.AioRpcError as error:
            raise CallFailed(f"training set of {self._project}", error) from error
        assert snapshot is not None, "the room ends with a snapshot or an error"
        return self._found(snapshot)

    async def rows(self, digest: str) -> AsyncIterator[pa.RecordBatch]:
        """The rows of a training set that the platform keeps, by its digest: of a run's, or of one made earlier. They
        are verified; SnapshotBroken where they are not those of the digest."""
        async for batch in verified_batches(self._snapshot(digest), digest):
            yield batch

    async def upload_spine(self, spine: Any) -> str:
        """Gives the platform a table for any number of training sets; its digest, by which `spine` may name it."""
        if isinstance(spine, str) and spine.startswith("sha256:"):
            return spine

        failures: list[ClientError] = []

        async def chunks() -> AsyncIterator[labeling_pb2.ArrowChunk]:
            try:
                for piece in pieces_of(spine):
                    yield labeling_pb2.ArrowChunk(data=piece)
            except ClientError as error:
                failures.append(error)
                raise

        try:
            kept = await self._stub.UploadSpine(chunks(), timeout=self._deadline_s)
        except asyncio.CancelledError:
            if failures:  # gRPC cancels a call whose requests end with an exception
                raise failures[0] from None
            raise
        except grpc.aio.AioRpcError as error:
            raise CallFailed(f"spine for {self._project}", error) from error
        return str(kept.digest)

    async def online(
        self,
        entities: Sequence[str],
        *,
        features: Sequence[str] = (),
        service: str = "",
        by: str = "",
        not_before: Moment = 0,
    ) -> list[OnlineRow]:
        """The features of each entity as known now, with status and age, many entities in one request.

        They are the model's inputs, or `features` (view.column), or those of a `service`; `by` names the field whose
        values the entities are, where that is not the predict entity. With `not_before` the answer waits until all that
        was visible by then has been applied.
        """
        rows: list[OnlineRow] = []
        for begin in range(0, len(entities), KEYS_PER_REQUEST):
            part = list(entities[begin : begin + KEYS_PER_REQUEST])
            request = service_pb2.GetOnlineRequest(
                project=self._project,
                entities=part,
                features=features,
                service=service,
                by=by,
                not_before_us=as_us(not_before),
            )
            try:
                reply = await self._stub.GetOnline(request, timeout=READ_DEADLINE_S)
            except grpc.aio.AioRpcError as error:
                raise CallFailed(f"features of {self._project}", error) from error
            found = _values(reply.features, reply.columns, len(part))
            rows += [OnlineRow(entity, values) for entity, values in zip(part, found, strict=True)]
        return rows

    async def historical(
        self,
        entities: Sequence[str],
        moments: Sequence[Moment] | Moment,
        *,
        features: Sequence[str] = (),
        service: str = "",
        by: str = "",
        as_happened: bool = False,
    ) -> list[HistoricalRow]:
        """The features of each entity at its moment (or all at one), with status and age; nothing is kept. Which ones,
        as in `online`."""
        many = [moments] * len(entities) if isinstance(moments, int | str | datetime) else list(moments)
        keys = [
            common_pb2.ExampleKey(project=self._project, entity=entity, moment_us=as_us(moment))
            for entity, moment in zip(entities, many, strict=True)
        ]
        rows: list[HistoricalRow] = []
        for begin in range(0, len(keys), KEYS_PER_REQUEST):
            part = keys[begin : begin + KEYS_PER_REQUEST]
            request = service_pb2.GetHistoricalRequest(
                project=self._project, keys=part, features=features, service=service, by=by, as_happened=as_happened
            )
            try:
                reply = await self._stub.GetHistorical(request, timeout=self._deadline_s)
            except grpc.aio.AioRpcError as error:
                raise CallFailed(f"history of {self._project}", error) from error
            found = _values(reply.features, reply.columns, len(part))
            rows += [HistoricalRow(k.entity, k.moment_us, values) for k, values in zip(part, found, strict=True)]
        return rows

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close(None)

    async def _snapshot(self, digest: str) -> AsyncIterator[bytes]:
        request = service_pb2.ReadSnapshotRequest(digest=digest)
        try:
            async for chunk in self._stub.ReadSnapshot(request, timeout=self._deadline_s):
                yield chunk.data
        except grpc.aio.AioRpcError as error:
            raise CallFailed(f"snapshot {digest}", error) from error

    def _found(self, snapshot: service_pb2.Snapshot) -> TrainingSet:
        return TrainingSet(
            snapshot.digest,
            snapshot.rows,
            tuple(snapshot.columns),
            dict(zip(snapshot.features, snapshot.present, strict=True)),
            snapshot.from_us,
            snapshot.to_us,
            snapshot.as_of_us,
            snapshot.definition_version,
            self,
        )


class SyncFeatures:
    """As `Features`, for programs without an event loop; a thread of its own runs one."""

    def __init__(self, address: str, project: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="millrace features", daemon=True)
        self._thread.start()
        self._features: Features = self._wait(_make(address, project, options))

    def __enter__(self) -> SyncFeatures:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def training_set(self, **asked: Any) -> SyncTrainingSet:
        """As `Features.training_set`."""
        return SyncTrainingSet(self._wait(self._features.training_set(**asked)), self)

    def rows(self, digest: str) -> Iterator[pa.RecordBatch]:
        """As `Features.rows`."""
        batches = self._features.rows(digest)
        try:
            while (batch := self._wait(_next(batches))) is not None:
                yield batch
        finally:
            self._wait(_end(batches))

    def upload_spine(self, spine: Any) -> str:
        """As `Features.upload_spine`."""
        return self._wait(self._features.upload_spine(spine))

    def online(self, entities: Sequence[str], **asked: Any) -> list[OnlineRow]:
        """As `Features.online`."""
        return self._wait(self._features.online(entities, **asked))

    def historical(
        self, entities: Sequence[str], moments: Sequence[Moment] | Moment, **asked: Any
    ) -> list[HistoricalRow]:
        """As `Features.historical`."""
        return self._wait(self._features.historical(entities, moments, **asked))

    def close(self) -> None:
        """Closes the channel and ends the thread."""
        if self._loop.is_closed():
            return
        self._wait(self._features.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class SyncTrainingSet:
    """As `TrainingSet`; what it is stands in `facts`."""

    def __init__(self, facts: TrainingSet, features: SyncFeatures) -> None:
        self.facts = facts
        self._features = features

    def batches(self) -> Iterator[pa.RecordBatch]:
        """As `TrainingSet.batches`."""
        return self._features.rows(self.facts.digest)

    def to_arrow(self) -> pa.Table:
        """As `TrainingSet.to_arrow`."""
        return self._features._wait(self.facts.to_arrow())

    def to_parquet(self, path: str | Path) -> int:
        """As `TrainingSet.to_parquet`."""
        return self._features._wait(self.facts.to_parquet(path))

    def to_pandas(self) -> pandas.DataFrame:
        """As `TrainingSet.to_pandas`."""
        return self._features._wait(self.facts.to_pandas())

    def to_polars(self) -> polars.DataFrame:
        """As `TrainingSet.to_polars`."""
        return self._features._wait(self.facts.to_polars())


def as_us(moment: Moment) -> int:
    """Microseconds since 1970, UTC. ValueError for text that is no time."""
    if isinstance(moment, int):
        return moment
    at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    since = (at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _values(names: Sequence[str], columns: Any, count: int) -> list[dict[str, FeatureValue]]:
    """A reply's columns, entity by entity."""
    cells = dict(zip(names, read_columns(columns, count), strict=True))
    name_of = service_pb2.FeatureStatus.Name
    return [
        {n: FeatureValue(c.values[place], name_of(c.statuses[place]), c.ages_us[place]) for n, c in cells.items()}
        for place in range(count)
    ]


async def _make(address: str, project: str, options: dict[str, Any]) -> Features:
    return Features(address, project, **options)  # gRPC binds a channel to the running loop


async def _next(batches: AsyncIterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    return await anext(batches, None)


async def _end(batches: AsyncIterator[pa.RecordBatch]) -> None:
    close: Any = getattr(batches, "aclose", None)
    if close is not None:
        await close()
