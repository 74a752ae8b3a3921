"""The nets and their fitting, in torch, on the CPU. Only the job's process imports this module.

A linear net has one minimum, and the penalty of ridge and logistic regression (half the squared weights, per row) keeps
it from following the sample: it is fitted to the end. Stopped early it would be half fitted wherever the validation
rows, which are the later ones, have another base rate. Nets with hidden layers keep the weights of their best epoch.

The same data, settings and seed give the same weights bit for bit on one thread: every epoch draws its order from
(seed, epoch), so a run that resumes from the checkpoint of an epoch goes on exactly as if it had never stopped.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from services.trainer.adapters.adam_torch import Adam, parameters_of, set_parameters
from services.trainer.adapters.checkpoints_safetensors import Checkpoint, Checkpoints
from services.trainer.domain.encoding import EncodedRows
from services.trainer.domain.gate import LINEAR
from services.trainer.domain.job import NetSettings

PATIENCE_EPOCHS = 3
WEIGHT_DECAY = 1e-5
LINEAR_RATE = 10  # times the declared rate: a convex loss allows it, and a dozen epochs then reach its minimum
DROPOUT = 0.2
MIN_STEPS = 50  # of an epoch: the declared batch size is an upper bound, a small set is cut into more batches
MIN_BATCH_ROWS = 32
VALIDATION_CHUNK_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class Epoch:
    """One point of the learning curve."""

    epoch: int
    train_loss: float
    validation_loss: float


@dataclass(slots=True)
class Fitted:
    """The weights that were kept, and the way there."""

    weights: dict[str, NDArray[np.float32]]
    curve: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0


class Net(nn.Module):
    """`linear`: a weight per number and per string code. `mlp`: embeddings and numbers through hidden layers.
    `wide-and-deep`: the sum of both. Returns float32[n]: log odds, or the standardised number.

    It begins as the constant `start`: the deep part's last layer is zero, so it only adds what the data ask for."""

    def __init__(self, settings: NetSettings, dense_size: int, code_sizes: Sequence[int], start: float = 0.0) -> None:
        super().__init__()
        self.wide = settings.kind in (LINEAR, "wide-and-deep")
        self.deep = settings.kind in ("mlp", "wide-and-deep")
        self.bias = nn.Parameter(torch.full((1,), start))
        if self.wide:
            self.wide_dense = nn.Parameter(torch.zeros(dense_size, 1))
            self.wide_tables = nn.ParameterList(nn.Parameter(torch.zeros(size, 1)) for size in code_sizes)
        if self.deep:
            dims = [embedding_size(size) for size in code_sizes]
            self.deep_tables = nn.ParameterList(
                nn.Parameter(torch.randn(size, dim) * 0.05) for size, dim in zip(code_sizes, dims, strict=True)
            )
            widths = [dense_size + sum(dims), *settings.hidden, 1]
            self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
            nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]
            nn.init.zeros_(self.layers[-1].bias)  # type: ignore[arg-type]

    def forward(self, dense: Tensor, codes: Tensor) -> Tensor:
        """One number per row."""
        out = self.bias.expand(len(dense))
        if self.wide:
            out = out + (dense @ self.wide_dense).squeeze(1)
            for place, table in enumerate(self.wide_tables):
                out = out + nn.functional.embedding(codes[:, place], table).squeeze(1)
        if self.deep:
            parts = [nn.functional.embedding(codes[:, i], table) for i, table in enumerate(self.deep_tables)]
            hidden = torch.cat([dense, *parts], dim=1)
            for layer in list(self.layers)[:-1]:
                hidden = nn.functional.dropout(torch.relu(layer(hidden)), DROPOUT, self.training)
            out = out + self.layers[-1](hidden).squeeze(1)
        return out


def embedding_size(codes: int) -> int:
    """Dimensions of an embedding of `codes` values."""
    return int(min(16, max(2, round(1.6 * codes**0.4))))


class Trainer:
    """Fits one net; keeps a checkpoint per epoch and goes on from the last good one."""

    def __init__(self, settings: NetSettings, *, binary: bool, checkpoints: Checkpoints, threads: int) -> None:
        self._settings = settings
        self._binary = binary
        self._convex = settings.kind == LINEAR
        self._loss = nn.BCEWithLogitsLoss() if binary else nn.MSELoss()
        self._checkpoints = checkpoints
        torch.set_num_threads(threads)

    def fit(
        self, fit: EncodedRows, validation: EncodedRows, code_sizes: Sequence[int], on_epoch: Callable[[Epoch], None]
    ) -> Fitted:
        """Trains until the epochs are done or, with hidden layers, validation has not improved for three of them."""
        torch.manual_seed(self._settings.seed)
        net = Net(self._settings, fit.dense.shape[1], code_sizes, self._start(fit.target))
        decay = 1 / max(1, len(fit.target)) if self._convex else WEIGHT_DECAY
        adam = Adam(net.named_parameters(), weight_decay=decay)
        rows, judge = _tensors(fit), _tensors(validation)
        state = self._checkpoints.newest() or Checkpoint()
        if state.epoch:
            _restore(net, adam, state)
        fitted = Fitted(dict(state.best), [Epoch(*point) for point in state.curve], state.best_epoch)
        for point in fitted.curve:
            on_epoch(point)
        while len(fitted.curve) < self._settings.epochs and not self._has_settled(fitted):
            epoch = len(fitted.curve) + 1
            train_loss = self._train_epoch(net, adam, rows, epoch)
            point = Epoch(epoch, train_loss, self._evaluate(net, judge))
            fitted.curve.append(point)
            if self._convex or min(p.validation_loss for p in fitted.curve) == point.validation_loss:
                fitted.best_epoch = epoch
                fitted.weights = parameters_of(net)
            self._checkpoints.keep(_capture(net, adam, fitted))
            on_epoch(point)
        return fitted

    def _start(self, target: NDArray[np.float32]) -> float:
        """What is answered before anything is learned: the base rate's log odds, or the mean."""
        mean = float(target.mean())
        if not self._binary:
            return mean
        share = min(max(mean, 1e-3), 1 - 1e-3)
        return math.log(share / (1 - share))

    def _has_settled(self, fitted: Fitted) -> bool:
        if self._convex or not fitted.curve:
            return False
        return len(fitted.curve) - fitted.best_epoch >= PATIENCE_EPOCHS

    def _train_epoch(self, net: Net, adam: Adam, rows: tuple[Tensor, Tensor, Tensor], epoch: int) -> float:
        net.train()
        torch.manual_seed(self._settings.seed * 1_000 + epoch)  # dropout draws the same when an epoch is done again
        rate = self._rate(epoch)
        order = torch.from_numpy(np.random.default_rng([self._settings.seed, epoch]).permutation(len(rows[2])))
        total = torch.zeros(())
        for batch in torch.split(order, self._batch_rows(len(order))):
            dense, codes, target = (part.index_select(0, batch) for part in rows)
            loss = self._loss(net(dense, codes), target)
            loss.backward()
            adam.step(rate)
            total += loss.detach() * len(batch)
        return float(total) / max(1, len(order))

    def _batch_rows(self, rows: int) -> int:
        return min(self._settings.batch_size, max(MIN_BATCH_ROWS, rows // MIN_STEPS))

    def _rate(self, epoch: int) -> float:
        """A cosine from the declared rate (of a linear net LINEAR_RATE times that) down to a twentieth of it."""
        share = (epoch - 1) / max(1, self._settings.epochs)
        first = self._settings.learning_rate * (LINEAR_RATE if self._convex else 1)
        return first * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))

    @torch.no_grad()
    def _evaluate(self, net: Net, rows: tuple[Tensor, Tensor, Tensor]) -> float:
        net.train(False)
        return float(self._loss(_forward(net, rows[0], rows[1]), rows[2]))


@torch.no_grad()
def scores(settings: NetSettings, weights: dict[str, NDArray[np.float32]], rows: EncodedRows) -> NDArray[np.float32]:
    """Raw outputs of a net with `weights`, float32[n]."""
    net = Net(settings, rows.dense.shape[1], _code_sizes(weights))
    set_parameters(net, weights)
    net.train(False)
    return np.asarray(_forward(net, torch.from_numpy(rows.dense), torch.from_numpy(rows.codes)).numpy())


def _forward(net: Net, dense: Tensor, codes: Tensor) -> Tensor:
    pairs = zip(torch.split(dense, VALIDATION_CHUNK_ROWS), torch.split(codes, VALIDATION_CHUNK_ROWS), strict=True)
    return torch.cat([net(d, c) for d, c in pairs])


def _code_sizes(weights: dict[str, NDArray[np.float32]]) -> list[int]:
    kind = "wide_tables" if "wide_dense" in weights else "deep_tables"
    sizes = {int(name.rsplit(".", 1)[1]): len(value) for name, value in weights.items() if name.startswith(kind)}
    return [sizes[place] for place in sorted(sizes)]


def _tensors(rows: EncodedRows) -> tuple[Tensor, Tensor, Tensor]:
    return torch.from_numpy(rows.dense), torch.from_numpy(rows.codes), torch.from_numpy(rows.target)


def _capture(net: Net, adam: Adam, fitted: Fitted) -> Checkpoint:
    tensors = {f"net.{name}": value for name, value in parameters_of(net).items()}
    tensors |= {f"adam.{name}": value for name, value in adam.state().items()}
    curve = [(p.epoch, p.train_loss, p.validation_loss) for p in fitted.curve]
    return Checkpoint(len(curve), tensors, fitted.weights, fitted.best_epoch, curve)


def _restore(net: Net, adam: Adam, state: Checkpoint) -> None:
    set_parameters(net, _under("net.", state.tensors))
    adam.restore(_under("adam.", state.tensors))


def _under(prefix: str, tensors: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
