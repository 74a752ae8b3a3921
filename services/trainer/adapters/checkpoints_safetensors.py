"""One file per epoch, written aside, synced, then renamed: a reader sees a whole checkpoint or none. No pickle."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from millrace.stores.files import write_whole
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

log = logging.getLogger(__name__)

KEPT = 2  # the newest may be cut off by a crash of the machine; the one before it is whole


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State after `epoch` epochs: the net with its optimiser, the best weights so far, and the curve."""

    epoch: int = 0
    tensors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    best: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    best_epoch: int = 0
    curve: list[tuple[int, float, float]] = field(default_factory=list)


class Checkpoints:
    """The checkpoints of one run. `fingerprint` names data and settings: a checkpoint of others is not taken."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder
        self._fingerprint = fingerprint
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, state: Checkpoint) -> None:
        """Writes `state` and drops those that are no longer needed."""
        facts = {"epoch": state.epoch, "best_epoch": state.best_epoch, "curve": state.curve}
        tensors = {f"state/{k}": v for k, v in state.tensors.items()} | {f"best/{k}": v for k, v in state.best.items()}
        data = save(
            {name: np.ascontiguousarray(value).reshape(np.shape(value)) for name, value in tensors.items()},
            metadata={"fingerprint": self._fingerprint, "facts": json.dumps(facts)},
        )
        write_whole(self._folder / f"epoch-{state.epoch:05d}.safetensors", data)
        for old in self._files()[:-KEPT]:
            old.unlink()

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole and of this run's data and settings."""
        for file in reversed(self._files()):
            try:
                state = self._read(file)
            except (SafetensorError, OSError, ValueError, KeyError) as error:
                log.warning("checkpoint %s is not whole and is skipped: %s", file.name, error)
                continue
            if state is not None:
                return state
        return None

    def _read(self, file: Path) -> Checkpoint | None:
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            if metadata.get("fingerprint") != self._fingerprint:
                return None
            facts = json.loads(metadata["facts"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
        return Checkpoint(
            epoch=int(facts["epoch"]),
            tensors={k.removeprefix("state/"): v for k, v in tensors.items() if k.startswith("state/")},
            best={k.removeprefix("best/"): v for k, v in tensors.items() if k.startswith("best/")},
            best_epoch=int(facts["best_epoch"]),
            curve=[(int(e), float(t), float(v)) for e, t, v in facts["curve"]],
        )

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("epoch-*.safetensors"))
