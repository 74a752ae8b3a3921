from millrace.wire.common.v1 import common_pb2 as _common_pb2
from millrace.wire.labeling.v1 import events_pb2 as _events_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ArrowChunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class SpineRequest(_message.Message):
    __slots__ = ("project", "from_us", "to_us", "as_of_us", "include_censored")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    FROM_US_FIELD_NUMBER: _ClassVar[int]
    TO_US_FIELD_NUMBER: _ClassVar[int]
    AS_OF_US_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_CENSORED_FIELD_NUMBER: _ClassVar[int]
    project: str
    from_us: int
    to_us: int
    as_of_us: int
    include_censored: bool
    def __init__(self, project: _Optional[str] = ..., from_us: _Optional[int] = ..., to_us: _Optional[int] = ..., as_of_us: _Optional[int] = ..., include_censored: _Optional[bool] = ...) -> None: ...

class StatsRequest(_message.Message):
    __slots__ = ("project",)
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    project: str
    def __init__(self, project: _Optional[str] = ...) -> None: ...

class LabelStats(_message.Message):
    __slots__ = ("pending", "matured", "censored", "corrected", "open_tasks")
    PENDING_FIELD_NUMBER: _ClassVar[int]
    MATURED_FIELD_NUMBER: _ClassVar[int]
    CENSORED_FIELD_NUMBER: _ClassVar[int]
    CORRECTED_FIELD_NUMBER: _ClassVar[int]
    OPEN_TASKS_FIELD_NUMBER: _ClassVar[int]
    pending: int
    matured: int
    censored: int
    corrected: int
    open_tasks: int
    def __init__(self, pending: _Optional[int] = ..., matured: _Optional[int] = ..., censored: _Optional[int] = ..., corrected: _Optional[int] = ..., open_tasks: _Optional[int] = ...) -> None: ...

class CreateTasksRequest(_message.Message):
    __slots__ = ("project", "tasks")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    project: str
    tasks: _containers.RepeatedCompositeFieldContainer[TaskDraft]
    def __init__(self, project: _Optional[str] = ..., tasks: _Optional[_Iterable[_Union[TaskDraft, _Mapping]]] = ...) -> None: ...

class TaskDraft(_message.Message):
    __slots__ = ("key", "payload", "priority")
    KEY_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    key: _common_pb2.ExampleKey
    payload: _common_pb2.Row
    priority: float
    def __init__(self, key: _Optional[_Union[_common_pb2.ExampleKey, _Mapping]] = ..., payload: _Optional[_Union[_common_pb2.Row, _Mapping]] = ..., priority: _Optional[float] = ...) -> None: ...

class CreateTasksReply(_message.Message):
    __slots__ = ("task_ids", "existing")
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    EXISTING_FIELD_NUMBER: _ClassVar[int]
    task_ids: _containers.RepeatedScalarFieldContainer[str]
    existing: int
    def __init__(self, task_ids: _Optional[_Iterable[str]] = ..., existing: _Optional[int] = ...) -> None: ...

class NextTaskRequest(_message.Message):
    __slots__ = ("project", "annotator")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    ANNOTATOR_FIELD_NUMBER: _ClassVar[int]
    project: str
    annotator: str
    def __init__(self, project: _Optional[str] = ..., annotator: _Optional[str] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("task_id", "key", "payload", "state", "lease_id", "lease_expires_us")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_EXPIRES_US_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    key: _common_pb2.ExampleKey
    payload: _common_pb2.Row
    state: str
    lease_id: str
    lease_expires_us: int
    def __init__(self, task_id: _Optional[str] = ..., key: _Optional[_Union[_common_pb2.ExampleKey, _Mapping]] = ..., payload: _Optional[_Union[_common_pb2.Row, _Mapping]] = ..., state: _Optional[str] = ..., lease_id: _Optional[str] = ..., lease_expires_us: _Optional[int] = ...) -> None: ...

class SubmitAnnotationRequest(_message.Message):
    __slots__ = ("task_id", "lease_id", "annotator", "value", "comment")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    ANNOTATOR_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    lease_id: str
    annotator: str
    value: float
    comment: str
    def __init__(self, task_id: _Optional[str] = ..., lease_id: _Optional[str] = ..., annotator: _Optional[str] = ..., value: _Optional[float] = ..., comment: _Optional[str] = ...) -> None: ...

class SkipTaskRequest(_message.Message):
    __slots__ = ("task_id", "lease_id", "annotator", "reason")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    ANNOTATOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    lease_id: str
    annotator: str
    reason: str
    def __init__(self, task_id: _Optional[str] = ..., lease_id: _Optional[str] = ..., annotator: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...
