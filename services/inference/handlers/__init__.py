"""Messages to domain to messages: what this room does with each topic that it follows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from millrace.bus.events import Record
from millrace.wire.registry.v1 import events_pb2

from services.inference.domain.plan import Plan, PlanError, Role, Variant

from .releases import Releases

_ROLES = {
    events_pb2.Variant.CHAMPION: Role.CHAMPION,
    events_pb2.Variant.CANARY: Role.CANARY,
    events_pb2.Variant.SHADOW: Role.SHADOW,
    events_pb2.Variant.AB: Role.AB,
}


async def on_release(record: Record, releases: Releases) -> None:
    """A serving plan was published; a tombstone takes the model out of service at its next epoch only."""
    if not record.data:
        return
    await releases.accept(plan_of(events_pb2.ServingPlan.FromString(record.data), record.event.id))


def plan_of(wire: events_pb2.ServingPlan, event_id: str) -> Plan:
    """The plan as this room keeps it. PlanError when a variant has no role that is known here."""
    for variant in wire.variants:
        if variant.role not in _ROLES:
            raise PlanError(f"version {variant.version} of {wire.model!r} has the unknown role {variant.role}")
    variants = tuple(
        Variant(
            version=v.version,
            model_digest=v.model_digest,
            bundle_digest=v.bundle_digest,
            role=_ROLES[v.role],
            weight=v.weight,
            fallback=v.fallback,
            definition_version=v.definition_version,
        )
        for v in wire.variants
    )
    return Plan(
        wire.project, wire.model, wire.epoch, wire.salt, variants, wire.definition_version, wire.cause, event_id
    )


# Topic -> what is done with each of its records. Definitions and clocks are kept by the runtime's books.
HANDLERS: Mapping[str, Callable[[Record, Releases], Awaitable[None]]] = {
    "models.releases": on_release,
}
