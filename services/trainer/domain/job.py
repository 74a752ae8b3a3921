"""What a job's process is told, and what it tells back: plain values that travel as JSON files in the run's folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from millrace.definitions.canonical import from_plain, to_plain
from millrace.definitions.gate import Gate

from services.trainer.domain.examples import ColumnSpec

TRAIN, GATE = "train", "gate"


@dataclass(frozen=True, slots=True)
class NetSettings:
    """Which net and how it is fitted."""

    kind: str
    hidden: tuple[int, ...]
    epochs: int
    learning_rate: float
    batch_size: int
    seed: int


@dataclass(frozen=True, slots=True)
class ChampionSpec:
    """The model that serves now; `version` 0: there is none. Its graph lies in the folder as `champion.onnx`."""

    version: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """Everything a job depends on beside the rows, so that the same spec and rows give the same model."""

    mode: str  # TRAIN, or GATE: the model in the folder is gated again
    run_id: str
    project: str
    model: str
    task: str  # binary, regression
    inputs: tuple[ColumnSpec, ...]
    net: NetSettings
    gate: Gate
    baselines: tuple[str, ...]
    definition_version: int
    snapshot_digest: str
    champion: ChampionSpec
    code_version: str
    threads: int = 1
    reference: str = ""  # the run whose rows were the last good ones, told in `reference.json`; empty: none
    accept_data: bool = False  # a person says that the rows are as they should be
    min_rows: int = 0  # that have to be left when rows that are not fit are taken away
    judged: tuple[tuple[int, int], ...] = ()  # holdouts of earlier gates of the model: first and last moment

    @property
    def is_binary(self) -> bool:
        """Whether the label is a class."""
        return self.task == "binary"

    @property
    def fingerprint(self) -> str:
        """Names what the fit depends on: a checkpoint under another name is of another fit."""
        return json.dumps(
            [
                asdict(self.net), [asdict(i) for i in self.inputs], self.task, self.gate.holdout, self.snapshot_digest,
                self.reference, self.accept_data,
            ]
        )  # fmt: skip

    def to_json(self) -> str:
        """The spec as text."""
        return json.dumps(to_plain(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> JobSpec:
        """The spec that `to_json` wrote."""
        spec: JobSpec = from_plain(cls, json.loads(text))
        return spec


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a finished job leaves; `declined` is set, and nothing else, when the rows do not allow a fit."""

    verdict: str = ""  # PASSED, REFUSED
    reason: str = ""
    model_digest: str = ""
    bundle_digest: str = ""
    report_digest: str = ""
    metrics: tuple[tuple[str, float], ...] = ()
    declined: str = ""
    template: str = ""  # the kind of net that stands; not the declared one where a simpler one was not worse

    def to_json(self) -> str:
        """The result as text."""
        return json.dumps(to_plain(self))

    @classmethod
    def from_json(cls, text: str) -> JobResult:
        """The result that `to_json` wrote."""
        result: JobResult = from_plain(cls, json.loads(text))
        return result
