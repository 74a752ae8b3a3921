"""What a job is made with, and how the files that it works on are laid out in its folder."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from millrace.definitions.canonical import from_canonical_json
from millrace.definitions.model import FieldType, Project
from millrace.stores.files import write_whole

from services.trainer.domain.examples import ColumnSpec
from services.trainer.domain.job import ChampionSpec, JobSpec, NetSettings
from services.trainer.domain.profiles import LABEL
from services.trainer.domain.runs import Run
from services.trainer.errors import JobFailed
from services.trainer.handlers import Desk
from services.trainer.ports import Features, Jobs, Registry


@dataclass(frozen=True, slots=True)
class Workshop:
    """What a run is made with. `patience_s` is how long neighbours may be away, wall time."""

    features: Features
    registry: Registry
    jobs: Jobs
    folder: Path
    code_version: str
    threads: int
    patience_s: float


async def lay_out(desk: Desk, shop: Workshop, run: Run, folder: Path) -> None:
    """The rows of a run's snapshot, verified, and what its rows are held against."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    await shop.features.read_snapshot(run.snapshot_digest, folder / "rows.arrow")
    if run.reference:
        async with desk.runs.read() as book:
            good = await book.run(run.reference)
        if good is None:
            raise JobFailed(f"run {run.reference}, whose rows this one's are held against, is gone")
        write_whole(folder / "reference.json", json.dumps(_comparable(good, run)).encode())


async def lay_champion(shop: Workshop, champion: ChampionSpec, folder: Path) -> None:
    """The graph that serves, where one does."""
    if champion.version:
        write_whole(folder / "champion.onnx", await shop.registry.get_artifact(champion.digest))


def job_spec(
    run: Run, shop: Workshop, *, mode: str, champion: ChampionSpec, judged: Sequence[tuple[int, int]]
) -> JobSpec:
    """What the job of a run is told. `judged`: holdouts of earlier gates of its model."""
    project = from_canonical_json(run.definition_json)
    return JobSpec(
        mode=mode,
        run_id=run.run_id,
        project=project.name,
        model=project.model.name,
        task=project.model.task.value,
        inputs=tuple(
            ColumnSpec(i.name, "BYTES" if i.type is FieldType.STRING else "FP32") for i in project.model.inputs
        ),
        net=NetSettings(**asdict(project.model.template)),
        gate=project.gate,
        baselines=project.model.baselines,
        definition_version=run.definition_version,
        snapshot_digest=run.snapshot_digest,
        champion=champion,
        code_version=shop.code_version,
        threads=shop.threads,
        reference=run.reference,
        accept_data=run.accept_data,
        min_rows=project.training.min_rows,
        judged=tuple(judged),
    )


def _comparable(good: Run, run: Run) -> dict[str, Any]:
    """What the report of `good` says of its rows, but for columns that are made in another way now: their values are
    others in every row, and nothing is known of them."""
    data: dict[str, Any] = json.loads(good.report_json)["data"]
    before, now = (_columns(from_canonical_json(one.definition_json)) for one in (good, run))
    same = {name for name, made in now.items() if before.get(name) == made}
    kept = {name: [one for one in data[name] if one["column"] in same] for name in ("findings", "carried")}
    columns = [column for column in data["profile"]["columns"] if column["name"] in same]
    return data | kept | {"profile": data["profile"] | {"columns": columns}}


def _columns(project: Project) -> dict[str, Any]:
    """How each column of a training set is made."""
    label = project.label
    made: dict[str, Any] = {LABEL: (label, project.source(label.source))}
    for item in project.model.inputs:
        views = [project.view(item.view), *(project.view(carrier.partition(".")[0]) for carrier in item.carriers)]
        made[item.name] = (item, views, [project.source(view.source) for view in views])
    return made
