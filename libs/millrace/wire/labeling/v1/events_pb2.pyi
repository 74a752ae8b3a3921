from millrace.wire.common.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Label(_message.Message):
    __slots__ = ("key", "outcome", "value", "origin", "confidence", "event_us", "visible_us", "matured_us", "revision")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[Label.Outcome]
        OBSERVED: _ClassVar[Label.Outcome]
        CENSORED: _ClassVar[Label.Outcome]
    OUTCOME_UNSPECIFIED: Label.Outcome
    OBSERVED: Label.Outcome
    CENSORED: Label.Outcome
    class Origin(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ORIGIN_UNSPECIFIED: _ClassVar[Label.Origin]
        LATE_TRUTH: _ClassVar[Label.Origin]
        PERSON: _ClassVar[Label.Origin]
        WEAK_RULE: _ClassVar[Label.Origin]
        DECLARED_DEFAULT: _ClassVar[Label.Origin]
    ORIGIN_UNSPECIFIED: Label.Origin
    LATE_TRUTH: Label.Origin
    PERSON: Label.Origin
    WEAK_RULE: Label.Origin
    DECLARED_DEFAULT: Label.Origin
    KEY_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    EVENT_US_FIELD_NUMBER: _ClassVar[int]
    VISIBLE_US_FIELD_NUMBER: _ClassVar[int]
    MATURED_US_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    key: _common_pb2.ExampleKey
    outcome: Label.Outcome
    value: float
    origin: Label.Origin
    confidence: float
    event_us: int
    visible_us: int
    matured_us: int
    revision: int
    def __init__(self, key: _Optional[_Union[_common_pb2.ExampleKey, _Mapping]] = ..., outcome: _Optional[_Union[Label.Outcome, str]] = ..., value: _Optional[float] = ..., origin: _Optional[_Union[Label.Origin, str]] = ..., confidence: _Optional[float] = ..., event_us: _Optional[int] = ..., visible_us: _Optional[int] = ..., matured_us: _Optional[int] = ..., revision: _Optional[int] = ...) -> None: ...

class LabelHeartbeat(_message.Message):
    __slots__ = ("project", "visible_us")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    VISIBLE_US_FIELD_NUMBER: _ClassVar[int]
    project: str
    visible_us: int
    def __init__(self, project: _Optional[str] = ..., visible_us: _Optional[int] = ...) -> None: ...

class TaskChanged(_message.Message):
    __slots__ = ("task_id", "project", "state", "annotator", "key")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ANNOTATOR_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    project: str
    state: str
    annotator: str
    key: _common_pb2.ExampleKey
    def __init__(self, task_id: _Optional[str] = ..., project: _Optional[str] = ..., state: _Optional[str] = ..., annotator: _Optional[str] = ..., key: _Optional[_Union[_common_pb2.ExampleKey, _Mapping]] = ...) -> None: ...
