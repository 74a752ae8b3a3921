"""A variant becomes ready: artifacts by digest, verified; a session; warm; its golden rows met."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Executor
from dataclasses import replace

from services.inference.domain.bundle import Bundle, BundleError, bundle_of, check_fit, parse_bundle
from services.inference.domain.plan import Plan, Variant
from services.inference.errors import ModelRejected
from services.inference.ports import Artifacts, Session, Sessions

from .running import warm_and_check
from .serving import Live, Loaded

log = logging.getLogger(__name__)


class Loader:
    """Loads variants, one at a time, away from the event loop."""

    def __init__(self, artifacts: Artifacts, sessions: Sessions, pool: Executor, *, inline_max_ms: float) -> None:
        self._artifacts = artifacts
        self._sessions = sessions
        self._pool = pool
        self._inline_max_ms = inline_max_ms

    async def load(self, plan: Plan, variant: Variant, current: Live | None) -> Loaded:
        """The variant, ready. What runs already under the same digests is taken over.

        Raises ModelRejected or the artifact's failures.
        """
        running = current.loaded.get(variant.version) if current else None
        if running is not None and running.variant.digests == variant.digests:
            return replace(running, variant=variant)
        model = await self._artifacts.get(variant.model_digest)
        bundle = await self._artifacts.get(variant.bundle_digest) if variant.bundle_digest else b""
        loop = asyncio.get_running_loop()
        loaded = await loop.run_in_executor(self._pool, self._build, variant, model, bundle)
        facts = {"model": plan.model, "version": variant.version, "inline": loaded.is_short}
        log.info("version is ready", extra=facts)
        return loaded

    def _build(self, variant: Variant, model: bytes, bundle: bytes) -> Loaded:
        session = self._sessions.load(model)
        try:
            known = _fitting(bundle, session) if bundle else bundle_of(session.inputs, session.outputs)
            by_key = all(len(s.shape) == 1 and s.datatype in ("FP32", "BYTES") for s in session.inputs)
            loaded = Loaded(variant, session, known, by_key)
            return replace(loaded, is_short=warm_and_check(loaded) <= self._inline_max_ms)
        except BundleError as error:
            raise ModelRejected(str(error)) from error
        except ModelRejected:
            raise
        except Exception as error:  # the engine's errors share no base class
            raise ModelRejected(f"the model cannot be run: {error}") from error


def _fitting(data: bytes, session: Session) -> Bundle:
    bundle = parse_bundle(data)
    check_fit(bundle, session.inputs, session.outputs)
    return bundle
