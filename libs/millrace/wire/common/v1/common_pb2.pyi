from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Value(_message.Message):
    __slots__ = ("number", "integer", "text", "flag", "timestamp_us")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_US_FIELD_NUMBER: _ClassVar[int]
    number: float
    integer: int
    text: str
    flag: bool
    timestamp_us: int
    def __init__(self, number: _Optional[float] = ..., integer: _Optional[int] = ..., text: _Optional[str] = ..., flag: _Optional[bool] = ..., timestamp_us: _Optional[int] = ...) -> None: ...

class Row(_message.Message):
    __slots__ = ("columns",)
    class ColumnsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    columns: _containers.MessageMap[str, Value]
    def __init__(self, columns: _Optional[_Mapping[str, Value]] = ...) -> None: ...

class ExampleKey(_message.Message):
    __slots__ = ("project", "entity", "moment_us")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    MOMENT_US_FIELD_NUMBER: _ClassVar[int]
    project: str
    entity: str
    moment_us: int
    def __init__(self, project: _Optional[str] = ..., entity: _Optional[str] = ..., moment_us: _Optional[int] = ...) -> None: ...

class Empty(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ("exact", "hurry")
    EXACT_FIELD_NUMBER: _ClassVar[int]
    HURRY_FIELD_NUMBER: _ClassVar[int]
    exact: bool
    hurry: bool
    def __init__(self, exact: _Optional[bool] = ..., hurry: _Optional[bool] = ...) -> None: ...

class RoomStatus(_message.Message):
    __slots__ = ("room", "version", "pid", "ready", "reasons", "definitions", "watermarks_us", "lag_records", "unpublished_records", "busy_jobs", "handled_records", "grpc_address", "http_address", "dead_letters", "deferred_records", "oldest_s", "retries", "delayed_records")
    class DefinitionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class WatermarksUsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ROOM_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    DEFINITIONS_FIELD_NUMBER: _ClassVar[int]
    WATERMARKS_US_FIELD_NUMBER: _ClassVar[int]
    LAG_RECORDS_FIELD_NUMBER: _ClassVar[int]
    UNPUBLISHED_RECORDS_FIELD_NUMBER: _ClassVar[int]
    BUSY_JOBS_FIELD_NUMBER: _ClassVar[int]
    HANDLED_RECORDS_FIELD_NUMBER: _ClassVar[int]
    GRPC_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    HTTP_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTERS_FIELD_NUMBER: _ClassVar[int]
    DEFERRED_RECORDS_FIELD_NUMBER: _ClassVar[int]
    OLDEST_S_FIELD_NUMBER: _ClassVar[int]
    RETRIES_FIELD_NUMBER: _ClassVar[int]
    DELAYED_RECORDS_FIELD_NUMBER: _ClassVar[int]
    room: str
    version: str
    pid: int
    ready: bool
    reasons: _containers.RepeatedScalarFieldContainer[str]
    definitions: _containers.ScalarMap[str, int]
    watermarks_us: _containers.ScalarMap[str, int]
    lag_records: int
    unpublished_records: int
    busy_jobs: int
    handled_records: int
    grpc_address: str
    http_address: str
    dead_letters: int
    deferred_records: int
    oldest_s: float
    retries: int
    delayed_records: int
    def __init__(self, room: _Optional[str] = ..., version: _Optional[str] = ..., pid: _Optional[int] = ..., ready: _Optional[bool] = ..., reasons: _Optional[_Iterable[str]] = ..., definitions: _Optional[_Mapping[str, int]] = ..., watermarks_us: _Optional[_Mapping[str, int]] = ..., lag_records: _Optional[int] = ..., unpublished_records: _Optional[int] = ..., busy_jobs: _Optional[int] = ..., handled_records: _Optional[int] = ..., grpc_address: _Optional[str] = ..., http_address: _Optional[str] = ..., dead_letters: _Optional[int] = ..., deferred_records: _Optional[int] = ..., oldest_s: _Optional[float] = ..., retries: _Optional[int] = ..., delayed_records: _Optional[int] = ...) -> None: ...

class ClockTick(_message.Message):
    __slots__ = ("project", "now_us", "lease_id")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    NOW_US_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    project: str
    now_us: int
    lease_id: str
    def __init__(self, project: _Optional[str] = ..., now_us: _Optional[int] = ..., lease_id: _Optional[str] = ...) -> None: ...

class DeadLetter(_message.Message):
    __slots__ = ("room", "topic", "partition", "offset", "error", "reason", "attempts", "first_failed_us", "key", "payload", "headers", "payload_bytes", "last_failed_us", "handler_version", "group")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ROOM_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    FIRST_FAILED_US_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    LAST_FAILED_US_FIELD_NUMBER: _ClassVar[int]
    HANDLER_VERSION_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    room: str
    topic: str
    partition: int
    offset: int
    error: str
    reason: str
    attempts: int
    first_failed_us: int
    key: bytes
    payload: bytes
    headers: _containers.ScalarMap[str, str]
    payload_bytes: int
    last_failed_us: int
    handler_version: str
    group: str
    def __init__(self, room: _Optional[str] = ..., topic: _Optional[str] = ..., partition: _Optional[int] = ..., offset: _Optional[int] = ..., error: _Optional[str] = ..., reason: _Optional[str] = ..., attempts: _Optional[int] = ..., first_failed_us: _Optional[int] = ..., key: _Optional[bytes] = ..., payload: _Optional[bytes] = ..., headers: _Optional[_Mapping[str, str]] = ..., payload_bytes: _Optional[int] = ..., last_failed_us: _Optional[int] = ..., handler_version: _Optional[str] = ..., group: _Optional[str] = ...) -> None: ...
