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
    __slots__ = ("project", "entities", "features", "not_before_us")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_US_FIELD_NUMBER: _ClassVar[int]
    project: str
    entities: _containers.RepeatedScalarFieldContainer[str]
    features: _containers.RepeatedScalarFieldContainer[str]
    not_before_us: int
    def __init__(self, project: _Optional[str] = ..., entities: _Optional[_Iterable[str]] = ..., features: _Optional[_Iterable[str]] = ..., not_before_us: _Optional[int] = ...) -> None: ...

class FeatureColumns(_message.Message):
    __slots__ = ("is_text", "numbers", "texts", "status", "age_us")
    IS_TEXT_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    AGE_US_FIELD_NUMBER: _ClassVar[int]
    is_text: bytes
    numbers: bytes
    texts: _containers.RepeatedScalarFieldContainer[str]
    status: bytes
    age_us: bytes
    def __init__(self, is_text: _Optional[bytes] = ..., numbers: _Optional[bytes] = ..., texts: _Optional[_Iterable[str]] = ..., status: _Optional[bytes] = ..., age_us: _Optional[bytes] = ...) -> None: ...

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
    __slots__ = ("project", "from_us", "to_us", "as_of_us", "as_happened")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    FROM_US_FIELD_NUMBER: _ClassVar[int]
    TO_US_FIELD_NUMBER: _ClassVar[int]
    AS_OF_US_FIELD_NUMBER: _ClassVar[int]
    AS_HAPPENED_FIELD_NUMBER: _ClassVar[int]
    project: str
    from_us: int
    to_us: int
    as_of_us: int
    as_happened: bool
    def __init__(self, project: _Optional[str] = ..., from_us: _Optional[int] = ..., to_us: _Optional[int] = ..., as_of_us: _Optional[int] = ..., as_happened: _Optional[bool] = ...) -> None: ...

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
    __slots__ = ("digest", "rows", "columns", "from_us", "to_us", "as_of_us", "definition_version")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    FROM_US_FIELD_NUMBER: _ClassVar[int]
    TO_US_FIELD_NUMBER: _ClassVar[int]
    AS_OF_US_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_VERSION_FIELD_NUMBER: _ClassVar[int]
    digest: str
    rows: int
    columns: _containers.RepeatedScalarFieldContainer[str]
    from_us: int
    to_us: int
    as_of_us: int
    definition_version: int
    def __init__(self, digest: _Optional[str] = ..., rows: _Optional[int] = ..., columns: _Optional[_Iterable[str]] = ..., from_us: _Optional[int] = ..., to_us: _Optional[int] = ..., as_of_us: _Optional[int] = ..., definition_version: _Optional[int] = ...) -> None: ...

class ReadSnapshotRequest(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: str
    def __init__(self, digest: _Optional[str] = ...) -> None: ...

class GetHistoricalRequest(_message.Message):
    __slots__ = ("project", "keys", "features", "as_happened")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    AS_HAPPENED_FIELD_NUMBER: _ClassVar[int]
    project: str
    keys: _containers.RepeatedCompositeFieldContainer[_common_pb2.ExampleKey]
    features: _containers.RepeatedScalarFieldContainer[str]
    as_happened: bool
    def __init__(self, project: _Optional[str] = ..., keys: _Optional[_Iterable[_Union[_common_pb2.ExampleKey, _Mapping]]] = ..., features: _Optional[_Iterable[str]] = ..., as_happened: _Optional[bool] = ...) -> None: ...

class GetHistoricalReply(_message.Message):
    __slots__ = ("features", "columns")
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    features: _containers.RepeatedScalarFieldContainer[str]
    columns: FeatureColumns
    def __init__(self, features: _Optional[_Iterable[str]] = ..., columns: _Optional[_Union[FeatureColumns, _Mapping]] = ...) -> None: ...

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
