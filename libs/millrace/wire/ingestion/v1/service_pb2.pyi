from millrace.wire.common.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DataEvent(_message.Message):
    __slots__ = ("id", "json", "available_us")
    ID_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_US_FIELD_NUMBER: _ClassVar[int]
    id: str
    json: bytes
    available_us: int
    def __init__(self, id: _Optional[str] = ..., json: _Optional[bytes] = ..., available_us: _Optional[int] = ...) -> None: ...

class PublishRequest(_message.Message):
    __slots__ = ("project", "source", "events")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    project: str
    source: str
    events: _containers.RepeatedCompositeFieldContainer[DataEvent]
    def __init__(self, project: _Optional[str] = ..., source: _Optional[str] = ..., events: _Optional[_Iterable[_Union[DataEvent, _Mapping]]] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("id", "outcome", "field", "reason", "index")
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
    INDEX_FIELD_NUMBER: _ClassVar[int]
    id: str
    outcome: Verdict.Outcome
    field: str
    reason: str
    index: int
    def __init__(self, id: _Optional[str] = ..., outcome: _Optional[_Union[Verdict.Outcome, str]] = ..., field: _Optional[str] = ..., reason: _Optional[str] = ..., index: _Optional[int] = ...) -> None: ...

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
