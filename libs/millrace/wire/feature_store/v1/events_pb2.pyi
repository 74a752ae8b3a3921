from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class LateEvent(_message.Message):
    __slots__ = ("project", "source", "event_id", "event_us", "visible_us", "lateness_us")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_US_FIELD_NUMBER: _ClassVar[int]
    VISIBLE_US_FIELD_NUMBER: _ClassVar[int]
    LATENESS_US_FIELD_NUMBER: _ClassVar[int]
    project: str
    source: str
    event_id: str
    event_us: int
    visible_us: int
    lateness_us: int
    def __init__(self, project: _Optional[str] = ..., source: _Optional[str] = ..., event_id: _Optional[str] = ..., event_us: _Optional[int] = ..., visible_us: _Optional[int] = ..., lateness_us: _Optional[int] = ...) -> None: ...
