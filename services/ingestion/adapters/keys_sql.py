"""Keys of encrypted fields in this room's database, and AES-SIV (RFC 5297) with them.

SIV is deterministic: the same value of the same entity in the same field gives the same text, so a replay gives equal
bytes; values of two entities cannot be compared, since each has a key of its own.
"""

from __future__ import annotations

import base64
import os
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from millrace.stores.sql import Database

from services.ingestion.domain.personal import ENCRYPTED_PREFIX, entity_reference, project_key
from services.ingestion.errors import Unreadable
from services.ingestion.ports import Sealable

KEY_BYTES = 64  # AES-256-SIV
CACHED_KEYS = 50_000  # about 10 MB; an entity beyond them costs one look-up


class SqlKeys:
    """The ports' Keys over SQLite or PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._secret = b""
        self._known: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def open(self, secret: bytes) -> None:
        """`secret` wraps the keys that are kept."""
        self._secret = secret

    async def seal(self, project: str, values: Sequence[Sealable]) -> list[str]:
        """As Keys.seal."""
        found: dict[str, bytes] = {}
        missing = []
        for entity in {value.entity for value in values}:
            key = self._known.get((project, entity))
            if key is None:
                missing.append(entity)
            else:
                self._known.move_to_end((project, entity))
                found[entity] = key
        if missing:
            found.update(await self._load(project, missing))
        return [encrypt(found[value.entity], value.place, value.text) for value in values]

    async def unseal(self, project: str, entity: str, values: Mapping[str, str]) -> dict[str, str]:
        """As Keys.unseal."""
        reference = entity_reference(self._secret, project, entity)
        async with self._database.read() as transaction:
            row = await transaction.row(
                "SELECT wrapped FROM entity_keys WHERE project = :project AND entity = :entity",
                {"project": project, "entity": reference},
            )
        if row is None:
            raise Unreadable(f"{project} has no key for this entity: nothing of it was encrypted, or it was forgotten")
        key = self._unwrap(project, reference, row["wrapped"])
        return {place: decrypt(key, place, value) for place, value in values.items()}

    async def destroy(self, project: str, entities: Collection[str]) -> int:
        """As Keys.destroy."""
        gone = 0
        async with self._database.erasing() as transaction:
            for entity in entities:
                reference = entity_reference(self._secret, project, entity)
                gone += await transaction.execute(
                    "DELETE FROM entity_keys WHERE project = :project AND entity = :entity",
                    {"project": project, "entity": reference},
                )
        for entity in entities:
            self._known.pop((project, entity), None)
        return gone

    async def _load(self, project: str, entities: Collection[str]) -> dict[str, bytes]:
        """Of the database; made there where an entity has none yet."""
        references = {entity: entity_reference(self._secret, project, entity) for entity in entities}
        fresh = {
            entity: AESSIV(project_key(self._secret, project, "wrap")).encrypt(os.urandom(KEY_BYTES), [r.encode()])
            for entity, r in references.items()
        }
        found = {}
        async with self._database.transaction() as transaction:
            await transaction.execute(
                "INSERT INTO entity_keys (project, entity, wrapped) VALUES (:project, :entity, :wrapped)"
                " ON CONFLICT (project, entity) DO NOTHING",
                [{"project": project, "entity": references[e], "wrapped": fresh[e]} for e in entities],
            )
            for entity, reference in references.items():
                row = await transaction.row(
                    "SELECT wrapped FROM entity_keys WHERE project = :project AND entity = :entity",
                    {"project": project, "entity": reference},
                )
                assert row is not None
                found[entity] = self._unwrap(project, reference, row["wrapped"])
        for entity, key in found.items():
            self._known[project, entity] = key
        while len(self._known) > CACHED_KEYS:
            self._known.popitem(last=False)
        return found

    def _unwrap(self, project: str, reference: str, wrapped: bytes) -> bytes:
        try:
            key = AESSIV(project_key(self._secret, project, "wrap")).decrypt(bytes(wrapped), [reference.encode()])
        except InvalidTag:
            raise Unreadable(
                f"a key of {project} was wrapped under another secret: give MILLRACE_INGESTION_PII_SECRET as it was"
            ) from None
        return bytes(key)


def encrypt(key: bytes, place: str, text: str) -> str:
    """`text` under an entity's key, bound to `place` (project/source/field)."""
    sealed = AESSIV(key).encrypt(text.encode() or b"\x00", [place.encode()])
    return ENCRYPTED_PREFIX + base64.urlsafe_b64encode(sealed).decode()


def decrypt(key: bytes, place: str, value: str) -> str:
    """What `encrypt` was given. Raises Unreadable."""
    try:
        sealed = base64.urlsafe_b64decode(value.removeprefix(ENCRYPTED_PREFIX).encode())
        plain = bytes(AESSIV(key).decrypt(sealed, [place.encode()]))
    except (InvalidTag, ValueError):
        raise Unreadable(f"the value of {place} was not encrypted there under this entity's key") from None
    return "" if plain == b"\x00" else plain.decode()
