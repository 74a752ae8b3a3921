"""Keys of personal data: one secret of the room, one key per project and purpose, one key per entity."""

from __future__ import annotations

import hashlib
import hmac

ENCRYPTED_PREFIX = "enc:1:"  # of an encrypted value; the number is the form that follows it


def project_key(secret: bytes, project: str, purpose: str) -> bytes:
    """64 bytes that belong to one project and one purpose (HKDF-Expand with SHA-512, RFC 5869, one block)."""
    return hmac.new(secret, f"millrace/{purpose}/{project}".encode() + b"\x01", hashlib.sha512).digest()


def entity_reference(secret: bytes, project: str, entity: str) -> str:
    """What stands for an entity where its key must not: an HMAC that needs the room's secret to be guessed at."""
    key = project_key(secret, project, "reference")
    return hmac.new(key, entity.encode(), hashlib.sha256).hexdigest()
