"""Evidently's drift report of one window, in a process of its own: it is heavy, and its verdicts are only shown."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from millrace.runtime.forks import ForkFailed, ForkServer

from services.monitor.errors import ReportFailed
from services.monitor.ports import ReportVerdict

WORK = "making-"
NICENESS = 19  # a picture never takes a core from a decision


class EvidentlyReports:
    """Implements ports.Reports. One at a time: the caller waits."""

    def __init__(self, folder: Path, deadline_s: float) -> None:
        self._folder = folder
        self._deadline_s = deadline_s
        # Importing Evidently takes ten times as long as a report: it is done once, for the first one.
        environment = {"OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "1"}
        self._forks = ForkServer(["pandas", "evidently", "evidently.presets"], nice=NICENESS, environment=environment)

    async def make(
        self, reference: Sequence[dict[str, Any]], current: Sequence[dict[str, Any]], texts: Sequence[str], file: str
    ) -> ReportVerdict:
        """Writes `file` into the folder. Raises ReportFailed."""
        if not reference or not current:
            raise ReportFailed("no rows to compare")
        self._folder.mkdir(parents=True, exist_ok=True)
        body = {"reference": list(reference), "current": list(current), "texts": list(texts)}
        for left in self._folder.glob(f"{WORK}*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=WORK, dir=self._folder) as work:
            rows, page, said = (Path(work) / name for name in ("rows.json", "page.html", "said.json"))
            rows.write_text(json.dumps(body), encoding="utf-8")
            verdict = await self._run(rows, page, said)
            page.replace(self._folder / file)
        return verdict

    def forget(self, files: Sequence[str]) -> None:
        """Removes pages that are no longer listed."""
        for file in files:
            (self._folder / file).unlink(missing_ok=True)

    async def _run(self, rows: Path, page: Path, said: Path) -> ReportVerdict:
        words = (str(rows), str(page), str(said))
        try:
            status = await self._forks.run(f"{__name__}:main", *words, deadline_s=self._deadline_s)
        except TimeoutError:
            raise ReportFailed(f"no report within {self._deadline_s:g} s") from None
        except ForkFailed as error:
            raise ReportFailed(str(error)) from error
        if status:
            raise ReportFailed(f"Evidently's process ended with status {status}")
        return _verdict(said)


def _verdict(said: Path) -> ReportVerdict:
    answer = json.loads(said.read_text(encoding="utf-8"))
    if "error" in answer:
        raise ReportFailed(f"Evidently could not make it: {answer['error']}")
    return ReportVerdict(**answer)


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


def main(rows: str, page: str, said: str) -> None:
    """In the process of its own: from {"reference": rows, "current": rows, "texts": names} in the file `rows` to `page`
    and, in `said`, {"drifted": n, "columns": n} or {"error": words}."""
    body = json.loads(Path(rows).read_text(encoding="utf-8"))
    try:
        reference, current = (frame_of(body[side], body["texts"]) for side in ("reference", "current"))
        answer = asdict(write_report(reference, current, body["texts"], Path(page)))
    except Exception as error:
        answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())[-300:]}
    Path(said).write_text(json.dumps(answer), encoding="utf-8")
