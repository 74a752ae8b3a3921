from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WhyRequest(_message.Message):
    __slots__ = ("event_id",)
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    def __init__(self, event_id: _Optional[str] = ...) -> None: ...

class WhyReply(_message.Message):
    __slots__ = ("links", "complete")
    LINKS_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    links: _containers.RepeatedCompositeFieldContainer[ChainLink]
    complete: bool
    def __init__(self, links: _Optional[_Iterable[_Union[ChainLink, _Mapping]]] = ..., complete: _Optional[bool] = ...) -> None: ...

class ChainLink(_message.Message):
    __slots__ = ("event_id", "event_type", "topic", "source", "subject", "time_us", "summary", "causation_id", "actor")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    TIME_US_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    CAUSATION_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    event_type: str
    topic: str
    source: str
    subject: str
    time_us: int
    summary: str
    causation_id: str
    actor: str
    def __init__(self, event_id: _Optional[str] = ..., event_type: _Optional[str] = ..., topic: _Optional[str] = ..., source: _Optional[str] = ..., subject: _Optional[str] = ..., time_us: _Optional[int] = ..., summary: _Optional[str] = ..., causation_id: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class ListAlertsRequest(_message.Message):
    __slots__ = ("project", "open_only", "limit")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    OPEN_ONLY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    project: str
    open_only: bool
    limit: int
    def __init__(self, project: _Optional[str] = ..., open_only: _Optional[bool] = ..., limit: _Optional[int] = ...) -> None: ...

class ListAlertsReply(_message.Message):
    __slots__ = ("alerts",)
    ALERTS_FIELD_NUMBER: _ClassVar[int]
    alerts: _containers.RepeatedCompositeFieldContainer[Alert]
    def __init__(self, alerts: _Optional[_Iterable[_Union[Alert, _Mapping]]] = ...) -> None: ...

class Alert(_message.Message):
    __slots__ = ("alert_id", "project", "rule", "subject", "state", "severity", "reason", "statistic", "threshold", "since_us", "updated_us", "action", "event_id")
    ALERT_ID_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STATISTIC_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    SINCE_US_FIELD_NUMBER: _ClassVar[int]
    UPDATED_US_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    alert_id: str
    project: str
    rule: str
    subject: str
    state: str
    severity: str
    reason: str
    statistic: float
    threshold: float
    since_us: int
    updated_us: int
    action: str
    event_id: str
    def __init__(self, alert_id: _Optional[str] = ..., project: _Optional[str] = ..., rule: _Optional[str] = ..., subject: _Optional[str] = ..., state: _Optional[str] = ..., severity: _Optional[str] = ..., reason: _Optional[str] = ..., statistic: _Optional[float] = ..., threshold: _Optional[float] = ..., since_us: _Optional[int] = ..., updated_us: _Optional[int] = ..., action: _Optional[str] = ..., event_id: _Optional[str] = ...) -> None: ...

class PerformanceRequest(_message.Message):
    __slots__ = ("project", "window_us")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_US_FIELD_NUMBER: _ClassVar[int]
    project: str
    window_us: int
    def __init__(self, project: _Optional[str] = ..., window_us: _Optional[int] = ...) -> None: ...

class PerformanceReply(_message.Message):
    __slots__ = ("windows",)
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    windows: _containers.RepeatedCompositeFieldContainer[PerformanceWindow]
    def __init__(self, windows: _Optional[_Iterable[_Union[PerformanceWindow, _Mapping]]] = ...) -> None: ...

class PerformanceWindow(_message.Message):
    __slots__ = ("start_us", "version", "metric", "value", "low", "high", "predictions", "labelled", "answered")
    START_US_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    LABELLED_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    start_us: int
    version: int
    metric: str
    value: float
    low: float
    high: float
    predictions: int
    labelled: int
    answered: bool
    def __init__(self, start_us: _Optional[int] = ..., version: _Optional[int] = ..., metric: _Optional[str] = ..., value: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., predictions: _Optional[int] = ..., labelled: _Optional[int] = ..., answered: _Optional[bool] = ...) -> None: ...
