from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Quarantined(_message.Message):
    __slots__ = ("project", "source", "event_id", "field", "rule", "reason", "payload", "visible_us")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    VISIBLE_US_FIELD_NUMBER: _ClassVar[int]
    project: str
    source: str
    event_id: str
    field: str
    rule: str
    reason: str
    payload: bytes
    visible_us: int
    def __init__(self, project: _Optional[str] = ..., source: _Optional[str] = ..., event_id: _Optional[str] = ..., field: _Optional[str] = ..., rule: _Optional[str] = ..., reason: _Optional[str] = ..., payload: _Optional[bytes] = ..., visible_us: _Optional[int] = ...) -> None: ...

class ViolationWindow(_message.Message):
    __slots__ = ("project", "source", "window_start_us", "window_end_us", "events", "quarantined", "violations", "profiles", "findings")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    WINDOW_START_US_FIELD_NUMBER: _ClassVar[int]
    WINDOW_END_US_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    PROFILES_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    project: str
    source: str
    window_start_us: int
    window_end_us: int
    events: int
    quarantined: int
    violations: _containers.RepeatedCompositeFieldContainer[FieldViolation]
    profiles: _containers.RepeatedCompositeFieldContainer[FieldProfile]
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    def __init__(self, project: _Optional[str] = ..., source: _Optional[str] = ..., window_start_us: _Optional[int] = ..., window_end_us: _Optional[int] = ..., events: _Optional[int] = ..., quarantined: _Optional[int] = ..., violations: _Optional[_Iterable[_Union[FieldViolation, _Mapping]]] = ..., profiles: _Optional[_Iterable[_Union[FieldProfile, _Mapping]]] = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("field", "rule", "measured", "allowed", "events", "is_broken", "example", "note")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    MEASURED_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    IS_BROKEN_FIELD_NUMBER: _ClassVar[int]
    EXAMPLE_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    field: str
    rule: str
    measured: float
    allowed: float
    events: int
    is_broken: bool
    example: str
    note: str
    def __init__(self, field: _Optional[str] = ..., rule: _Optional[str] = ..., measured: _Optional[float] = ..., allowed: _Optional[float] = ..., events: _Optional[int] = ..., is_broken: _Optional[bool] = ..., example: _Optional[str] = ..., note: _Optional[str] = ...) -> None: ...

class FieldViolation(_message.Message):
    __slots__ = ("field", "rule", "events", "example")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    EXAMPLE_FIELD_NUMBER: _ClassVar[int]
    field: str
    rule: str
    events: int
    example: str
    def __init__(self, field: _Optional[str] = ..., rule: _Optional[str] = ..., events: _Optional[int] = ..., example: _Optional[str] = ...) -> None: ...

class FieldProfile(_message.Message):
    __slots__ = ("field", "events", "nulls", "mean", "std", "min", "max", "distinct")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    NULLS_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    DISTINCT_FIELD_NUMBER: _ClassVar[int]
    field: str
    events: int
    nulls: int
    mean: float
    std: float
    min: float
    max: float
    distinct: int
    def __init__(self, field: _Optional[str] = ..., events: _Optional[int] = ..., nulls: _Optional[int] = ..., mean: _Optional[float] = ..., std: _Optional[float] = ..., min: _Optional[float] = ..., max: _Optional[float] = ..., distinct: _Optional[int] = ...) -> None: ...
