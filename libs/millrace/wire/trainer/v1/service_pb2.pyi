from millrace.wire.trainer.v1 import events_pb2 as _events_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RerunRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class RerunProgress(_message.Message):
    __slots__ = ("step", "share", "reply")
    STEP_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    step: str
    share: float
    reply: RerunReply
    def __init__(self, step: _Optional[str] = ..., share: _Optional[float] = ..., reply: _Optional[_Union[RerunReply, _Mapping]] = ...) -> None: ...

class RerunReply(_message.Message):
    __slots__ = ("same", "lines", "note")
    SAME_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    same: bool
    lines: _containers.RepeatedCompositeFieldContainer[RerunLine]
    note: str
    def __init__(self, same: _Optional[bool] = ..., lines: _Optional[_Iterable[_Union[RerunLine, _Mapping]]] = ..., note: _Optional[str] = ...) -> None: ...

class RerunLine(_message.Message):
    __slots__ = ("what", "before", "now", "same", "decides")
    WHAT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    SAME_FIELD_NUMBER: _ClassVar[int]
    DECIDES_FIELD_NUMBER: _ClassVar[int]
    what: str
    before: str
    now: str
    same: bool
    decides: bool
    def __init__(self, what: _Optional[str] = ..., before: _Optional[str] = ..., now: _Optional[str] = ..., same: _Optional[bool] = ..., decides: _Optional[bool] = ...) -> None: ...

class ListSwitchesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSwitchesReply(_message.Message):
    __slots__ = ("switches",)
    SWITCHES_FIELD_NUMBER: _ClassVar[int]
    switches: _containers.RepeatedCompositeFieldContainer[_events_pb2.TrainingSwitch]
    def __init__(self, switches: _Optional[_Iterable[_Union[_events_pb2.TrainingSwitch, _Mapping]]] = ...) -> None: ...

class ListWaitingRequest(_message.Message):
    __slots__ = ("project",)
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    project: str
    def __init__(self, project: _Optional[str] = ...) -> None: ...

class ListWaitingReply(_message.Message):
    __slots__ = ("waiting", "total")
    WAITING_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    waiting: _containers.RepeatedCompositeFieldContainer[WaitingRequest]
    total: int
    def __init__(self, waiting: _Optional[_Iterable[_Union[WaitingRequest, _Mapping]]] = ..., total: _Optional[int] = ...) -> None: ...

class WaitingRequest(_message.Message):
    __slots__ = ("request_id", "project", "trigger", "asked_us", "reason", "actor", "waits_for")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    ASKED_US_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    WAITS_FOR_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    project: str
    trigger: str
    asked_us: int
    reason: str
    actor: str
    waits_for: str
    def __init__(self, request_id: _Optional[str] = ..., project: _Optional[str] = ..., trigger: _Optional[str] = ..., asked_us: _Optional[int] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ..., waits_for: _Optional[str] = ...) -> None: ...

class RequestRunReply(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class ListRunsRequest(_message.Message):
    __slots__ = ("project", "unfinished_only", "limit")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    UNFINISHED_ONLY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    project: str
    unfinished_only: bool
    limit: int
    def __init__(self, project: _Optional[str] = ..., unfinished_only: _Optional[bool] = ..., limit: _Optional[int] = ...) -> None: ...

class ListRunsReply(_message.Message):
    __slots__ = ("runs",)
    RUNS_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[Run]
    def __init__(self, runs: _Optional[_Iterable[_Union[Run, _Mapping]]] = ...) -> None: ...

class GetRunRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class Run(_message.Message):
    __slots__ = ("run_id", "project", "state", "reason", "asked_us", "started_us", "finished_us", "candidate", "request_ids", "triggers", "progress", "gate_report_json", "curve", "requests", "snapshot_digest", "definition_version", "forgotten")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ASKED_US_FIELD_NUMBER: _ClassVar[int]
    STARTED_US_FIELD_NUMBER: _ClassVar[int]
    FINISHED_US_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_IDS_FIELD_NUMBER: _ClassVar[int]
    TRIGGERS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    GATE_REPORT_JSON_FIELD_NUMBER: _ClassVar[int]
    CURVE_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_VERSION_FIELD_NUMBER: _ClassVar[int]
    FORGOTTEN_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    project: str
    state: _events_pb2.RunEvent.State
    reason: str
    asked_us: int
    started_us: int
    finished_us: int
    candidate: _events_pb2.Candidate
    request_ids: _containers.RepeatedScalarFieldContainer[str]
    triggers: _containers.RepeatedScalarFieldContainer[str]
    progress: float
    gate_report_json: str
    curve: _containers.RepeatedCompositeFieldContainer[EpochMetric]
    requests: int
    snapshot_digest: str
    definition_version: int
    forgotten: str
    def __init__(self, run_id: _Optional[str] = ..., project: _Optional[str] = ..., state: _Optional[_Union[_events_pb2.RunEvent.State, str]] = ..., reason: _Optional[str] = ..., asked_us: _Optional[int] = ..., started_us: _Optional[int] = ..., finished_us: _Optional[int] = ..., candidate: _Optional[_Union[_events_pb2.Candidate, _Mapping]] = ..., request_ids: _Optional[_Iterable[str]] = ..., triggers: _Optional[_Iterable[str]] = ..., progress: _Optional[float] = ..., gate_report_json: _Optional[str] = ..., curve: _Optional[_Iterable[_Union[EpochMetric, _Mapping]]] = ..., requests: _Optional[int] = ..., snapshot_digest: _Optional[str] = ..., definition_version: _Optional[int] = ..., forgotten: _Optional[str] = ...) -> None: ...

class EpochMetric(_message.Message):
    __slots__ = ("epoch", "train_loss", "validation_loss")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TRAIN_LOSS_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_LOSS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    train_loss: float
    validation_loss: float
    def __init__(self, epoch: _Optional[int] = ..., train_loss: _Optional[float] = ..., validation_loss: _Optional[float] = ...) -> None: ...
