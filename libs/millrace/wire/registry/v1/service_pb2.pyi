from millrace.wire.common.v1 import common_pb2 as _common_pb2
from millrace.wire.registry.v1 import events_pb2 as _events_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ApplyRequest(_message.Message):
    __slots__ = ("yaml", "based_on_version", "plan_only", "actor", "file_name")
    YAML_FIELD_NUMBER: _ClassVar[int]
    BASED_ON_VERSION_FIELD_NUMBER: _ClassVar[int]
    PLAN_ONLY_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    FILE_NAME_FIELD_NUMBER: _ClassVar[int]
    yaml: str
    based_on_version: int
    plan_only: bool
    actor: str
    file_name: str
    def __init__(self, yaml: _Optional[str] = ..., based_on_version: _Optional[int] = ..., plan_only: _Optional[bool] = ..., actor: _Optional[str] = ..., file_name: _Optional[str] = ...) -> None: ...

class ApplyReply(_message.Message):
    __slots__ = ("project", "version", "changed", "changes")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    project: str
    version: int
    changed: bool
    changes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, project: _Optional[str] = ..., version: _Optional[int] = ..., changed: _Optional[bool] = ..., changes: _Optional[_Iterable[str]] = ...) -> None: ...

class GetDefinitionRequest(_message.Message):
    __slots__ = ("project", "version")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    project: str
    version: int
    def __init__(self, project: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class ListProjectsReply(_message.Message):
    __slots__ = ("projects",)
    PROJECTS_FIELD_NUMBER: _ClassVar[int]
    projects: _containers.RepeatedCompositeFieldContainer[_events_pb2.DefinitionPublished]
    def __init__(self, projects: _Optional[_Iterable[_Union[_events_pb2.DefinitionPublished, _Mapping]]] = ...) -> None: ...

class ArtifactChunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class Artifact(_message.Message):
    __slots__ = ("digest", "size_bytes")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    digest: str
    size_bytes: int
    def __init__(self, digest: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class RegisterVersionRequest(_message.Message):
    __slots__ = ("project", "model_digest", "bundle_digest", "reason", "actor", "force")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    project: str
    model_digest: str
    bundle_digest: str
    reason: str
    actor: str
    force: bool
    def __init__(self, project: _Optional[str] = ..., model_digest: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ..., force: _Optional[bool] = ...) -> None: ...

class ModelVersion(_message.Message):
    __slots__ = ("project", "model", "version", "state", "model_digest", "bundle_digest", "run_id", "snapshot_digest", "gate_report_digest", "definition_version", "actor", "reason", "created_us", "metrics", "aliases", "forgotten")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    GATE_REPORT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_VERSION_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CREATED_US_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    FORGOTTEN_FIELD_NUMBER: _ClassVar[int]
    project: str
    model: str
    version: int
    state: str
    model_digest: str
    bundle_digest: str
    run_id: str
    snapshot_digest: str
    gate_report_digest: str
    definition_version: int
    actor: str
    reason: str
    created_us: int
    metrics: _containers.ScalarMap[str, float]
    aliases: _containers.RepeatedScalarFieldContainer[str]
    forgotten: str
    def __init__(self, project: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., state: _Optional[str] = ..., model_digest: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., run_id: _Optional[str] = ..., snapshot_digest: _Optional[str] = ..., gate_report_digest: _Optional[str] = ..., definition_version: _Optional[int] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ..., created_us: _Optional[int] = ..., metrics: _Optional[_Mapping[str, float]] = ..., aliases: _Optional[_Iterable[str]] = ..., forgotten: _Optional[str] = ...) -> None: ...

class GetVersionRequest(_message.Message):
    __slots__ = ("project", "model", "version")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    project: str
    model: str
    version: int
    def __init__(self, project: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class ListVersionsRequest(_message.Message):
    __slots__ = ("project", "model", "before_version", "limit")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    BEFORE_VERSION_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    project: str
    model: str
    before_version: int
    limit: int
    def __init__(self, project: _Optional[str] = ..., model: _Optional[str] = ..., before_version: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ListVersionsReply(_message.Message):
    __slots__ = ("versions",)
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[ModelVersion]
    def __init__(self, versions: _Optional[_Iterable[_Union[ModelVersion, _Mapping]]] = ...) -> None: ...

class GetPlanRequest(_message.Message):
    __slots__ = ("project", "model")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    project: str
    model: str
    def __init__(self, project: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class CommandReply(_message.Message):
    __slots__ = ("accepted", "reason", "epoch", "event_id")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    reason: str
    epoch: int
    event_id: str
    def __init__(self, accepted: _Optional[bool] = ..., reason: _Optional[str] = ..., epoch: _Optional[int] = ..., event_id: _Optional[str] = ...) -> None: ...

class LineageReply(_message.Message):
    __slots__ = ("version", "events")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    version: ModelVersion
    events: _containers.RepeatedCompositeFieldContainer[_events_pb2.ModelEvent]
    def __init__(self, version: _Optional[_Union[ModelVersion, _Mapping]] = ..., events: _Optional[_Iterable[_Union[_events_pb2.ModelEvent, _Mapping]]] = ...) -> None: ...
