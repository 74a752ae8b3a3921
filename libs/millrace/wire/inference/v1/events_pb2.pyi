from millrace.wire.common.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Prediction(_message.Message):
    __slots__ = ("prediction_id", "request_id", "key", "model", "version", "role", "answered", "error", "outputs", "inputs", "feature_ages_us", "missing_features", "answered_us", "latency_us", "epoch", "as_of_us", "door")
    class InputsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _common_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_common_pb2.Value, _Mapping]] = ...) -> None: ...
    class FeatureAgesUsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    PREDICTION_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    FEATURE_AGES_US_FIELD_NUMBER: _ClassVar[int]
    MISSING_FEATURES_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_US_FIELD_NUMBER: _ClassVar[int]
    LATENCY_US_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    AS_OF_US_FIELD_NUMBER: _ClassVar[int]
    DOOR_FIELD_NUMBER: _ClassVar[int]
    prediction_id: str
    request_id: str
    key: _common_pb2.ExampleKey
    model: str
    version: int
    role: str
    answered: bool
    error: str
    outputs: _containers.RepeatedScalarFieldContainer[float]
    inputs: _containers.MessageMap[str, _common_pb2.Value]
    feature_ages_us: _containers.ScalarMap[str, int]
    missing_features: _containers.RepeatedScalarFieldContainer[str]
    answered_us: int
    latency_us: int
    epoch: int
    as_of_us: int
    door: str
    def __init__(self, prediction_id: _Optional[str] = ..., request_id: _Optional[str] = ..., key: _Optional[_Union[_common_pb2.ExampleKey, _Mapping]] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., role: _Optional[str] = ..., answered: _Optional[bool] = ..., error: _Optional[str] = ..., outputs: _Optional[_Iterable[float]] = ..., inputs: _Optional[_Mapping[str, _common_pb2.Value]] = ..., feature_ages_us: _Optional[_Mapping[str, int]] = ..., missing_features: _Optional[_Iterable[str]] = ..., answered_us: _Optional[int] = ..., latency_us: _Optional[int] = ..., epoch: _Optional[int] = ..., as_of_us: _Optional[int] = ..., door: _Optional[str] = ...) -> None: ...

class ServingStatus(_message.Message):
    __slots__ = ("replica", "project", "model", "epoch", "variants", "reported_us", "spooled_records", "dropped_records", "requests", "failures")
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VARIANTS_FIELD_NUMBER: _ClassVar[int]
    REPORTED_US_FIELD_NUMBER: _ClassVar[int]
    SPOOLED_RECORDS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_RECORDS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    replica: str
    project: str
    model: str
    epoch: int
    variants: _containers.RepeatedCompositeFieldContainer[VariantStatus]
    reported_us: int
    spooled_records: int
    dropped_records: int
    requests: int
    failures: int
    def __init__(self, replica: _Optional[str] = ..., project: _Optional[str] = ..., model: _Optional[str] = ..., epoch: _Optional[int] = ..., variants: _Optional[_Iterable[_Union[VariantStatus, _Mapping]]] = ..., reported_us: _Optional[int] = ..., spooled_records: _Optional[int] = ..., dropped_records: _Optional[int] = ..., requests: _Optional[int] = ..., failures: _Optional[int] = ...) -> None: ...

class VariantStatus(_message.Message):
    __slots__ = ("version", "state", "reason")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    version: int
    state: str
    reason: str
    def __init__(self, version: _Optional[int] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...
