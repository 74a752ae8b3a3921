from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DefinitionPublished(_message.Message):
    __slots__ = ("project", "version", "digest", "canonical_json", "actor")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CANONICAL_JSON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    project: str
    version: int
    digest: str
    canonical_json: str
    actor: str
    def __init__(self, project: _Optional[str] = ..., version: _Optional[int] = ..., digest: _Optional[str] = ..., canonical_json: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class ServingPlan(_message.Message):
    __slots__ = ("project", "model", "epoch", "salt", "variants", "definition_version", "cause")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    VARIANTS_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_VERSION_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    project: str
    model: str
    epoch: int
    salt: str
    variants: _containers.RepeatedCompositeFieldContainer[Variant]
    definition_version: int
    cause: str
    def __init__(self, project: _Optional[str] = ..., model: _Optional[str] = ..., epoch: _Optional[int] = ..., salt: _Optional[str] = ..., variants: _Optional[_Iterable[_Union[Variant, _Mapping]]] = ..., definition_version: _Optional[int] = ..., cause: _Optional[str] = ...) -> None: ...

class Variant(_message.Message):
    __slots__ = ("version", "model_digest", "bundle_digest", "role", "weight", "fallback", "definition_version")
    class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ROLE_UNSPECIFIED: _ClassVar[Variant.Role]
        CHAMPION: _ClassVar[Variant.Role]
        CANARY: _ClassVar[Variant.Role]
        SHADOW: _ClassVar[Variant.Role]
        AB: _ClassVar[Variant.Role]
    ROLE_UNSPECIFIED: Variant.Role
    CHAMPION: Variant.Role
    CANARY: Variant.Role
    SHADOW: Variant.Role
    AB: Variant.Role
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_VERSION_FIELD_NUMBER: _ClassVar[int]
    version: int
    model_digest: str
    bundle_digest: str
    role: Variant.Role
    weight: float
    fallback: bool
    definition_version: int
    def __init__(self, version: _Optional[int] = ..., model_digest: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., role: _Optional[_Union[Variant.Role, str]] = ..., weight: _Optional[float] = ..., fallback: _Optional[bool] = ..., definition_version: _Optional[int] = ...) -> None: ...

class ModelEvent(_message.Message):
    __slots__ = ("project", "model", "version", "from_state", "to_state", "kind", "reason", "actor", "run_id", "snapshot_digest", "gate_report_digest", "other_version", "clock_us", "epoch")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FROM_STATE_FIELD_NUMBER: _ClassVar[int]
    TO_STATE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    GATE_REPORT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    OTHER_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLOCK_US_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    project: str
    model: str
    version: int
    from_state: str
    to_state: str
    kind: str
    reason: str
    actor: str
    run_id: str
    snapshot_digest: str
    gate_report_digest: str
    other_version: int
    clock_us: int
    epoch: int
    def __init__(self, project: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., from_state: _Optional[str] = ..., to_state: _Optional[str] = ..., kind: _Optional[str] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ..., run_id: _Optional[str] = ..., snapshot_digest: _Optional[str] = ..., gate_report_digest: _Optional[str] = ..., other_version: _Optional[int] = ..., clock_us: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class ModelCommand(_message.Message):
    __slots__ = ("project", "model", "verb", "version", "target_version", "incident_id", "reason", "evidence_json", "actor")
    class Verb(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        VERB_UNSPECIFIED: _ClassVar[ModelCommand.Verb]
        ADVANCE: _ClassVar[ModelCommand.Verb]
        HOLD: _ClassVar[ModelCommand.Verb]
        ROLLBACK: _ClassVar[ModelCommand.Verb]
        PROMOTE: _ClassVar[ModelCommand.Verb]
        RETIRE: _ClassVar[ModelCommand.Verb]
    VERB_UNSPECIFIED: ModelCommand.Verb
    ADVANCE: ModelCommand.Verb
    HOLD: ModelCommand.Verb
    ROLLBACK: ModelCommand.Verb
    PROMOTE: ModelCommand.Verb
    RETIRE: ModelCommand.Verb
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERB_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TARGET_VERSION_FIELD_NUMBER: _ClassVar[int]
    INCIDENT_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_JSON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    project: str
    model: str
    verb: ModelCommand.Verb
    version: int
    target_version: int
    incident_id: str
    reason: str
    evidence_json: str
    actor: str
    def __init__(self, project: _Optional[str] = ..., model: _Optional[str] = ..., verb: _Optional[_Union[ModelCommand.Verb, str]] = ..., version: _Optional[int] = ..., target_version: _Optional[int] = ..., incident_id: _Optional[str] = ..., reason: _Optional[str] = ..., evidence_json: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...
