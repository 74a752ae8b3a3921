"""From what a door received to what a lane appends: decode, check, encode."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec

from services.ingestion.domain.contracts import Contract, Refusal, Row, Violation

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_UNREADABLE = object()

# Half of what a Kafka broker takes in one message unless told otherwise. One event must not fail its neighbours'
# request, and must fit every consumer's batch.
MAX_EVENT_BYTES = 512 * 1024
MAX_ID_CHARACTERS = 1024
KEPT_BYTES = 64 * 1024  # of an oversized event, for a person to look at


@dataclass(frozen=True, slots=True)
class Incoming:
    """One event as received: JSON bytes, or a decoded `value` (a file's row, a CloudEvent's data). `type` is what its
    producer says that it is (empty: what the source takes), `schema` the definition version that it says it wrote it by
    (empty: none). Times are microseconds."""

    json: bytes = b""
    id: str = ""
    available_us: int = 0
    value: Any = _UNREADABLE
    type: str = ""
    schema: str = ""


@dataclass(slots=True)
class Judged:
    """One event with its verdict; `body` is the canonical JSON of an accepted row, else what was received (of an event
    that was too large, its beginning)."""

    id: str
    verdict: Row | Refusal
    body: bytes
    value: Any
    wanted_us: int
    schema_version: int = 0  # of the contract that judged it


def judge(contract: Contract, event: Incoming, wanted_us: int, latest_us: int) -> Judged:
    """The verdict on one event that wants to be visible at `wanted_us`; no event time after `latest_us` is accepted.

    An event without id gets one derived from its source and content, so that a repeat is known again. An event that
    takes more than `MAX_EVENT_BYTES`, as received or in canonical JSON with its key, is refused by the rule `size`.
    """
    value, payload = event.value, event.json
    if len(payload) > MAX_EVENT_BYTES or len(event.id) > MAX_ID_CHARACTERS:
        return oversized(contract.source.name, event, wanted_us)
    if value is _UNREADABLE:
        try:
            value = _decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            refusal = Refusal((Violation("", "json", f"not JSON: {error}"),))
            return Judged(event.id or content_id(contract.source.name, payload), refusal, payload, None, wanted_us)
    verdict = _other_type(contract, event) or contract.check(value, latest_us)
    body = _encode(verdict.columns) if isinstance(verdict, Row) else payload or _encode(value)
    # The key travels three times: in the JSON, as the message's key and as its subject.
    if len(body) + (2 * len(verdict.key.encode()) if isinstance(verdict, Row) else 0) > MAX_EVENT_BYTES:
        return oversized(contract.source.name, Incoming(payload or body, event.id), wanted_us)
    event_id = event.id or content_id(contract.source.name, body)
    return Judged(event_id, verdict, body, value, wanted_us, contract.version)


def misnamed(contract: Contract, event: Incoming, reason: str, wanted_us: int) -> Judged:
    """The refusal of an event that names a definition version that cannot be."""
    payload = event.json if event.value is _UNREADABLE else _encode(event.value)
    if len(payload) > MAX_EVENT_BYTES or len(event.id) > MAX_ID_CHARACTERS:
        return oversized(contract.source.name, Incoming(payload, event.id), wanted_us)
    refusal = Refusal((Violation("", "schema", reason),))
    return Judged(event.id or content_id(contract.source.name, payload), refusal, payload, None, wanted_us)


def _other_type(contract: Contract, event: Incoming) -> Refusal | None:
    taken = contract.source.event_type
    if event.type in ("", taken):
        return None
    return Refusal((Violation("", "event_type", f"{contract.source.name} takes {taken}, not {event.type}"),))


def oversized(source: str, event: Incoming, wanted_us: int) -> Judged:
    """The refusal of an event that is too large to be carried, or whose id is."""
    payload, kept = event.json, event.json[:KEPT_BYTES]
    if len(event.id) > MAX_ID_CHARACTERS:
        reason, event_id = f"an id of {len(event.id)} characters; at most {MAX_ID_CHARACTERS}", ""
    else:
        reason, event_id = f"{len(payload)} bytes; an event takes at most {MAX_EVENT_BYTES} with its key", event.id
    if len(kept) < len(payload):
        reason += f"; the first {len(kept)} are kept"
    refusal = Refusal((Violation("", "size", reason),))
    return Judged(event_id or content_id(source, payload), refusal, kept, None, wanted_us)


def content_id(source: str, content: bytes) -> str:
    """128 bits of the content's digest, in hex."""
    return hashlib.blake2b(content, digest_size=16, key=source.encode()[:64]).hexdigest()
