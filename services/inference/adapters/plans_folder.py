"""The last good plan of each model, as one JSON file each: what a cold start without control plane serves."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path

from millrace.stores.files import write_whole

from services.inference.domain.plan import Plan, PlanError, Role, Variant

log = logging.getLogger(__name__)
FORMAT = "millrace.plan/1"


class FolderPlans:
    """Plans below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self) -> list[Plan]:
        """All that can be read."""
        plans = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                plans.append(_plan(json.loads(path.read_text(encoding="utf-8"))))
            except (ValueError, KeyError, TypeError) as error:
                log.error("%s cannot be read and is left out: %s", path, error)
        return plans

    def save(self, plan: Plan) -> None:
        """Replace the plan of its model."""
        name = hashlib.sha256(plan.model.encode()).hexdigest()[:32]  # a model's name need not be a file's name
        document = {"format": FORMAT, "plan": asdict(plan)}
        write_whole(self._folder / f"{name}.json", json.dumps(document, indent=1).encode())


def _plan(document: dict[str, object]) -> Plan:
    if document["format"] != FORMAT:
        raise PlanError(f"format {document['format']!r}; expected {FORMAT!r}")
    facts = dict(document["plan"])  # type: ignore[call-overload]
    variants = tuple(Variant(**{**v, "role": Role(v["role"])}) for v in facts.pop("variants"))
    plan = Plan(**facts, variants=variants)
    plan.check()
    return plan
