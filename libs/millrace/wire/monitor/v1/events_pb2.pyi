from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class AlertEvent(_message.Message):
    __slots__ = ("alert_id", "project", "rule", "subject", "state", "severity", "reason", "statistic", "threshold", "observations", "clock_us", "action", "evidence_ids", "evidence_query", "incident_id")
    ALERT_ID_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STATISTIC_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    OBSERVATIONS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_US_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_IDS_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_QUERY_FIELD_NUMBER: _ClassVar[int]
    INCIDENT_ID_FIELD_NUMBER: _ClassVar[int]
    alert_id: str
    project: str
    rule: str
    subject: str
    state: str
    severity: str
    reason: str
    statistic: float
    threshold: float
    observations: int
    clock_us: int
    action: str
    evidence_ids: _containers.RepeatedScalarFieldContainer[str]
    evidence_query: str
    incident_id: str
    def __init__(self, alert_id: _Optional[str] = ..., project: _Optional[str] = ..., rule: _Optional[str] = ..., subject: _Optional[str] = ..., state: _Optional[str] = ..., severity: _Optional[str] = ..., reason: _Optional[str] = ..., statistic: _Optional[float] = ..., threshold: _Optional[float] = ..., observations: _Optional[int] = ..., clock_us: _Optional[int] = ..., action: _Optional[str] = ..., evidence_ids: _Optional[_Iterable[str]] = ..., evidence_query: _Optional[str] = ..., incident_id: _Optional[str] = ...) -> None: ...
