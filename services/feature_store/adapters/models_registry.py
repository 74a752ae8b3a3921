"""What the registry knows of a project's definitions and models, over gRPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from millrace.definitions import from_canonical_json
from millrace.definitions.model import Project
from millrace.runtime.errors import NotFound, Unavailable
from millrace.wire.registry.v1.service_pb2 import GetDefinitionRequest, ListVersionsRequest
from millrace.wire.registry.v1.service_pb2_grpc import RegistryStub

from services.feature_store.domain.lineage import ModelVersion

DEADLINE_S = 10.0
PAGE = 200
MOST_VERSIONS = 5_000  # of one model: a version a day for thirteen years
MOST_DEFINITIONS = 500  # of one project that are looked at, the newest ones


class RegistryModels:
    """A ModelBook. `channel` None: no address was given. A definition never changes, so those read are kept."""

    def __init__(self, channel: grpc.aio.Channel | None) -> None:
        self._stub: Any = None
        if channel is not None:
            self._stub = RegistryStub(channel)  # type: ignore[no-untyped-call]  # generated
        self._kept: dict[str, dict[int, Project]] = {}

    async def definitions(self, project: str) -> Mapping[int, Project]:
        """As `ModelBook.definitions`."""
        kept = self._kept.setdefault(project, {})
        newest = await self._ask("GetDefinition", GetDefinitionRequest(project=project))
        for version in range(newest.version, max(newest.version - MOST_DEFINITIONS, 0), -1):
            if version not in kept:
                asked = GetDefinitionRequest(project=project, version=version)
                published = newest if version == newest.version else await self._ask("GetDefinition", asked)
                kept[version] = from_canonical_json(published.canonical_json)
        return kept

    async def versions(self, project: str, models: Sequence[str]) -> list[ModelVersion]:
        """As `ModelBook.versions`."""
        found: list[ModelVersion] = []
        for model in models:
            before = 0
            while len(found) < MOST_VERSIONS:
                asked = ListVersionsRequest(project=project, model=model, before_version=before, limit=PAGE)
                try:
                    page = (await self._ask("ListVersions", asked)).versions
                except NotFound:
                    break  # declared, and never trained
                found += [ModelVersion(v.model, v.version, v.state, v.definition_version) for v in page]
                if not page or page[-1].version <= 1:
                    break
                before = page[-1].version
        return found

    async def _ask(self, method: str, request: Any) -> Any:
        if self._stub is None:
            raise Unavailable("no address of the registry: set MILLRACE_REGISTRY_ADDRESS")
        try:
            return await getattr(self._stub, method)(request, timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise NotFound(error.details() or "the registry does not know it") from error
            raise Unavailable(f"the registry did not answer ({error.code().name.lower()})") from error
