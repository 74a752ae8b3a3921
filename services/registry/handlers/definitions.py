"""Definitions: a project file comes in, is checked against its history, kept, and published."""

from __future__ import annotations

from millrace.bus.topics import load_topics
from millrace.definitions import DefinitionErrors, Project, changes, digest, load_text, to_canonical_json
from millrace.stores.errors import StoreConflict
from millrace.stores.sql import Transaction
from millrace.wire.registry.v1 import service_pb2
from millrace.wire.registry.v1.events_pb2 import DefinitionPublished

from services.registry.adapters.definitions_sql import Definitions, read_project
from services.registry.adapters.events_wire import Cause, definition_message
from services.registry.errors import BadDefinition, NameTaken, StaleDefinition, UnknownThing
from services.registry.handlers.desk import Desk


async def apply(desk: Desk, request: service_pb2.ApplyRequest, actor: str, traceparent: str) -> service_pb2.ApplyReply:
    """Accepts a project file, or raises with every error; unchanged content keeps its version.

    Raises BadDefinition, NameTaken, StaleDefinition. Topics exist before anybody hears of the definition.
    """
    async with desk.database.read() as transaction:
        project = await _load(transaction, request)
        reply, current = await _compare(transaction, project)
        await _check_name(desk, transaction, project)
    if request.plan_only or not reply.changed:
        return reply
    _check_base(request, current)
    await desk.topics.ensure_topics(load_topics().for_project(project.name, [s.name for s in project.sources]))
    try:
        async with desk.database.transaction() as transaction:
            _check_base(request, await Definitions(transaction).current(project.name))
            await _check_name(desk, transaction, project)
            await _write(desk, transaction, project, request, actor, traceparent)
    except StoreConflict as error:
        raise StaleDefinition(f"project {project.name} was changed by somebody else just now: read it again") from error
    reply.version = request.based_on_version + 1
    return reply


async def get(desk: Desk, project: str, version: int) -> DefinitionPublished:
    """A definition (0: the current one); raises UnknownThing."""
    async with desk.database.read() as transaction:
        definitions = Definitions(transaction)
        found = await (definitions.version(project, version) if version else definitions.current(project))
    if found is None:
        raise UnknownThing(f"there is no project {project}" + (f" with a version {version}" if version else ""))
    return found


async def projects(desk: Desk) -> list[DefinitionPublished]:
    """The current definition of every project, by name."""
    async with desk.database.read() as transaction:
        return await Definitions(transaction).all()


async def _load(transaction: Transaction, request: service_pb2.ApplyRequest) -> Project:
    name = request.file_name or "project.yaml"
    try:
        project = load_text(request.yaml, name)
        history = await Definitions(transaction).history(project.name)
        return load_text(request.yaml, name, history) if history else project
    except DefinitionErrors as error:
        raise BadDefinition(str(error)) from error


async def _compare(
    transaction: Transaction, project: Project
) -> tuple[service_pb2.ApplyReply, DefinitionPublished | None]:
    current = await Definitions(transaction).current(project.name)
    if current is None:
        return service_pb2.ApplyReply(project=project.name, changed=True, changes=changes(None, project)), None
    changed = current.digest != digest(project)
    lines = changes(read_project(current.canonical_json), project) if changed else []
    reply = service_pb2.ApplyReply(project=project.name, version=current.version, changed=changed, changes=lines)
    return reply, current


def _check_base(request: service_pb2.ApplyRequest, current: DefinitionPublished | None) -> None:
    version = current.version if current else 0
    if request.based_on_version == version:
        return
    if current is None:
        raise StaleDefinition(f"the project is new: it is based on version 0, not {request.based_on_version}")
    raise StaleDefinition(
        f"project {current.project} is at version {version}, not {request.based_on_version}: look at what changed,"
        f" then apply based on {version}"
    )


async def _check_name(desk: Desk, transaction: Transaction, project: Project) -> None:
    owner = await desk.releases(transaction).owner(project.model.name)
    if owner not in ("", project.name):
        raise NameTaken(f"model.name: the model {project.model.name} belongs to project {owner}: choose another name")


async def _write(
    desk: Desk,
    transaction: Transaction,
    project: Project,
    request: service_pb2.ApplyRequest,
    actor: str,
    traceparent: str,
) -> None:
    published = DefinitionPublished(
        project=project.name,
        version=request.based_on_version + 1,
        digest=digest(project),
        canonical_json=to_canonical_json(project),
        actor=actor,
    )
    now_us = desk.wall_us()
    await desk.releases(transaction).claim(project.name, project.model.name)
    await Definitions(transaction).add(published, request.yaml, now_us)
    cause = Cause("", actor, now_us, 0, traceparent)
    await transaction.publish(definition_message(published, cause))
