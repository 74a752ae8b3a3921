"""Evidently's drift report of one window, made in a child process: it is heavy, and its verdicts are only shown.

`python -m services.monitor.adapters.drift_evidently IN OUT` reads {"reference": rows, "current": rows, "texts": [...]}
from the file IN, writes the HTML page OUT and prints {"drifted": n, "columns": n}.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.monitor.errors import ReportFailed
from services.monitor.ports import ReportVerdict

NICENESS = 19  # a picture never takes a core from a decision


class EvidentlyReports:
    """Implements ports.Reports. One at a time: the caller waits."""

    def __init__(self, folder: Path, deadline_s: float) -> None:
        self._folder = folder
        self._deadline_s = deadline_s

    async def make(
        self, reference: Sequence[dict[str, Any]], current: Sequence[dict[str, Any]], texts: Sequence[str], file: str
    ) -> ReportVerdict:
        """Writes `file` into the folder. Raises ReportFailed."""
        if not reference or not current:
            raise ReportFailed("no rows to compare")
        self._folder.mkdir(parents=True, exist_ok=True)
        body = {"reference": list(reference), "current": list(current), "texts": list(texts)}
        with tempfile.NamedTemporaryFile("w", suffix=".json", dir=self._folder, encoding="utf-8") as rows:
            json.dump(body, rows)
            rows.flush()
            return await self._run(rows.name, self._folder / file)

    def forget(self, files: Sequence[str]) -> None:
        """Removes pages that are no longer listed."""
        for file in files:
            (self._folder / file).unlink(missing_ok=True)

    async def _run(self, rows: str, page: Path) -> ReportVerdict:
        partial = page.with_suffix(".part")
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__, rows, str(partial),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "1"},
        )  # fmt: skip
        try:
            said, error = await asyncio.wait_for(child.communicate(), self._deadline_s)
        except TimeoutError:
            raise ReportFailed(f"no report within {self._deadline_s:g} s") from None
        finally:
            if child.returncode is None:
                child.kill()
                await asyncio.shield(child.wait())
        lines = said.decode().strip().splitlines()
        if child.returncode or not lines:
            partial.unlink(missing_ok=True)
            raise ReportFailed(f"Evidently ended with {child.returncode}: {error.decode()[-300:].strip()}")
        partial.replace(page)
        return ReportVerdict(**json.loads(lines[-1]))


def write_report(reference: Any, current: Any, texts: Sequence[str], page: Path) -> ReportVerdict:
    """The report of two pandas frames. Columns without any value on a side are left out: Evidently cannot take them."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    usable = [c for c in reference.columns if c in current.columns and _has_values(reference[c], current[c])]
    definition = DataDefinition(
        numerical_columns=[c for c in usable if c not in texts], categorical_columns=[c for c in usable if c in texts]
    )
    sides = [Dataset.from_pandas(frame[usable], data_definition=definition) for frame in (current, reference)]
    result = Report([DataDriftPreset()]).run(*sides)
    result.save_html(str(page))
    count = next(m["value"]["count"] for m in result.dict()["metrics"] if m["metric_name"].startswith("Drifted"))
    return ReportVerdict(drifted=int(count), columns=len(usable))


def frame_of(rows: Sequence[dict[str, Any]], texts: Sequence[str]) -> Any:
    """A pandas frame with one type per column: a text without a value is None, everything else a float.

    Left to itself pandas makes objects of booleans with gaps, and Evidently fails on them.
    """
    import pandas as pd

    frame = pd.DataFrame(list(rows))
    for name in frame.columns:
        column = frame[name]
        frame[name] = column.replace({"": None}) if name in texts else pd.to_numeric(column).astype("float64")
    return frame


def _has_values(*columns: Any) -> bool:
    return all(bool(column.notna().any()) for column in columns)


def main() -> None:
    """The child."""
    os.nice(NICENESS)
    body = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    reference, current = (frame_of(body[side], body["texts"]) for side in ("reference", "current"))
    verdict = write_report(reference, current, body["texts"], Path(sys.argv[2]))
    print(json.dumps({"drifted": verdict.drifted, "columns": verdict.columns}))


if __name__ == "__main__":
    main()
