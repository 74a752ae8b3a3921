from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Forget(_message.Message):
    __slots__ = ("id", "project", "phase", "identities", "example", "salt", "sealed_us", "snapshots", "actor")
    class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PHASE_UNSPECIFIED: _ClassVar[Forget.Phase]
        ASKED: _ClassVar[Forget.Phase]
        SWEPT: _ClassVar[Forget.Phase]
        DONE: _ClassVar[Forget.Phase]
    PHASE_UNSPECIFIED: Forget.Phase
    ASKED: Forget.Phase
    SWEPT: Forget.Phase
    DONE: Forget.Phase
    ID_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    IDENTITIES_FIELD_NUMBER: _ClassVar[int]
    EXAMPLE_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    SEALED_US_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    id: str
    project: str
    phase: Forget.Phase
    identities: _containers.RepeatedCompositeFieldContainer[Identity]
    example: Identity
    salt: bytes
    sealed_us: int
    snapshots: _containers.RepeatedCompositeFieldContainer[Superseded]
    actor: str
    def __init__(self, id: _Optional[str] = ..., project: _Optional[str] = ..., phase: _Optional[_Union[Forget.Phase, str]] = ..., identities: _Optional[_Iterable[_Union[Identity, _Mapping]]] = ..., example: _Optional[_Union[Identity, _Mapping]] = ..., salt: _Optional[bytes] = ..., sealed_us: _Optional[int] = ..., snapshots: _Optional[_Iterable[_Union[Superseded, _Mapping]]] = ..., actor: _Optional[str] = ...) -> None: ...

class Identity(_message.Message):
    __slots__ = ("source", "field", "entity", "digest", "cut_us")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CUT_US_FIELD_NUMBER: _ClassVar[int]
    source: str
    field: str
    entity: str
    digest: bytes
    cut_us: int
    def __init__(self, source: _Optional[str] = ..., field: _Optional[str] = ..., entity: _Optional[str] = ..., digest: _Optional[bytes] = ..., cut_us: _Optional[int] = ...) -> None: ...

class Superseded(_message.Message):
    __slots__ = ("digest", "by")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    digest: str
    by: str
    def __init__(self, digest: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class ForgetReceipt(_message.Message):
    __slots__ = ("id", "room", "replica", "phase", "stores", "snapshots", "answered_us")
    ID_FIELD_NUMBER: _ClassVar[int]
    ROOM_FIELD_NUMBER: _ClassVar[int]
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STORES_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_US_FIELD_NUMBER: _ClassVar[int]
    id: str
    room: str
    replica: str
    phase: Forget.Phase
    stores: _containers.RepeatedCompositeFieldContainer[StoreReceipt]
    snapshots: _containers.RepeatedCompositeFieldContainer[Superseded]
    answered_us: int
    def __init__(self, id: _Optional[str] = ..., room: _Optional[str] = ..., replica: _Optional[str] = ..., phase: _Optional[_Union[Forget.Phase, str]] = ..., stores: _Optional[_Iterable[_Union[StoreReceipt, _Mapping]]] = ..., snapshots: _Optional[_Iterable[_Union[Superseded, _Mapping]]] = ..., answered_us: _Optional[int] = ...) -> None: ...

class StoreReceipt(_message.Message):
    __slots__ = ("store", "deleted", "gone_by_us", "how")
    STORE_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    GONE_BY_US_FIELD_NUMBER: _ClassVar[int]
    HOW_FIELD_NUMBER: _ClassVar[int]
    store: str
    deleted: int
    gone_by_us: int
    how: str
    def __init__(self, store: _Optional[str] = ..., deleted: _Optional[int] = ..., gone_by_us: _Optional[int] = ..., how: _Optional[str] = ...) -> None: ...

class ForgetRequest(_message.Message):
    __slots__ = ("project", "entity", "fields", "reason", "actor")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    project: str
    entity: str
    fields: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    actor: str
    def __init__(self, project: _Optional[str] = ..., entity: _Optional[str] = ..., fields: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class ForgetStatus(_message.Message):
    __slots__ = ("id", "project", "entity_digest", "fields", "reason", "actor", "asked_us", "done_us", "gone_by_us", "phase", "receipts", "missing", "proof", "signature", "is_intact")
    ID_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    ENTITY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    ASKED_US_FIELD_NUMBER: _ClassVar[int]
    DONE_US_FIELD_NUMBER: _ClassVar[int]
    GONE_BY_US_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    IS_INTACT_FIELD_NUMBER: _ClassVar[int]
    id: str
    project: str
    entity_digest: str
    fields: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    actor: str
    asked_us: int
    done_us: int
    gone_by_us: int
    phase: Forget.Phase
    receipts: _containers.RepeatedCompositeFieldContainer[ForgetReceipt]
    missing: _containers.RepeatedScalarFieldContainer[str]
    proof: str
    signature: str
    is_intact: bool
    def __init__(self, id: _Optional[str] = ..., project: _Optional[str] = ..., entity_digest: _Optional[str] = ..., fields: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ..., asked_us: _Optional[int] = ..., done_us: _Optional[int] = ..., gone_by_us: _Optional[int] = ..., phase: _Optional[_Union[Forget.Phase, str]] = ..., receipts: _Optional[_Iterable[_Union[ForgetReceipt, _Mapping]]] = ..., missing: _Optional[_Iterable[str]] = ..., proof: _Optional[str] = ..., signature: _Optional[str] = ..., is_intact: _Optional[bool] = ...) -> None: ...

class ForgottenRequest(_message.Message):
    __slots__ = ("id", "project", "entity")
    ID_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    id: str
    project: str
    entity: str
    def __init__(self, id: _Optional[str] = ..., project: _Optional[str] = ..., entity: _Optional[str] = ...) -> None: ...

class ForgottenReply(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[ForgetStatus]
    def __init__(self, requests: _Optional[_Iterable[_Union[ForgetStatus, _Mapping]]] = ...) -> None: ...

class RevealRequest(_message.Message):
    __slots__ = ("project", "source", "entity", "fields", "reason", "actor")
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    project: str
    source: str
    entity: str
    fields: _containers.ScalarMap[str, str]
    reason: str
    actor: str
    def __init__(self, project: _Optional[str] = ..., source: _Optional[str] = ..., entity: _Optional[str] = ..., fields: _Optional[_Mapping[str, str]] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class RevealReply(_message.Message):
    __slots__ = ("fields",)
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    fields: _containers.ScalarMap[str, str]
    def __init__(self, fields: _Optional[_Mapping[str, str]] = ...) -> None: ...

class RevealedRequest(_message.Message):
    __slots__ = ("project",)
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    project: str
    def __init__(self, project: _Optional[str] = ...) -> None: ...

class RevealedReply(_message.Message):
    __slots__ = ("revelations",)
    REVELATIONS_FIELD_NUMBER: _ClassVar[int]
    revelations: _containers.RepeatedCompositeFieldContainer[Revelation]
    def __init__(self, revelations: _Optional[_Iterable[_Union[Revelation, _Mapping]]] = ...) -> None: ...

class Revelation(_message.Message):
    __slots__ = ("project", "source", "entity_digest", "fields", "reason", "actor", "revealed_us")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ENTITY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REVEALED_US_FIELD_NUMBER: _ClassVar[int]
    project: str
    source: str
    entity_digest: str
    fields: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    actor: str
    revealed_us: int
    def __init__(self, project: _Optional[str] = ..., source: _Optional[str] = ..., entity_digest: _Optional[str] = ..., fields: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ..., revealed_us: _Optional[int] = ...) -> None: ...
