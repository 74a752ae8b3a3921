from millrace.wire.common.v1 import common_pb2 as _common_pb2
from millrace.wire.labeling.v1 import service_pb2 as _service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FeatureStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEATURE_STATUS_UNSPECIFIED: _ClassVar[FeatureStatus]
    PRESENT: _ClassVar[FeatureStatus]
    MISSING: _ClassVar[FeatureStatus]
    EXPIRED: _ClassVar[FeatureStatus]
FEATURE_STATUS_UNSPECIFIED: FeatureStatus
PRESENT: FeatureStatus
MISSING: FeatureStatus
EXPIRED: FeatureStatus

class GetOnlineRequest(_message.Message):
    __slots__ = ("project", "entities", "features", "not_before_us", "service", "by")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_US_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    project: str
    entities: _containers.RepeatedScalarFieldContainer[str]
    features: _containers.RepeatedScalarFieldContainer[str]
    not_before_us: int
    service: str
    by: str
    def __init__(self, project: _Optional[str] = ..., entities: _Optional[_Iterable[str]] = ..., features: _Optional[_Iterable[str]] = ..., not_before_us: _Optional[int] = ..., service: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class FeatureColumns(_message.Message):
    __slots__ = ("is_text", "numbers", "texts", "status", "ages_us", "age_of")
    IS_TEXT_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    AGES_US_FIELD_NUMBER: _ClassVar[int]
    AGE_OF_FIELD_NUMBER: _ClassVar[int]
    is_text: bytes
    numbers: bytes
    texts: _containers.RepeatedScalarFieldContainer[str]
    status: bytes
    ages_us: bytes
    age_of: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, is_text: _Optional[bytes] = ..., numbers: _Optional[bytes] = ..., texts: _Optional[_Iterable[str]] = ..., status: _Optional[bytes] = ..., ages_us: _Optional[bytes] = ..., age_of: _Optional[_Iterable[int]] = ...) -> None: ...

class GetOnlineReply(_message.Message):
    __slots__ = ("features", "as_of_us", "columns")
    class AsOfUsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    AS_OF_US_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    features: _containers.RepeatedScalarFieldContainer[str]
    as_of_us: _containers.ScalarMap[str, int]
    columns: FeatureColumns
    def __init__(self, features: _Optional[_Iterable[str]] = ..., as_of_us: _Optional[_Mapping[str, int]] = ..., columns: _Optional[_Union[FeatureColumns, _Mapping]] = ...) -> None: ...

class TrainingSetRequest(_message.Message):
    __slots__ = ("project", "from_us", "to_us", "as_of_us", "as_happened", "service", "features", "spine")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    FROM_US_FIELD_NUMBER: _ClassVar[int]
    TO_US_FIELD_NUMBER: _ClassVar[int]
    AS_OF_US_FIELD_NUMBER: _ClassVar[int]
    AS_HAPPENED_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    SPINE_FIELD_NUMBER: _ClassVar[int]
    project: str
    from_us: int
    to_us: int
    as_of_us: int
    as_happened: bool
    service: str
    features: _containers.RepeatedScalarFieldContainer[str]
    spine: str
    def __init__(self, project: _Optional[str] = ..., from_us: _Optional[int] = ..., to_us: _Optional[int] = ..., as_of_us: _Optional[int] = ..., as_happened: _Optional[bool] = ..., service: _Optional[str] = ..., features: _Optional[_Iterable[str]] = ..., spine: _Optional[str] = ...) -> None: ...

class Spine(_message.Message):
    __slots__ = ("digest", "rows", "columns")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    digest: str
    rows: int
    columns: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, digest: _Optional[str] = ..., rows: _Optional[int] = ..., columns: _Optional[_Iterable[str]] = ...) -> None: ...

class TrainingSetProgress(_message.Message):
    __slots__ = ("rows_done", "rows_total", "snapshot")
    ROWS_DONE_FIELD_NUMBER: _ClassVar[int]
    ROWS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    rows_done: int
    rows_total: int
    snapshot: Snapshot
    def __init__(self, rows_done: _Optional[int] = ..., rows_total: _Optional[int] = ..., snapshot: _Optional[_Union[Snapshot, _Mapping]] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("digest", "rows", "columns", "from_us", "to_us", "as_of_us", "definition_version", "features", "present")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    FROM_US_FIELD_NUMBER: _ClassVar[int]
    TO_US_FIELD_NUMBER: _ClassVar[int]
    AS_OF_US_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_VERSION_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    digest: str
    rows: int
    columns: _containers.RepeatedScalarFieldContainer[str]
    from_us: int
    to_us: int
    as_of_us: int
    definition_version: int
    features: _containers.RepeatedScalarFieldContainer[str]
    present: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, digest: _Optional[str] = ..., rows: _Optional[int] = ..., columns: _Optional[_Iterable[str]] = ..., from_us: _Optional[int] = ..., to_us: _Optional[int] = ..., as_of_us: _Optional[int] = ..., definition_version: _Optional[int] = ..., features: _Optional[_Iterable[str]] = ..., present: _Optional[_Iterable[int]] = ...) -> None: ...

class ReadSnapshotRequest(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: str
    def __init__(self, digest: _Optional[str] = ...) -> None: ...

class GetHistoricalRequest(_message.Message):
    __slots__ = ("project", "keys", "features", "as_happened", "service", "by")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    AS_HAPPENED_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    project: str
    keys: _containers.RepeatedCompositeFieldContainer[_common_pb2.ExampleKey]
    features: _containers.RepeatedScalarFieldContainer[str]
    as_happened: bool
    service: str
    by: str
    def __init__(self, project: _Optional[str] = ..., keys: _Optional[_Iterable[_Union[_common_pb2.ExampleKey, _Mapping]]] = ..., features: _Optional[_Iterable[str]] = ..., as_happened: _Optional[bool] = ..., service: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class GetHistoricalReply(_message.Message):
    __slots__ = ("features", "columns")
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    features: _containers.RepeatedScalarFieldContainer[str]
    columns: FeatureColumns
    def __init__(self, features: _Optional[_Iterable[str]] = ..., columns: _Optional[_Union[FeatureColumns, _Mapping]] = ...) -> None: ...

class FeatureStatsRequest(_message.Message):
    __slots__ = ("project", "features", "max_age_ms")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    project: str
    features: _containers.RepeatedScalarFieldContainer[str]
    max_age_ms: int
    def __init__(self, project: _Optional[str] = ..., features: _Optional[_Iterable[str]] = ..., max_age_ms: _Optional[int] = ...) -> None: ...

class FeatureStatsReply(_message.Message):
    __slots__ = ("views", "measured_us", "took_s", "left")
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    MEASURED_US_FIELD_NUMBER: _ClassVar[int]
    TOOK_S_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    views: _containers.RepeatedCompositeFieldContainer[ViewStats]
    measured_us: int
    took_s: float
    left: _containers.RepeatedCompositeFieldContainer[LeftView]
    def __init__(self, views: _Optional[_Iterable[_Union[ViewStats, _Mapping]]] = ..., measured_us: _Optional[int] = ..., took_s: _Optional[float] = ..., left: _Optional[_Iterable[_Union[LeftView, _Mapping]]] = ...) -> None: ...

class LeftView(_message.Message):
    __slots__ = ("view", "keys")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    view: str
    keys: int
    def __init__(self, view: _Optional[str] = ..., keys: _Optional[int] = ...) -> None: ...

class ViewStats(_message.Message):
    __slots__ = ("view", "entity", "source", "entities", "rows", "exact", "sampled", "as_of_us", "lag_us", "key_bytes", "value_bytes", "memory_bytes", "total_bytes", "read_us", "events_per_hour", "columns", "update_us", "update_share")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    SAMPLED_FIELD_NUMBER: _ClassVar[int]
    AS_OF_US_FIELD_NUMBER: _ClassVar[int]
    LAG_US_FIELD_NUMBER: _ClassVar[int]
    KEY_BYTES_FIELD_NUMBER: _ClassVar[int]
    VALUE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    READ_US_FIELD_NUMBER: _ClassVar[int]
    EVENTS_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_US_FIELD_NUMBER: _ClassVar[int]
    UPDATE_SHARE_FIELD_NUMBER: _ClassVar[int]
    view: str
    entity: str
    source: str
    entities: int
    rows: int
    exact: bool
    sampled: int
    as_of_us: int
    lag_us: int
    key_bytes: float
    value_bytes: float
    memory_bytes: float
    total_bytes: int
    read_us: float
    events_per_hour: float
    columns: _containers.RepeatedCompositeFieldContainer[ColumnStats]
    update_us: float
    update_share: float
    def __init__(self, view: _Optional[str] = ..., entity: _Optional[str] = ..., source: _Optional[str] = ..., entities: _Optional[int] = ..., rows: _Optional[int] = ..., exact: _Optional[bool] = ..., sampled: _Optional[int] = ..., as_of_us: _Optional[int] = ..., lag_us: _Optional[int] = ..., key_bytes: _Optional[float] = ..., value_bytes: _Optional[float] = ..., memory_bytes: _Optional[float] = ..., total_bytes: _Optional[int] = ..., read_us: _Optional[float] = ..., events_per_hour: _Optional[float] = ..., columns: _Optional[_Iterable[_Union[ColumnStats, _Mapping]]] = ..., update_us: _Optional[float] = ..., update_share: _Optional[float] = ...) -> None: ...

class ColumnStats(_message.Message):
    __slots__ = ("name", "type", "present", "missing", "expired", "mean", "std", "min", "max", "quantiles", "distinct", "top", "edges", "counts", "age_quantiles_us", "memory_bytes", "update_us")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    QUANTILES_FIELD_NUMBER: _ClassVar[int]
    DISTINCT_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    EDGES_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    AGE_QUANTILES_US_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    UPDATE_US_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    present: int
    missing: int
    expired: int
    mean: float
    std: float
    min: float
    max: float
    quantiles: _containers.RepeatedScalarFieldContainer[float]
    distinct: int
    top: _containers.RepeatedCompositeFieldContainer[ValueCount]
    edges: _containers.RepeatedScalarFieldContainer[float]
    counts: _containers.RepeatedScalarFieldContainer[int]
    age_quantiles_us: _containers.RepeatedScalarFieldContainer[float]
    memory_bytes: float
    update_us: float
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., present: _Optional[int] = ..., missing: _Optional[int] = ..., expired: _Optional[int] = ..., mean: _Optional[float] = ..., std: _Optional[float] = ..., min: _Optional[float] = ..., max: _Optional[float] = ..., quantiles: _Optional[_Iterable[float]] = ..., distinct: _Optional[int] = ..., top: _Optional[_Iterable[_Union[ValueCount, _Mapping]]] = ..., edges: _Optional[_Iterable[float]] = ..., counts: _Optional[_Iterable[int]] = ..., age_quantiles_us: _Optional[_Iterable[float]] = ..., memory_bytes: _Optional[float] = ..., update_us: _Optional[float] = ...) -> None: ...

class ValueCount(_message.Message):
    __slots__ = ("value", "count")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    value: str
    count: int
    def __init__(self, value: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class DropViewRequest(_message.Message):
    __slots__ = ("project", "view", "force", "actor")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    project: str
    view: str
    force: bool
    actor: str
    def __init__(self, project: _Optional[str] = ..., view: _Optional[str] = ..., force: _Optional[bool] = ..., actor: _Optional[str] = ...) -> None: ...

class DropViewProgress(_message.Message):
    __slots__ = ("scanned", "total", "deleted", "done")
    SCANNED_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    scanned: int
    total: int
    deleted: int
    done: bool
    def __init__(self, scanned: _Optional[int] = ..., total: _Optional[int] = ..., deleted: _Optional[int] = ..., done: _Optional[bool] = ...) -> None: ...

class RebuildRequest(_message.Message):
    __slots__ = ("project", "views", "keep", "actor")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    project: str
    views: _containers.RepeatedScalarFieldContainer[str]
    keep: bool
    actor: str
    def __init__(self, project: _Optional[str] = ..., views: _Optional[_Iterable[str]] = ..., keep: _Optional[bool] = ..., actor: _Optional[str] = ...) -> None: ...

class RebuildProgress(_message.Message):
    __slots__ = ("view", "events", "total", "done")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    view: str
    events: int
    total: int
    done: bool
    def __init__(self, view: _Optional[str] = ..., events: _Optional[int] = ..., total: _Optional[int] = ..., done: _Optional[bool] = ...) -> None: ...

class ConsistencyRequest(_message.Message):
    __slots__ = ("project", "from_us", "to_us")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    FROM_US_FIELD_NUMBER: _ClassVar[int]
    TO_US_FIELD_NUMBER: _ClassVar[int]
    project: str
    from_us: int
    to_us: int
    def __init__(self, project: _Optional[str] = ..., from_us: _Optional[int] = ..., to_us: _Optional[int] = ...) -> None: ...

class ConsistencyRow(_message.Message):
    __slots__ = ("feature", "day", "compared", "equal", "ahead", "mismatch", "missing", "extra", "largest_difference")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    DAY_FIELD_NUMBER: _ClassVar[int]
    COMPARED_FIELD_NUMBER: _ClassVar[int]
    EQUAL_FIELD_NUMBER: _ClassVar[int]
    AHEAD_FIELD_NUMBER: _ClassVar[int]
    MISMATCH_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    LARGEST_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    feature: str
    day: str
    compared: int
    equal: int
    ahead: int
    mismatch: int
    missing: int
    extra: int
    largest_difference: float
    def __init__(self, feature: _Optional[str] = ..., day: _Optional[str] = ..., compared: _Optional[int] = ..., equal: _Optional[int] = ..., ahead: _Optional[int] = ..., mismatch: _Optional[int] = ..., missing: _Optional[int] = ..., extra: _Optional[int] = ..., largest_difference: _Optional[float] = ...) -> None: ...

class FeatureCell(_message.Message):
    __slots__ = ("value", "status", "age_us")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    AGE_US_FIELD_NUMBER: _ClassVar[int]
    value: _common_pb2.Value
    status: FeatureStatus
    age_us: int
    def __init__(self, value: _Optional[_Union[_common_pb2.Value, _Mapping]] = ..., status: _Optional[_Union[FeatureStatus, str]] = ..., age_us: _Optional[int] = ...) -> None: ...

class ConsistencyExample(_message.Message):
    __slots__ = ("feature", "entity", "as_of_us", "outcome", "online", "offline")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    AS_OF_US_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ONLINE_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_FIELD_NUMBER: _ClassVar[int]
    feature: str
    entity: str
    as_of_us: int
    outcome: str
    online: FeatureCell
    offline: FeatureCell
    def __init__(self, feature: _Optional[str] = ..., entity: _Optional[str] = ..., as_of_us: _Optional[int] = ..., outcome: _Optional[str] = ..., online: _Optional[_Union[FeatureCell, _Mapping]] = ..., offline: _Optional[_Union[FeatureCell, _Mapping]] = ...) -> None: ...

class ConsistencyReply(_message.Message):
    __slots__ = ("rows", "examples", "checked_reads", "skipped_reads", "pending_reads", "dropped_reads", "share")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    CHECKED_READS_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_READS_FIELD_NUMBER: _ClassVar[int]
    PENDING_READS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_READS_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[ConsistencyRow]
    examples: _containers.RepeatedCompositeFieldContainer[ConsistencyExample]
    checked_reads: int
    skipped_reads: int
    pending_reads: int
    dropped_reads: int
    share: float
    def __init__(self, rows: _Optional[_Iterable[_Union[ConsistencyRow, _Mapping]]] = ..., examples: _Optional[_Iterable[_Union[ConsistencyExample, _Mapping]]] = ..., checked_reads: _Optional[int] = ..., skipped_reads: _Optional[int] = ..., pending_reads: _Optional[int] = ..., dropped_reads: _Optional[int] = ..., share: _Optional[float] = ...) -> None: ...
