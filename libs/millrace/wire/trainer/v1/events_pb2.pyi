from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TrainingRequest(_message.Message):
    __slots__ = ("project", "trigger", "reason", "asked_us", "run_id", "actor", "accept_data")
    class Trigger(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        TRIGGER_UNSPECIFIED: _ClassVar[TrainingRequest.Trigger]
        NEW_LABELS: _ClassVar[TrainingRequest.Trigger]
        DRIFT: _ClassVar[TrainingRequest.Trigger]
        SCHEDULE: _ClassVar[TrainingRequest.Trigger]
        MANUAL: _ClassVar[TrainingRequest.Trigger]
        STALE_GATE: _ClassVar[TrainingRequest.Trigger]
        ROLLBACK: _ClassVar[TrainingRequest.Trigger]
    TRIGGER_UNSPECIFIED: TrainingRequest.Trigger
    NEW_LABELS: TrainingRequest.Trigger
    DRIFT: TrainingRequest.Trigger
    SCHEDULE: TrainingRequest.Trigger
    MANUAL: TrainingRequest.Trigger
    STALE_GATE: TrainingRequest.Trigger
    ROLLBACK: TrainingRequest.Trigger
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ASKED_US_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_DATA_FIELD_NUMBER: _ClassVar[int]
    project: str
    trigger: TrainingRequest.Trigger
    reason: str
    asked_us: int
    run_id: str
    actor: str
    accept_data: bool
    def __init__(self, project: _Optional[str] = ..., trigger: _Optional[_Union[TrainingRequest.Trigger, str]] = ..., reason: _Optional[str] = ..., asked_us: _Optional[int] = ..., run_id: _Optional[str] = ..., actor: _Optional[str] = ..., accept_data: _Optional[bool] = ...) -> None: ...

class TrainingSwitch(_message.Message):
    __slots__ = ("project", "off", "reason", "actor", "switched_us")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    OFF_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    SWITCHED_US_FIELD_NUMBER: _ClassVar[int]
    project: str
    off: bool
    reason: str
    actor: str
    switched_us: int
    def __init__(self, project: _Optional[str] = ..., off: _Optional[bool] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ..., switched_us: _Optional[int] = ...) -> None: ...

class RunEvent(_message.Message):
    __slots__ = ("project", "run_id", "state", "reason", "request_ids", "clock_us", "candidate", "requests")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[RunEvent.State]
        QUEUED: _ClassVar[RunEvent.State]
        RUNNING: _ClassVar[RunEvent.State]
        FAILED: _ClassVar[RunEvent.State]
        PASSED: _ClassVar[RunEvent.State]
        REFUSED: _ClassVar[RunEvent.State]
        DECLINED: _ClassVar[RunEvent.State]
    STATE_UNSPECIFIED: RunEvent.State
    QUEUED: RunEvent.State
    RUNNING: RunEvent.State
    FAILED: RunEvent.State
    PASSED: RunEvent.State
    REFUSED: RunEvent.State
    DECLINED: RunEvent.State
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REQUEST_IDS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_US_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    project: str
    run_id: str
    state: RunEvent.State
    reason: str
    request_ids: _containers.RepeatedScalarFieldContainer[str]
    clock_us: int
    candidate: Candidate
    requests: int
    def __init__(self, project: _Optional[str] = ..., run_id: _Optional[str] = ..., state: _Optional[_Union[RunEvent.State, str]] = ..., reason: _Optional[str] = ..., request_ids: _Optional[_Iterable[str]] = ..., clock_us: _Optional[int] = ..., candidate: _Optional[_Union[Candidate, _Mapping]] = ..., requests: _Optional[int] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("model_digest", "gate_report_digest", "snapshot_digest", "definition_version", "champion_version", "code_version", "seed", "metrics", "template", "bundle_digest")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    GATE_REPORT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_VERSION_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_VERSION_FIELD_NUMBER: _ClassVar[int]
    CODE_VERSION_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    model_digest: str
    gate_report_digest: str
    snapshot_digest: str
    definition_version: int
    champion_version: int
    code_version: str
    seed: int
    metrics: _containers.ScalarMap[str, float]
    template: str
    bundle_digest: str
    def __init__(self, model_digest: _Optional[str] = ..., gate_report_digest: _Optional[str] = ..., snapshot_digest: _Optional[str] = ..., definition_version: _Optional[int] = ..., champion_version: _Optional[int] = ..., code_version: _Optional[str] = ..., seed: _Optional[int] = ..., metrics: _Optional[_Mapping[str, float]] = ..., template: _Optional[str] = ..., bundle_digest: _Optional[str] = ...) -> None: ...
