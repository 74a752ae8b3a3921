"""Models brought by people: an ONNX file is checked against the definition, gets its bundle, and is registered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from millrace.definitions import Project
from millrace.wire.registry.v1 import service_pb2
from millrace.wire.registry.v1.service_pb2 import ModelVersion, RegisterVersionRequest

from services.registry.adapters.definitions_sql import read_project
from services.registry.adapters.events_wire import Cause, Subject
from services.registry.domain import bundle as bundles
from services.registry.domain import decisions
from services.registry.domain.state import Candidate, Evidence, ReleaseState
from services.registry.errors import BadModel, UnknownThing
from services.registry.handlers.definitions import get
from services.registry.handlers.desk import Desk
from services.registry.handlers.release import conclude
from services.registry.ports import Inspection

PAGE = 50
MAX_PAGE = 500
_WAITING = "registered, not released: there is no gate for a model from outside; to release it push it with force"


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a pushed model is to go."""

    project: Project
    definition_version: int
    champion: ModelVersion | None


async def register(desk: Desk, request: RegisterVersionRequest, actor: str, traceparent: str) -> ModelVersion:
    """Registers an ONNX file; with `force` it becomes champion without a gate, audited by actor and reason.

    Pushing the champion's own bytes again changes nothing. Raises BadModel, UnknownThing, ObjectMissing, ObjectCorrupt.
    """
    if request.force and not (request.reason and actor):
        raise BadModel("a forced release needs a reason and an actor")
    target = await _target(desk, request.project)
    if target.champion is not None and target.champion.model_digest == request.model_digest:
        return target.champion
    bundle_digest = await _bundle(desk, request, target)
    candidate = Candidate(
        run_id="",
        model_digest=request.model_digest,
        bundle_digest=bundle_digest,
        evidence=Evidence(target.champion.version if target.champion else 0, ""),
        passed=False,
        reason=request.reason if request.force else "; ".join(filter(None, (request.reason, _WAITING))),
        definition_version=target.definition_version,
        clock_us=desk.clock.now_us(target.project),
        actor=actor,
    )
    return await _write(desk, target, candidate, request.force, traceparent)


async def version(desk: Desk, request: service_pb2.GetVersionRequest) -> ModelVersion:
    """One version (0: the champion); raises UnknownThing."""
    async with desk.database.read() as transaction:
        releases = desk.releases(transaction)
        number = request.version
        if not number:
            plan = await releases.plan(request.model)
            number = plan.variants[0].version if plan and plan.variants else 0
        found = await releases.version(request.model, number)
    if found is None or request.project not in ("", found.project):
        raise UnknownThing(f"model {request.model} has no version {request.version or 'that serves'}")
    return found


async def versions(desk: Desk, request: service_pb2.ListVersionsRequest) -> list[ModelVersion]:
    """A page of versions, newest first; raises UnknownThing when there is no such model."""
    limit = min(request.limit or PAGE, MAX_PAGE)
    async with desk.database.read() as transaction:
        releases = desk.releases(transaction)
        owner = await releases.owner(request.model)
        if not owner or request.project not in ("", owner):
            raise UnknownThing(f"there is no model {request.model} in project {request.project}")
        return await releases.page(request.model, request.before_version, limit)


async def lineage(desk: Desk, request: service_pb2.GetVersionRequest) -> service_pb2.LineageReply:
    """A version and everything that ever happened to it, oldest first."""
    found = await version(desk, request)
    async with desk.database.read() as transaction:
        events = await desk.releases(transaction).moves(found.model, found.version)
    return service_pb2.LineageReply(version=found, events=events)


async def _target(desk: Desk, project: str) -> _Target:
    published = await get(desk, project, 0)
    declared = read_project(published.canonical_json)
    async with desk.database.read() as transaction:
        releases = desk.releases(transaction)
        plan = await releases.plan(declared.model.name)
        champion = plan.variants[0].version if plan and plan.variants else 0
        found = await releases.version(declared.model.name, champion) if champion else None
    return _Target(declared, published.version, found)


async def _bundle(desk: Desk, request: RegisterVersionRequest, target: _Target) -> str:
    """Digest of the model's bundle: the one that came with it, checked, or one derived from the champion's."""
    project = target.project
    model = await desk.objects.get(request.model_digest)
    own = await _read_bundle(desk, request.bundle_digest) if request.bundle_digest else None
    champion = await _read_bundle(desk, target.champion.bundle_digest) if target.champion else None
    problems = bundles.bundle_problems(project, own) if own else []
    if problems:
        raise BadModel("; ".join(problems))
    rows = own["golden"]["inputs"] if own else bundles.golden_rows(project, champion)
    found = await desk.inspector.inspect(model, rows)
    problems = bundles.graph_problems(project, _graph_inputs(found), found.output.name)
    problems = problems or bundles.output_problems(project, found.outputs, own["golden"]["outputs"] if own else None)
    if problems:
        raise BadModel("the model does not fit the definition: " + "; ".join(problems))
    if own:
        return request.bundle_digest
    derived = bundles.derive_bundle(project, target.definition_version, rows, found.outputs, champion)
    return await desk.objects.put(bundles.write_bundle(derived))


async def _read_bundle(desk: Desk, digest: str) -> bundles.Bundle:
    try:
        return bundles.read_bundle(await desk.objects.get(digest))
    except ValueError as error:
        raise BadModel(f"bundle {digest}: {error}") from error


def _graph_inputs(found: Inspection) -> Mapping[str, tuple[str, int]]:
    return {tensor.name: (tensor.type, tensor.dimensions) for tensor in found.inputs}


async def _write(desk: Desk, target: _Target, candidate: Candidate, force: bool, traceparent: str) -> ModelVersion:
    name = target.project.model.name
    subject = Subject(target.project.name, name, target.definition_version)
    cause = Cause("", candidate.actor, desk.wall_us(), candidate.clock_us, traceparent)
    async with desk.database.transaction() as transaction:
        releases = desk.releases(transaction)
        before = await releases.load(name) or ReleaseState()
        decide = decisions.decide_forced(before, candidate, candidate.clock_us) if force else None
        decision = decide or decisions.decide_registered(before, candidate)
        await conclude(releases, subject, before, decision, cause)
        found = await releases.version(name, decision.state.last_number)
    if found is None:
        raise UnknownThing(f"model {name} was not registered")
    return found
