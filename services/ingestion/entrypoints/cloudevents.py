"""CloudEvents 1.0 over HTTP (its binding and JSON format), by the project's own SDK, in all three modes.

An event's identity is its `source` and `id` together, as the specification says. `type` is held against the contract's,
the extension `availableus` is the availability that the producer claims (microseconds), `dataschema` the definition
version that it wrote the event by where it is one of ours (`millrace:<project>/<source>/<version>`); every other
attribute is left out: what an event says stands in its data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_binary, from_structured
from cloudevents.core.exceptions import BaseCloudEventException
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from millrace.runtime.errors import Invalid

from services.ingestion.domain.versions import SCHEME
from services.ingestion.handlers.judge import Incoming

STRUCTURED = "application/cloudevents"
BATCH = "application/cloudevents-batch"
VERSION_HEADER = "ce-specversion"
AVAILABLE = "availableus"
_FORMAT = JSONFormat()


def is_cloudevent(headers: Mapping[str, str]) -> bool:
    """Whether a request carries CloudEvents, in any mode. `headers` have names in lower case."""
    return VERSION_HEADER in headers or headers.get("content-type", "").startswith(STRUCTURED)


def read_cloudevents(headers: Mapping[str, str], body: bytes) -> list[Incoming]:
    """The request's events. Raises Invalid when one of them is no CloudEvent, and says which."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type.startswith(STRUCTURED) and not media_type.endswith("+json"):
        raise Invalid(f"CloudEvents come as JSON here, not as {media_type}")
    if media_type.startswith(BATCH):
        try:
            parts = msgspec.json.decode(body, type=list[msgspec.Raw])
        except msgspec.DecodeError as error:
            raise Invalid(f"a batch of CloudEvents is a JSON array: {error}") from error
        return [_read({}, bytes(part), f"event {place} of the batch") for place, part in enumerate(parts)]
    return [_read({} if media_type.startswith(STRUCTURED) else headers, body, "the event")]


def _read(headers: Mapping[str, str], body: bytes, which: str) -> Incoming:
    """One event: in binary mode where there are headers, else in structured mode."""
    read = from_binary if headers else from_structured
    try:
        return _incoming(read(HTTPMessage(dict(headers), body), _FORMAT, CloudEvent))
    except (BaseCloudEventException, ValueError, TypeError, AttributeError) as error:
        # The SDK trusts what it parses to be an object with well-formed times: everything else shows as one of these.
        raise Invalid(f"{which} is no CloudEvent: {' '.join(str(error).split())}") from error


def _incoming(event: BaseCloudEvent) -> Incoming:
    """Raises UnicodeEncodeError for text that no UTF-8 can say (half of a surrogate pair): JSON escapes let it in, and
    no topic takes it."""
    data: Any = event.get_data()
    available = event.get_extension(AVAILABLE)
    identity, kind, schema = f"{event.get_source()}#{event.get_id()}", event.get_type(), event.get_dataschema() or ""
    for text in (identity, kind, schema):
        text.encode()
    return Incoming(
        json=data.encode() if isinstance(data, str) else data if isinstance(data, bytes) else msgspec.json.encode(data),
        id=identity,
        available_us=int(available) if available is not None else 0,
        type=kind,
        schema=schema if schema.startswith(SCHEME) else "",
    )
