from millrace.wire.common.v1 import common_pb2 as _common_pb2
from millrace.wire.ingestion.v1 import events_pb2 as _events_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DataEvent(_message.Message):
    __slots__ = ("id", "json", "available_us", "schema_version")
    ID_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_US_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    id: str
    json: bytes
    available_us: int
    schema_version: int
    def __init__(self, id: _Optional[str] = ..., json: _Optional[bytes] = ..., available_us: _Optional[int] = ..., schema_version: _Optional[int] = ...) -> None: ...

class PublishRequest(_message.Message):
    __slots__ = ("project", "source", "events", "schema_version")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    project: str
    source: str
    events: _containers.RepeatedCompositeFieldContainer[DataEvent]
    schema_version: int
    def __init__(self, project: _Optional[str] = ..., source: _Optional[str] = ..., events: _Optional[_Iterable[_Union[DataEvent, _Mapping]]] = ..., schema_version: _Optional[int] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("id", "outcome", "field", "reason")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[Verdict.Outcome]
        ACCEPTED: _ClassVar[Verdict.Outcome]
        DUPLICATE: _ClassVar[Verdict.Outcome]
        QUARANTINED: _ClassVar[Verdict.Outcome]
    OUTCOME_UNSPECIFIED: Verdict.Outcome
    ACCEPTED: Verdict.Outcome
    DUPLICATE: Verdict.Outcome
    QUARANTINED: Verdict.Outcome
    ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    id: str
    outcome: Verdict.Outcome
    field: str
    reason: str
    def __init__(self, id: _Optional[str] = ..., outcome: _Optional[_Union[Verdict.Outcome, str]] = ..., field: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class PublishReply(_message.Message):
    __slots__ = ("accepted", "duplicates", "quarantined", "verdicts")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    accepted: int
    duplicates: int
    quarantined: int
    verdicts: _containers.RepeatedCompositeFieldContainer[Verdict]
    def __init__(self, accepted: _Optional[int] = ..., duplicates: _Optional[int] = ..., quarantined: _Optional[int] = ..., verdicts: _Optional[_Iterable[_Union[Verdict, _Mapping]]] = ...) -> None: ...

class AcquireClockRequest(_message.Message):
    __slots__ = ("project", "holder", "ttl_ms")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    project: str
    holder: str
    ttl_ms: int
    def __init__(self, project: _Optional[str] = ..., holder: _Optional[str] = ..., ttl_ms: _Optional[int] = ...) -> None: ...

class ClockLease(_message.Message):
    __slots__ = ("lease_id", "now_us", "published")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    NOW_US_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    now_us: int
    published: _containers.RepeatedCompositeFieldContainer[PublishReply]
    def __init__(self, lease_id: _Optional[str] = ..., now_us: _Optional[int] = ..., published: _Optional[_Iterable[_Union[PublishReply, _Mapping]]] = ...) -> None: ...

class AdvanceClockRequest(_message.Message):
    __slots__ = ("project", "lease_id", "now_us", "arrivals")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    NOW_US_FIELD_NUMBER: _ClassVar[int]
    ARRIVALS_FIELD_NUMBER: _ClassVar[int]
    project: str
    lease_id: str
    now_us: int
    arrivals: _containers.RepeatedCompositeFieldContainer[Arrivals]
    def __init__(self, project: _Optional[str] = ..., lease_id: _Optional[str] = ..., now_us: _Optional[int] = ..., arrivals: _Optional[_Iterable[_Union[Arrivals, _Mapping]]] = ...) -> None: ...

class Arrivals(_message.Message):
    __slots__ = ("source", "events")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    source: str
    events: _containers.RepeatedCompositeFieldContainer[DataEvent]
    def __init__(self, source: _Optional[str] = ..., events: _Optional[_Iterable[_Union[DataEvent, _Mapping]]] = ...) -> None: ...

class ReleaseClockRequest(_message.Message):
    __slots__ = ("project", "lease_id")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    project: str
    lease_id: str
    def __init__(self, project: _Optional[str] = ..., lease_id: _Optional[str] = ...) -> None: ...

class ProfileRequest(_message.Message):
    __slots__ = ("project", "source", "day_us", "days")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DAY_US_FIELD_NUMBER: _ClassVar[int]
    DAYS_FIELD_NUMBER: _ClassVar[int]
    project: str
    source: str
    day_us: int
    days: int
    def __init__(self, project: _Optional[str] = ..., source: _Optional[str] = ..., day_us: _Optional[int] = ..., days: _Optional[int] = ...) -> None: ...

class ProfileReply(_message.Message):
    __slots__ = ("project", "source", "day", "days", "fields", "window_us", "freshness_us", "newest_us", "definition_version", "findings")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DAY_FIELD_NUMBER: _ClassVar[int]
    DAYS_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_US_FIELD_NUMBER: _ClassVar[int]
    FRESHNESS_US_FIELD_NUMBER: _ClassVar[int]
    NEWEST_US_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_VERSION_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    project: str
    source: str
    day: DayProfile
    days: _containers.RepeatedCompositeFieldContainer[DaySummary]
    fields: _containers.RepeatedCompositeFieldContainer[FieldDoc]
    window_us: int
    freshness_us: int
    newest_us: int
    definition_version: int
    findings: _containers.RepeatedCompositeFieldContainer[_events_pb2.Finding]
    def __init__(self, project: _Optional[str] = ..., source: _Optional[str] = ..., day: _Optional[_Union[DayProfile, _Mapping]] = ..., days: _Optional[_Iterable[_Union[DaySummary, _Mapping]]] = ..., fields: _Optional[_Iterable[_Union[FieldDoc, _Mapping]]] = ..., window_us: _Optional[int] = ..., freshness_us: _Optional[int] = ..., newest_us: _Optional[int] = ..., definition_version: _Optional[int] = ..., findings: _Optional[_Iterable[_Union[_events_pb2.Finding, _Mapping]]] = ...) -> None: ...

class FieldDoc(_message.Message):
    __slots__ = ("field", "type", "pii", "expectations")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PII_FIELD_NUMBER: _ClassVar[int]
    EXPECTATIONS_FIELD_NUMBER: _ClassVar[int]
    field: str
    type: str
    pii: str
    expectations: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, field: _Optional[str] = ..., type: _Optional[str] = ..., pii: _Optional[str] = ..., expectations: _Optional[_Iterable[str]] = ...) -> None: ...

class DaySummary(_message.Message):
    __slots__ = ("start_us", "events", "quarantined", "null_share", "broken")
    START_US_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    NULL_SHARE_FIELD_NUMBER: _ClassVar[int]
    BROKEN_FIELD_NUMBER: _ClassVar[int]
    start_us: int
    events: int
    quarantined: int
    null_share: float
    broken: int
    def __init__(self, start_us: _Optional[int] = ..., events: _Optional[int] = ..., quarantined: _Optional[int] = ..., null_share: _Optional[float] = ..., broken: _Optional[int] = ...) -> None: ...

class DayProfile(_message.Message):
    __slots__ = ("summary", "violations", "fields", "windows", "findings")
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    summary: DaySummary
    violations: _containers.RepeatedCompositeFieldContainer[_events_pb2.FieldViolation]
    fields: _containers.RepeatedCompositeFieldContainer[FieldPortrait]
    windows: _containers.RepeatedCompositeFieldContainer[WindowLine]
    findings: _containers.RepeatedCompositeFieldContainer[BrokenRule]
    def __init__(self, summary: _Optional[_Union[DaySummary, _Mapping]] = ..., violations: _Optional[_Iterable[_Union[_events_pb2.FieldViolation, _Mapping]]] = ..., fields: _Optional[_Iterable[_Union[FieldPortrait, _Mapping]]] = ..., windows: _Optional[_Iterable[_Union[WindowLine, _Mapping]]] = ..., findings: _Optional[_Iterable[_Union[BrokenRule, _Mapping]]] = ...) -> None: ...

class FieldPortrait(_message.Message):
    __slots__ = ("field", "events", "nulls", "distinct", "mean", "std", "min", "max", "quantiles", "common")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    NULLS_FIELD_NUMBER: _ClassVar[int]
    DISTINCT_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    QUANTILES_FIELD_NUMBER: _ClassVar[int]
    COMMON_FIELD_NUMBER: _ClassVar[int]
    field: str
    events: int
    nulls: int
    distinct: int
    mean: float
    std: float
    min: float
    max: float
    quantiles: _containers.RepeatedScalarFieldContainer[float]
    common: _containers.RepeatedCompositeFieldContainer[Frequency]
    def __init__(self, field: _Optional[str] = ..., events: _Optional[int] = ..., nulls: _Optional[int] = ..., distinct: _Optional[int] = ..., mean: _Optional[float] = ..., std: _Optional[float] = ..., min: _Optional[float] = ..., max: _Optional[float] = ..., quantiles: _Optional[_Iterable[float]] = ..., common: _Optional[_Iterable[_Union[Frequency, _Mapping]]] = ...) -> None: ...

class Frequency(_message.Message):
    __slots__ = ("text", "events")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    text: str
    events: int
    def __init__(self, text: _Optional[str] = ..., events: _Optional[int] = ...) -> None: ...

class WindowLine(_message.Message):
    __slots__ = ("start_us", "end_us", "events", "quarantined", "null_share", "broken")
    START_US_FIELD_NUMBER: _ClassVar[int]
    END_US_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    NULL_SHARE_FIELD_NUMBER: _ClassVar[int]
    BROKEN_FIELD_NUMBER: _ClassVar[int]
    start_us: int
    end_us: int
    events: int
    quarantined: int
    null_share: float
    broken: int
    def __init__(self, start_us: _Optional[int] = ..., end_us: _Optional[int] = ..., events: _Optional[int] = ..., quarantined: _Optional[int] = ..., null_share: _Optional[float] = ..., broken: _Optional[int] = ...) -> None: ...

class BrokenRule(_message.Message):
    __slots__ = ("window_end_us", "finding")
    WINDOW_END_US_FIELD_NUMBER: _ClassVar[int]
    FINDING_FIELD_NUMBER: _ClassVar[int]
    window_end_us: int
    finding: _events_pb2.Finding
    def __init__(self, window_end_us: _Optional[int] = ..., finding: _Optional[_Union[_events_pb2.Finding, _Mapping]] = ...) -> None: ...
