from millrace.wire.common.v1 import common_pb2 as _common_pb2
from millrace.wire.feature_store.v1 import service_pb2 as _service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PredictRequest(_message.Message):
    __slots__ = ("project", "items", "request_id")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    project: str
    items: _containers.RepeatedCompositeFieldContainer[PredictItem]
    request_id: str
    def __init__(self, project: _Optional[str] = ..., items: _Optional[_Iterable[_Union[PredictItem, _Mapping]]] = ..., request_id: _Optional[str] = ...) -> None: ...

class PredictItem(_message.Message):
    __slots__ = ("entity", "moment_us", "request")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    MOMENT_US_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    entity: str
    moment_us: int
    request: _common_pb2.Row
    def __init__(self, entity: _Optional[str] = ..., moment_us: _Optional[int] = ..., request: _Optional[_Union[_common_pb2.Row, _Mapping]] = ...) -> None: ...

class PredictReply(_message.Message):
    __slots__ = ("request_id", "answers")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    answers: _containers.RepeatedCompositeFieldContainer[Answer]
    def __init__(self, request_id: _Optional[str] = ..., answers: _Optional[_Iterable[_Union[Answer, _Mapping]]] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("prediction_id", "entity", "value", "outputs", "model", "version", "variant", "features", "error", "epoch")
    PREDICTION_ID_FIELD_NUMBER: _ClassVar[int]
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    prediction_id: str
    entity: str
    value: float
    outputs: _containers.RepeatedScalarFieldContainer[float]
    model: str
    version: int
    variant: str
    features: _containers.RepeatedCompositeFieldContainer[AnswerFeature]
    error: str
    epoch: int
    def __init__(self, prediction_id: _Optional[str] = ..., entity: _Optional[str] = ..., value: _Optional[float] = ..., outputs: _Optional[_Iterable[float]] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., variant: _Optional[str] = ..., features: _Optional[_Iterable[_Union[AnswerFeature, _Mapping]]] = ..., error: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class AnswerFeature(_message.Message):
    __slots__ = ("name", "status", "age_us")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    AGE_US_FIELD_NUMBER: _ClassVar[int]
    name: str
    status: _service_pb2.FeatureStatus
    age_us: int
    def __init__(self, name: _Optional[str] = ..., status: _Optional[_Union[_service_pb2.FeatureStatus, str]] = ..., age_us: _Optional[int] = ...) -> None: ...
