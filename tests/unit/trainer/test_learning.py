"""Fitting is repeatable, also when it was interrupted."""

import numpy as np
import pytest

from services.trainer.adapters.baselines_sklearn import linear
from services.trainer.adapters.checkpoints_safetensors import Checkpoints
from services.trainer.adapters.network_torch import Trainer, scores
from services.trainer.domain.encoding import EncodedRows
from services.trainer.domain.job import NetSettings

SETTINGS = NetSettings("wide-and-deep", (8,), epochs=5, learning_rate=0.01, batch_size=64, seed=11)


class Killed(BaseException):
    """As if the process had died."""


def rows(seed: int) -> EncodedRows:
    random = np.random.default_rng(seed)
    dense = random.normal(size=(600, 4)).astype(np.float32)
    codes = random.integers(0, 5, size=(600, 2))
    return EncodedRows(dense, codes, (dense[:, 0] * dense[:, 1] + codes[:, 0] > 2).astype(np.float32))


def fit(folder, *, kill_after: int = 0, settings=SETTINGS, fingerprint="data"):
    def on_epoch(point):
        if point.epoch == kill_after:
            raise Killed

    trainer = Trainer(settings, binary=True, checkpoints=Checkpoints(folder, fingerprint), threads=1)
    return trainer.fit(rows(1), rows(2), [5, 5], on_epoch)


def same(first, second) -> bool:
    return first.curve == second.curve and all(
        np.array_equal(value, second.weights[name]) for name, value in first.weights.items()
    )


def test_the_same_seed_gives_the_same_weights(tmp_path):
    assert same(fit(tmp_path / "a"), fit(tmp_path / "b"))


@pytest.mark.parametrize("killed_after", [1, 3])
def test_a_resumed_run_equals_one_that_was_never_interrupted(tmp_path, killed_after):
    with pytest.raises(Killed):
        fit(tmp_path / "a", kill_after=killed_after)
    assert same(fit(tmp_path / "a"), fit(tmp_path / "b"))


def test_a_torn_checkpoint_is_skipped_for_the_one_before(tmp_path):
    with pytest.raises(Killed):
        fit(tmp_path / "a", kill_after=3)
    newest = max((tmp_path / "a").glob("*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:100])
    assert Checkpoints(tmp_path / "a", "data").newest().epoch == 2
    assert same(fit(tmp_path / "a"), fit(tmp_path / "b"))


def test_a_checkpoint_of_other_data_is_not_taken(tmp_path):
    fit(tmp_path, fingerprint="other")
    assert Checkpoints(tmp_path, "data").newest() is None


def test_only_the_last_two_checkpoints_are_kept(tmp_path):
    fit(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_learning_stops_when_validation_no_longer_improves(tmp_path):
    eager = NetSettings("mlp", (32,), epochs=60, learning_rate=0.05, batch_size=32, seed=1)
    fitted = fit(tmp_path, settings=eager)
    assert len(fitted.curve) < 60
    assert fitted.best_epoch == min(fitted.curve, key=lambda p: p.validation_loss).epoch


def test_a_linear_net_is_fitted_to_the_end_though_validation_has_another_base_rate(tmp_path):
    random = np.random.default_rng(3)
    slopes = np.array([1.0, -0.5, 0.25, 0.0])

    def drawn(rows: int, level: float) -> EncodedRows:
        dense = random.normal(size=(rows, 4)).astype(np.float32)
        codes = random.integers(0, 5, size=(rows, 2))
        chance = 1 / (1 + np.exp(-(dense @ slopes + 0.4 * codes[:, 0] + level)))
        return EncodedRows(dense, codes, (random.random(rows) < chance).astype(np.float32))

    past, recent, asked = drawn(4_000, 0.0), drawn(500, -3.0), drawn(2_000, -3.0)
    settings = NetSettings("linear", (), epochs=12, learning_rate=0.002, batch_size=1024, seed=1)
    trainer = Trainer(settings, binary=True, checkpoints=Checkpoints(tmp_path, "data"), threads=1)
    fitted = trainer.fit(past, recent, [5, 5], lambda point: None)
    assert fitted.best_epoch == len(fitted.curve) == 12
    assert fitted.curve[-1].validation_loss > min(point.validation_loss for point in fitted.curve)
    answers = 1 / (1 + np.exp(-scores(settings, fitted.weights, asked)))
    assert np.abs(answers - linear(past, asked, [5, 5], binary=True)).max() < 0.02
