"""The desk at which an entity is forgotten: asks every room, collects what they answer, keeps the proof.

ASKED: the rooms delete. SWEPT, when all have answered: once more, for what was on its way from one room to another.
DONE, when all have answered again: the key itself is given up; digests stay until the longest topic has let go.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence

from millrace.bus.effects import Effects
from millrace.bus.events import Batch, Event, Message, event_type, new_id
from millrace.bus.ports import Bus
from millrace.bus.topics import TopicTable
from millrace.runtime.errors import Invalid, RoomError
from millrace.runtime.forgotten import entity_digest
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget, ForgetReceipt, ForgetStatus, Identity, StoreReceipt

from services.ingestion.domain.identity import Name, is_key, names, proof_of, signature_of
from services.ingestion.domain.personal import entity_reference, project_key
from services.ingestion.errors import NoSuchRequest, NotForgettable
from services.ingestion.handlers.letting_go import COMPACTED, kept_topics
from services.ingestion.handlers.messages import SOURCE
from services.ingestion.handlers.notes import Notes
from services.ingestion.handlers.plane import Ingestion
from services.ingestion.ports import ForgetRow, Forgets, Keys

log = logging.getLogger(__name__)
TOPIC = "data.forget"
ROOMS = ("feature_store", "inference", "labeling", "monitor", "registry", "trainer")  # whose answers are waited for
MAX_FIELDS = 32
SALT_BYTES = 16


class ForgetDesk:
    """One desk per process. `tick` is to be called now and then: it publishes what could not be published before."""

    def __init__(
        self,
        plane: Ingestion,
        bus: Bus,
        book: Forgets,
        keys: Keys,
        notes: Notes,
        topics: TopicTable,
        wall_us: Callable[[], int],
    ) -> None:
        self._plane = plane
        self._notes = notes
        self._bus = bus
        self._book = book
        self._keys = keys
        self._topics = topics
        self._wall_us = wall_us
        self._secret = b""
        self._one_at_a_time = asyncio.Lock()  # a step that is under way must not be saved over by who read before it

    async def open(self, secret: bytes) -> None:
        """Reads who was forgotten before. `secret` is the room's."""
        self._secret = secret
        for row in await self._book.newest():
            if row.published <= Forget.DONE:
                self._plane.forgotten.put(row.request)

    async def ask(self, project: str, entity: str, fields: Sequence[str], reason: str, actor: str) -> ForgetStatus:
        """Begins to forget; an unfinished request for the same entity is found again and told to the rooms once more.

        Raises UnknownProject, NotForgettable, Invalid, BusUnavailable, StoreUnavailable.
        """
        if not reason.strip():
            raise Invalid("a reason is needed: it is kept with the proof")
        if not entity or len(fields) > MAX_FIELDS:
            raise Invalid(f"one entity is needed, and at most {MAX_FIELDS} fields")
        found, example = self._names(project, entity, fields)
        reference = entity_reference(self._secret, project, entity)
        for row in await self._book.newest(project, reference):
            named = {(identity.source, identity.field) for identity in row.request.identities}
            if not row.done_us and {(name.source, name.field) for name in found} <= named:
                async with self._one_at_a_time:
                    return await self._status(await self._publish(await self._row(row.id)))
        request = Forget(id=new_id(), project=project, phase=Forget.ASKED, salt=os.urandom(SALT_BYTES), actor=actor)
        lanes = {lane.name: lane for lane in self._plane.lanes_of(project)}
        cuts = {source: await lanes[source].cut() for source in {name.source for name in found} if source in lanes}
        request.identities.extend(_identity(name, request.salt, cuts.get(name.source, 0)) for name in found)
        if example is not None:
            request.example.CopyFrom(_identity(example, request.salt, max(cuts.values(), default=0)))
        request.sealed_us = self._wall_us()
        row = ForgetRow(
            id=request.id,
            project=project,
            entity_digest=reference,
            fields=sorted({name.field for name in found}),
            reason=reason.strip(),
            actor=actor,
            asked_us=request.sealed_us,
            request=request,
        )
        await self._book.save(row)
        return await self._status(await self._publish(row))

    async def status(self, request_id: str) -> ForgetStatus:
        """Raises NoSuchRequest."""
        return await self._status(await self._row(request_id))

    async def all(self, project: str, entity: str) -> list[ForgetStatus]:
        """Newest first; with `entity` those that were about it."""
        reference = entity_reference(self._secret, project, entity) if entity else ""
        return [await self._status(row) for row in await self._book.newest(project, reference)]

    async def on_receipts(self, batch: Batch, effects: Effects) -> None:
        """What rooms answered; whoever was waited for last moves the request on."""
        for record in batch.records:
            receipt = ForgetReceipt.FromString(record.data)
            row = await self._book.get(receipt.id)
            if row is None:
                log.warning("a receipt for %s, which nobody asked for", receipt.id)
                continue
            await self._book.receive(receipt)
            async with self._one_at_a_time:
                await self._advance(await self._row(receipt.id))

    async def tick(self) -> None:
        """Publishes what is not out yet, and lets go of digests that no log needs any more."""
        for row in await self._book.newest():
            try:
                async with self._one_at_a_time:
                    await self._look_after(await self._row(row.id))
            except RoomError as error:
                log.warning("forgetting %s waits: %s", row.id, error)

    async def _look_after(self, row: ForgetRow) -> None:
        if row.published < row.request.phase:
            row = await self._publish(row)
        await self._advance(row)
        if row.published == Forget.DONE and self._wall_us() > self._gone_by_us(row):
            await self._bus.publish([_message(row, b"")])
            self._plane.forgotten.drop(row.id)
            row.published = Forget.DONE + 1
            await self._book.save(row)

    async def _advance(self, row: ForgetRow) -> None:
        if row.done_us or _missing(row):
            return
        request = row.request
        for receipt in row.receipts:
            request.snapshots.extend(one for one in receipt.snapshots if one not in request.snapshots)
        request.sealed_us = self._wall_us()
        if request.phase == Forget.ASKED:
            request.phase = Forget.SWEPT
        else:
            request.phase = Forget.DONE
            for one in [*request.identities, *([request.example] if request.HasField("example") else [])]:
                one.entity = ""
            row.done_us = request.sealed_us
            seq, before = await self._book.last_proof()
            row.seq, row.proof = seq + 1, proof_of(_record(row), before)
            row.signature = signature_of(project_key(self._secret, row.project, "proof"), row.proof)
        await self._book.save(row)
        await self._publish(row)

    async def _publish(self, row: ForgetRow) -> ForgetRow:
        self._plane.forgotten.put(row.request)
        if row.request.phase in (Forget.ASKED, Forget.SWEPT):
            await self._obey(row)
        await self._bus.publish([_message(row, row.request.SerializeToString())])
        row.published = row.request.phase
        await self._book.save(row)
        return await self._row(row.id)

    async def _obey(self, row: ForgetRow) -> None:
        """This room's own part: keys at once, topics in their time."""
        project = self._plane.definition(row.project).project
        keyed = {
            one.entity
            for one in row.request.identities
            for source in project.sources
            if is_key(source, Name(one.source, one.field, one.entity))
        }
        destroyed = await self._keys.destroy(row.project, keyed)
        now_us = self._wall_us()
        how = "encrypted fields cannot be read any more, wherever their bytes lie"
        stores = [StoreReceipt(store="ingestion: keys", deleted=destroyed, gone_by_us=now_us, how=how)]
        days = await self._notes.forget(row.project, {one.entity for one in row.request.identities})
        how = "no longer among frequent texts and examples"
        stores.append(StoreReceipt(store="ingestion: data docs", deleted=days, gone_by_us=now_us, how=how))
        stores += kept_topics(project, self._topics, row.asked_us)
        if row.request.phase == Forget.SWEPT:
            stores.append(StoreReceipt(store=f"topic {TOPIC}", gone_by_us=now_us + COMPACTED.us, how=COMPACTED.how))
        receipt = ForgetReceipt(
            id=row.id,
            room="ingestion",
            replica="ingestion",
            phase=row.request.phase,
            stores=stores,
            answered_us=now_us,
        )
        await self._book.receive(receipt)

    def _names(self, project: str, entity: str, fields: Sequence[str]) -> tuple[list[Name], Name | None]:
        defined = self._plane.definition(project).project
        known = {field.name for source in defined.sources for field in source.fields}
        unknown = sorted(set(fields) - known)
        if unknown:
            raise NotForgettable(f"{project} has no field {unknown[0]}; it has {', '.join(sorted(known))}")
        found, example = names(defined, entity, fields, project_key(self._secret, project, "hash"))
        if not found:
            raise NotForgettable(
                f"{entity!r} cannot be a value of {', '.join(fields) or defined.predict.entity}: dropped, masked and"
                " encrypted fields name nobody, and an integer field holds integers"
            )
        return found, example

    def _gone_by_us(self, row: ForgetRow) -> int:
        return max((store.gone_by_us for receipt in row.receipts for store in receipt.stores), default=0)

    async def _row(self, request_id: str) -> ForgetRow:
        row = await self._book.get(request_id)
        if row is None:
            raise NoSuchRequest(f"nothing was asked to be forgotten under {request_id}")
        return row

    async def _status(self, row: ForgetRow) -> ForgetStatus:
        is_intact = bool(row.proof) and (
            proof_of(_record(row), await self._book.proof_before(row.seq)) == row.proof
            and signature_of(project_key(self._secret, row.project, "proof"), row.proof) == row.signature
        )
        return ForgetStatus(
            id=row.id,
            project=row.project,
            entity_digest=row.entity_digest,
            fields=row.fields,
            reason=row.reason,
            actor=row.actor,
            asked_us=row.asked_us,
            done_us=row.done_us,
            gone_by_us=self._gone_by_us(row),
            phase=row.request.phase,
            receipts=row.receipts,
            missing=_missing(row),
            proof=row.proof,
            signature=row.signature,
            is_intact=is_intact,
        )


def _missing(row: ForgetRow) -> list[str]:
    """Rooms that have not answered the phase that is under way."""
    if row.done_us:
        return []
    answered = {receipt.room for receipt in row.receipts if receipt.phase == row.request.phase}
    return [room for room in ROOMS if room not in answered]


def _record(row: ForgetRow) -> bytes:
    """What the proof is about, in canonical bytes: who was forgotten by digest, and every room's account."""
    status = ForgetStatus(
        id=row.id,
        project=row.project,
        entity_digest=row.entity_digest,
        fields=row.fields,
        reason=row.reason,
        actor=row.actor,
        asked_us=row.asked_us,
        done_us=row.done_us,
        receipts=[r for r in row.receipts if r.answered_us <= row.done_us],
    )
    return status.SerializeToString(deterministic=True)


def _identity(name: Name, salt: bytes, cut_us: int) -> Identity:
    digest = entity_digest(salt, name.entity)
    return Identity(source=name.source, field=name.field, entity=name.entity, digest=digest, cut_us=cut_us)


def _message(row: ForgetRow, data: bytes) -> Message:
    event = Event(
        id=new_id(),
        type=event_type("ingestion", "entity", "forgotten"),
        source=SOURCE,
        data=data,
        subject=row.id,
        time_us=row.request.sealed_us,
        causation_id=row.id,
        actor=row.actor,
    )
    return Message(TOPIC, event, key=row.id.encode())
